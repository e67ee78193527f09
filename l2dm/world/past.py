"""What a learning may use of the world's past, gathered from its files: prior pairs, the rainbow memory, what
a penalty kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from ..backbone import Backbone
from ..concept import Concept
from ..concept.class_pictures import ClassPictures
from ..concept.words import COMPANIONS, article, class_prompt, file_stem
from ..errors import SettingsError
from ..learner import photo_latents
from ..memory import Draw, LongTerm, ShortTerm, rebuild
from ..methods import METHODS
from ..retention import Past, draw_prior, old_prompts
from ..settings import LearnSettings
from ..tuners import Tuner
from . import names, store
from .filling import Filling
from .recorded import Recorded, made_once
from .schema import DRAWN_IN, PROMPTS
from .tensors import as_bytes, write_tensors

#: stage, done, total
Tell = Callable[[str, int, int], None]


def gather(
    world: Path, head: Recorded | None, long: LongTerm, concepts: dict[str, str], concept: Concept, backbone: Backbone, tuner: Tuner,
    settings: LearnSettings, guidance_scale: float, tell: Tell, earlier: dict[str, Concept],
    own: ClassPictures | None = None,
) -> tuple[Past, ShortTerm]:  # fmt: skip
    """The past for learning ``concept`` with ``settings.method``; ``head``: the present version's files, if
    any; ``long`` holds an entry for each of ``concepts``, the earlier ones, where there is a CLIP pair.
    ``earlier``: the earlier concepts with their photos, for methods that learn from them; ``own``: pictures
    of the noun that are not to be drawn; nothing of either is kept."""
    method, past = METHODS[settings.method], Past()
    long = long.of(concepts)
    if head is not None and names.KEPT in head:
        past.kept = head.tensors(names.KEPT)
    nouns = {"nothing": [], "new": [concept.noun], "all": [*concepts.values(), concept.noun]}[method.prior]
    if own is not None:
        past.priors[class_prompt(concept.noun)] = _encoded(backbone, own, tell)
        past.prior_prompts[class_prompt(concept.noun)] = list(own.prompts)
        nouns = [noun for noun in nouns if noun != concept.noun]
    for noun in dict.fromkeys(nouns if settings.prior_weight else []):
        past.priors[class_prompt(noun)] = prior_latents(
            world, noun, backbone, tuner, settings, guidance_scale, tell
        )
    if method.mix and settings.mixes:
        drawn = concepts if method.memory == "nothing" else {}
        past.companions = companions(world, drawn, concept, backbone, tuner, settings, guidance_scale, tell)
    short = ShortTerm()
    if method.distil == "new":
        past.prompts = old_prompts(concepts, concept.noun)
    if method.memory == "photos":
        if missing := set(concepts) - set(earlier):
            raise SettingsError(
                f"method {settings.method!r} learns from the photos of every earlier concept too, and "
                f"{world} keeps none: hand over those of "
                f"{', '.join(sorted(missing))} with World.learn(earlier=...), or choose another method"
            )
        past.memory, past.prompts = photos_as_memory(
            backbone, {token: earlier[token] for token in concepts}, settings
        )
    elif method.memory != "nothing" and head is not None and long.prompts:
        short = _renewed(
            world,
            long,
            read_short_term(head).of(concepts),
            len(concepts),
            backbone,
            settings,
            guidance_scale,
            tell,
        )
        past.memory, past.prompts = short.latents, long.prompts
    past.names = {token: f"{token} {noun}" for token, noun in concepts.items()}
    return past, short


def _encoded(backbone: Backbone, own: ClassPictures, tell: Tell) -> torch.Tensor:
    """(n, C, h, w): latents of one's own pictures of a class, on the CPU."""
    found = []
    for picture in own.squares(backbone.side):
        x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
        found.append(backbone.encode_pictures(x).cpu())
        tell("prior", len(found), len(own.files))
    return torch.cat(found)


def companions(
    world: Path, concepts: dict[str, str], concept: Concept, backbone: Backbone, tuner: Tuner, settings: LearnSettings,
    guidance_scale: float, tell: Tell, pictures: int = 4,
) -> dict[str, torch.Tensor]:  # fmt: skip
    """Words -> latents of ``pictures`` each: common nouns by the pretrained model, kept in the world, and as
    many earlier concepts, chosen by the seed, by the present one."""
    few, found = dataclasses.replace(settings, prior_pictures=pictures), {}
    for noun in COMPANIONS:
        if noun != concept.noun:
            found[article(noun)] = prior_latents(world, noun, backbone, tuner, few, guidance_scale, tell)
    order = torch.randperm(len(concepts), generator=torch.Generator().manual_seed(settings.seed))[
        : len(COMPANIONS)
    ]
    for i in order.tolist():
        words = " ".join(list(concepts.items())[i])
        found[words] = backbone.draw_latents(
            [f"a photo of {words}"] * pictures, settings.prior_steps, guidance_scale, settings.seed + 100 * i
        )
    return found


def photos_as_memory(
    backbone: Backbone, concepts: dict[str, Concept], settings: LearnSettings
) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
    """Latents and prompts by token as a memory has them, one entry for each photo, view and prompt."""
    latents, prompts = {}, {}
    for token, concept in concepts.items():
        views = photo_latents(backbone, concept.photos, settings.flip)
        entries = [
            (z, prompt)
            for photo, zs in zip(concept.photos, views)
            for z in zs
            for prompt in concept.prompts(photo, settings.captions_only)
        ]
        latents[token], prompts[token] = (
            torch.stack([z for z, _ in entries]),
            [prompt for _, prompt in entries],
        )
    return latents, prompts


def prior_latents(
    world: Path,
    noun: str,
    backbone: Backbone,
    tuner: Tuner,
    settings: LearnSettings,
    guidance_scale: float,
    tell: Tell,
) -> torch.Tensor:
    """Prior latents of a noun: drawn once, kept in the world, shared by all concepts of the noun."""
    folder = world / "prior" / f"{file_stem(noun)}-{settings.prior_pictures}x{settings.prior_steps}"

    def make(place: Path) -> None:
        latents = draw_prior(
            backbone, tuner, class_prompt(noun), settings.prior_pictures, settings.prior_steps, guidance_scale,
            on_batch=lambda done: tell("prior", done, settings.prior_pictures),
        )  # fmt: skip
        write_tensors(place / "latents.safetensors", {"latents": latents})

    def read(files: Recorded) -> torch.Tensor:
        return files.tensors("latents.safetensors")["latents"]

    return made_once(world, folder, make, read)


def drawing(backbone: Backbone, settings: LearnSettings, guidance_scale: float) -> Draw:
    """How the present model draws for its memory: (prompts, seed) -> latents and their CLIP features."""

    def draw(prompts: list[str], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        latents = backbone.draw_latents(prompts, settings.prior_steps, guidance_scale, seed)
        return latents, torch.cat([backbone.seen(backbone.decode_latents(part)) for part in latents.split(8)])

    return draw


def _renewed(
    world: Path,
    long: LongTerm,
    short: ShortTerm,
    turn: int,
    backbone: Backbone,
    settings: LearnSettings,
    guidance_scale: float,
    tell: Tell,
) -> ShortTerm:
    """The short-term memory redrawn by the present model; what was drawn is kept beside the checkpoints, so
    that a stopped learning finds it.
    """

    facts = json.dumps([turn, list(long.prompts), settings.as_dict()], sort_keys=True)
    identity = hashlib.sha256(facts.encode()).hexdigest()[:16]
    folder = world / "learning" / f"memory-{identity}"

    def make(place: Path) -> None:
        selection = METHODS[settings.method].memory
        fresh = rebuild(
            long, short, drawing(backbone, settings, guidance_scale), turn, settings.memory_candidates, settings.memory_budget, settings.rainbow_similarity_weight, selection, settings.seed,
            on_task=lambda done, total: tell("memory", done, total),
        )  # fmt: skip
        redrawn = {
            token: drawn
            for token, drawn in fresh.drawn_in.items()
            if fresh.latents[token] is not short.latents.get(token)
        }
        write_short_term(Filling(place, None), dataclasses.replace(fresh, drawn_in=redrawn))

    redrawn = made_once(world, folder, make, read_short_term)
    return ShortTerm(
        short.latents | redrawn.latents, short.features | redrawn.features, short.drawn_in | redrawn.drawn_in
    )


def remember(long: LongTerm, concept: Concept, backbone: Backbone) -> None:
    """Add to long-term memory the CLIP feature and prompt of each photo of ``concept``; nothing without a
    CLIP pair.
    """
    if backbone.clip is not None:
        long.features[concept.token] = backbone.seen([photo.image for photo in concept.photos])
        long.prompts[concept.token] = [concept.prompts(photo)[0] for photo in concept.photos]


def read_long_term(files: Recorded | None) -> LongTerm:
    if files is None or names.PROMPTS not in files:
        return LongTerm()
    prompts = files.json(names.PROMPTS, PROMPTS)
    if names.FEATURES in files:
        return LongTerm(files.tensors(names.FEATURES), prompts)
    own = {token: files.tensors(names.features_file(token))["features"] for token in prompts}
    return LongTerm(own, prompts)


def write_long_term(place: Filling, long: LongTerm) -> None:
    if long.prompts:
        place.put(names.PROMPTS, store.as_json(long.prompts))
    for token, features in long.features.items():
        place.put(names.features_file(token), as_bytes({"features": features}, token))


def read_short_term(files: Recorded) -> ShortTerm:
    if names.DRAWN_IN not in files:
        return ShortTerm()
    drawn_in, short = files.json(names.DRAWN_IN, DRAWN_IN), ShortTerm()
    together = files.tensors(names.DRAWN) if names.DRAWN in files else None
    for token, turn in drawn_in.items():
        if together is not None:
            own = {kind: together[f"{kind}/{token}"] for kind in ("latents", "features")}
        elif names.drawn_file(token) in files:
            own = files.tensors(names.drawn_file(token))
        else:  # put aside by a repair: it is drawn again
            continue
        short.latents[token], short.features[token] = own["latents"], own["features"]
        short.drawn_in[token] = turn
    return short


def write_short_term(place: Filling, short: ShortTerm) -> None:
    if short.drawn_in:
        place.put(names.DRAWN_IN, store.as_json(short.drawn_in))
    for token in short.drawn_in:
        own = {"latents": short.latents[token], "features": short.features[token]}
        place.put(names.drawn_file(token), as_bytes(own, token))
