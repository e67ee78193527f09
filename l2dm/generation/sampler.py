"""Sampling: diffusers' own pipeline over the world's weights and tokens, plain or guided."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from PIL import Image

from ..backbone import Backbone, keep_freed_memory
from ..errors import SettingsError
from ..settings import GenerateSettings
from .attention_recorder import AttentionRecorder
from .batch import Batch
from .collaged import collaged
from .composition import resolve_composition
from .guided import guided
from .mean_shifted import from_mean_shifted_noise
from .mentions import Mention

#: Compositions that draw each thing alone before.
TOGETHER = {"collage": collaged, "mudi": from_mean_shifted_noise}
#: Times a base's own pixels from which on a picture is said to take long.
_MANY = 4


def size_of(backbone: Backbone, settings: GenerateSettings) -> dict[str, int]:
    """``height`` and ``width`` of the pictures in pixels; SettingsError where the base cannot draw them."""
    size, grain = {}, backbone.grain
    for name in ("height", "width"):
        value = getattr(settings, name)
        if value % grain:
            raise SettingsError(
                f"{name} = {value}: this base draws multiples of {grain} pixels, such as "
                f"{value // grain * grain + grain}"
            )
        size[name] = value or backbone.side
    return size


def long_work(
    backbone: Backbone, settings: GenerateSettings, clock: Callable[[], float] = time.monotonic
) -> str:
    """One line where pictures have more than ``_MANY`` times the pixels that the base draws by itself; ""
    where they have not.

    How long they take at least is told from one step at the base's own size, measured now, the second one, as
    the first also sets things up: a denoiser's work grows with the pixels or faster.
    """
    own, (height, width) = backbone.side, size_of(backbone, settings).values()
    times, steps = height * width / own**2, backbone.family.fewest_steps
    if times <= _MANY:
        return ""
    moments = [clock()]
    for _ in range(2):
        backbone.draw_latents([""], steps, settings.guidance_scale).cpu()  # waits for what a GPU still does
        moments.append(clock())
    step = (moments[2] - moments[1]) / steps
    return (
        f"{counted(settings.n, 'picture')} of {width} x {height} pixels in "
        f"{counted(settings.steps, 'step')}: at least "
        f"{spoken_time(settings.n * settings.steps * step * times)}, as a step at this base's own {own} x "
        f"{own} took {spoken_time(step)} and "
        f"these have {times:.0f} times its pixels, and as much more memory or still more"
    )


def counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def spoken_time(seconds: float) -> str:
    """``90`` -> "1.5 minutes"."""
    size, unit = (3600, "hours") if seconds >= 7200 else (60, "minutes") if seconds >= 60 else (1, "s")
    return f"{seconds / size:.{int(seconds < 10 * size)}f} {unit}"


@torch.no_grad()
def draw(
    backbone: Backbone,
    prompt: str,
    settings: GenerateSettings,
    on_picture: Callable[[int], None] = lambda done: None,
    mentions: Sequence[Mention] = (),
    recorder: AttentionRecorder | None = None,
) -> list[Image.Image]:
    """``settings.n`` pictures of ``prompt``; picture i depends on seed + i alone, whatever the batch.

    ``mentions`` are what ``settings.composition`` looks after; without it, or with none of them, sampling is
    plain. ``recorder`` collects where they were looked for.
    """
    keep_freed_memory()
    mentions, size = list(mentions), size_of(backbone, settings)
    pipe, images = backbone.pipeline(settings.sampler), []
    for first in range(0, settings.n, settings.batch):
        count = min(settings.batch, settings.n - first)
        generators = [torch.Generator().manual_seed(settings.seed + first + i) for i in range(count)]
        batch = Batch(backbone, prompt, mentions, settings, generators, size, recorder)
        if together := TOGETHER.get(resolve_composition(settings.composition, mentions).name):
            images += together(pipe, batch)
        else:
            with (
                guided(pipe, batch) as moving,
                recorder.during(backbone, mentions, moving, count, size)
                if recorder
                else nullcontext(moving) as changes,
            ):
                images += pipe(
                    prompt=prompt,
                    num_images_per_prompt=count,
                    generator=generators,
                    num_inference_steps=settings.steps,
                    **backbone.family.call(settings.guidance_scale, settings.negative_prompt or None),
                    **size,
                    **changes,
                ).images
        on_picture(len(images))
    return images
