"""One drawing: a prompt is held against what the world knows and drawn; each picture says how it was made."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from .. import __version__
from ..backbone import Backbone
from ..errors import LongWorkWarning, PromptError, PromptWarning, SettingsError, out_of_memory
from ..generation import (
    AttentionRecorder,
    Mention,
    Picture,
    bare_names,
    check_layout,
    check_length,
    draw,
    laid_out,
    long_work,
    mentions,
    overlaps,
    personal_tokens,
    provenance,
    resolve_composition,
    without_escapes,
)
from ..settings import GenerateSettings
from ..threads import Threads

if TYPE_CHECKING:
    from .world import World


def generate(
    world: World,
    asked: str,
    settings: GenerateSettings,
    on_picture: Callable[[int], None],
    show_attention: tuple[int, ...],
) -> list[Picture]:
    """Draw the prompt that is ``asked`` for; see ``World.generate``."""
    for text in (asked, settings.negative_prompt):
        personal_tokens(text, world.concepts)
    prompt = without_escapes(asked)
    settings = dataclasses.replace(settings, negative_prompt=without_escapes(settings.negative_prompt))
    said = [token for token in world.concepts if token in prompt or token in settings.negative_prompt]
    backbone = world.backbone(settings.precision, settings.device, settings.offload, said)
    for text in (prompt, settings.negative_prompt):
        personal_tokens(text, world.concepts)  # once more: another process may have taken one back meanwhile
        check_length(text, backbone)
    named = []
    if settings.composition != "none" or settings.subjects or settings.layout or show_attention:
        named = _mentions(world, prompt, settings, backbone)
    recorder = _recorder(show_attention, asked, named, settings.steps) if show_attention else None
    composition = resolve_composition(settings.composition, named)
    notes = [*bare_names(prompt, world.concepts), *overlaps(named)]
    if settings.layout:
        check_layout(composition, named, settings)
    if composition.name == "none" != settings.composition != world.settings("generate").composition:
        notes.append(f"composition: {composition}")
    for note in notes:
        warnings.warn(note, PromptWarning, stacklevel=3)
    threads = Threads(settings.threads)
    work = f"{world.path}: drawing with batch = {settings.batch}"
    with threads.during(), out_of_memory(work, "choose a smaller batch, height or width"):
        if line := long_work(backbone, settings):
            warnings.warn(line, LongWorkWarning, stacklevel=3)
        images = draw(backbone, prompt, settings, on_picture, named, recorder)
    told = {
        "prompt": asked,
        **_circumstances(world, backbone, settings, threads),
        **provenance(backbone, prompt, named, composition, settings),
        "notes": "; ".join(notes),
    }
    seen = recorder.pictures if recorder else [()] * len(images)
    return [
        Picture(image, asked, settings.seed + i, {**told, "seed": str(settings.seed + i)}, seen[i])
        for i, image in enumerate(images)
    ]


def _mentions(world: World, prompt: str, settings: GenerateSettings, backbone: Backbone) -> list[Mention]:
    """What the prompt names: concepts, the base's nouns, subjects asked for; placed by a layout."""
    plain = tuple(backbone.defaults.get("nouns", ()))
    subjects = tuple(noun.strip() for noun in settings.subjects.split(",") if noun.strip())
    named = mentions(prompt, world.concepts, backbone, plain, subjects)
    return laid_out(named, settings.layout, prompt) if settings.layout else named


def _recorder(at: tuple[int, ...], asked: str, named: list[Mention], steps: int) -> AttentionRecorder:
    """Of the attention in the steps ``at``. Raises PromptError where nothing is named, SettingsError for a
    step that there is not.
    """
    if not named:
        raise PromptError(
            f"prompt {asked!r}: nothing to show the attention of; name a concept of this world, such as "
            "<rex> dog"
        )
    if beyond := [step for step in at if not 0 <= step < steps]:
        raise SettingsError(f"attention at step {beyond[0]}: expected a step between 0 and {steps - 1}")
    return AttentionRecorder(at)


def _circumstances(
    world: World, backbone: Backbone, settings: GenerateSettings, threads: Threads
) -> dict[str, str]:
    """By what a picture was drawn, as its file says: settings, machine, world, base, program."""
    return {
        "negative_prompt": settings.negative_prompt,
        "steps": str(settings.steps),
        "sampler": settings.sampler,
        "threads": str(threads.count),
        "precision": str(backbone.dtype).removeprefix("torch."),
        "device": backbone.device.type,
        "guidance_scale": str(settings.guidance_scale),
        "world_version": str(world.version),
        "base": world.manifest.base.rsplit("/", 1)[-1],
        "base_fingerprint": world.manifest.fingerprint,
        "software": f"l2dm {__version__}",
    }
