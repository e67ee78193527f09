"""diffusers' own pipeline, unchanged, which says while it draws what the denoiser reads.

A pipeline hands its denoiser features alone. Here the words and concepts behind them are told beside, in the
order of the pipeline's batch: every prompt as often as it is drawn, and beside it what it is guided away
from. Pipelines that read that apart, and call their denoiser for each, are known by the features that they
hand it.
"""

from __future__ import annotations

import functools
import inspect
import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from ..errors import ExchangeError, NotFinite, SettingsError
from .conditioning import Conditioning

if TYPE_CHECKING:
    from .backbone import Backbone
    from .families import Family


def after_steps(pipe: DiffusionPipeline, then: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """How ``pipe`` is told to call ``then`` after its steps: as its ``callback_on_step_end``, or, of older
    pipelines, as the ``callback`` that is shown the latents and can change them where they lie alone."""
    if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
        return {"callback_on_step_end": then}

    steps = itertools.count(1)  # pipelines differ in what they count

    def shown(_: int, timestep: Any, latents: torch.Tensor) -> None:
        last = next(steps) * pipe.scheduler.order - 1  # the sampler's call that ended the step
        latents.copy_(then(pipe, last, timestep, {"latents": latents})["latents"])

    return {"callback": shown, "callback_steps": 1}


_UNSAVED = (
    "{}: a pipeline that concepts are gated into cannot be saved as it is; merge them: World.export(..., "
    "format='pipeline'), "
    "or l2dm export WORLD --format pipeline"
)


def _told_of(
    backbone: Backbone, output: tuple, mark: str, texts: list[str], positive: Conditioning | None
) -> Conditioning:
    """What a pipeline's ``encode_prompt`` read of ``texts``, which stand beside ``positive`` where that is
    given.
    """
    told = backbone.conditioned(backbone.family.told(output, mark), texts)
    named = positive.named if positive else told.named
    negative = torch.full((len(told),), positive is not None, device=told.features.device)
    return replace(told, named=named, negative=negative)


def _named(
    backbone: Backbone, prompts: list[str], positive: Conditioning | None, copies: int
) -> torch.Tensor:
    """(B, personal tokens): what ``prompts`` name or, of negative ones, the ``positive`` reading, which has
    so many ``copies`` of each, beside them.
    """
    if positive is None or positive.named is None:
        return backbone.naming(backbone.tokenize(prompts))
    return positive.named[::copies]


def _check_steps(steps: int, family: Family) -> None:
    if steps < family.fewest_steps:
        raise SettingsError(f"steps = {steps}: {family.name} draws in {family.fewest_steps} steps or more")


class _Watched:
    """What all such pipelines keep of a call, and what none of them does."""

    #: how errors name the base
    said = ""
    #: (pictures, things, h, w) of zeros and ones: the part of the picture that each thing of the prompt is
    #: held to, once there are any
    regions: torch.Tensor | None = None
    #: of the denoiser
    last: Any = None
    #: what is made of a reading, and of how many pictures it is, before the denoiser reads it
    on_reading: Callable[[Conditioning, int], Conditioning] = staticmethod(lambda reading, count: reading)

    def keep_last(self, denoiser: torch.nn.Module, args: tuple, output: Any) -> None:
        """The denoiser's last answer: what is not finite at one step is not at any that follows."""
        self.last = output[0]

    def check_last(self) -> None:
        last, self.last = self.last, None
        if last is not None and not all(part.isfinite().all() for part in last):
            raise NotFinite(
                f"{self.said}: what is drawn is no longer finite (NaN or infinity): a concept's weights or "
                "vectors are too large, or the numbers "
                "of this precision too small (precision = float32 holds larger ones)"
            )

    def save_pretrained(self, *args: Any, **kwargs: Any) -> None:
        """Raises ExchangeError: adapters and token vectors stand beside the layers, so that no one could load
        such a folder.
        """
        raise ExchangeError(_UNSAVED.format(self.said))


def telling(kind: type[DiffusionPipeline], backbone: Backbone) -> type[DiffusionPipeline]:
    """The pipeline ``kind``; during a call ``backbone.conditioning`` is that of its batch."""
    asked, family = inspect.signature(kind.encode_prompt), backbone.family

    class Telling(_Watched, kind):
        said = backbone.name

        @functools.wraps(kind.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            _check_steps(kwargs.get("num_inference_steps", family.fewest_steps), family)
            if "max_sequence_length" in inspect.signature(kind.__call__).parameters:
                kwargs["max_sequence_length"] = family.most_tokens
            if then := kwargs.pop("callback_on_step_end", None):
                kwargs |= after_steps(self, then)
            self.readings: list[Conditioning] = []
            self.copies = kwargs.get("num_images_per_prompt", 1)
            look = backbone.denoiser.register_forward_pre_hook(self.look, prepend=True, with_kwargs=True)
            keep = backbone.denoiser.register_forward_hook(self.keep_last)
            try:
                with backbone.reading(None):
                    drawn = super().__call__(*args, **kwargs)
            finally:
                look.remove()
                keep.remove()
            self.check_last()
            return drawn

        def encode_prompt(self, *args: Any, **kwargs: Any) -> tuple:
            bound = asked.bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            if given["prompt"] is None:  # features were given, and nobody knows their words
                return super().encode_prompt(*args, **kwargs)
            prompt, negative = given["prompt"], given.get("negative_prompt") or ""
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            texts = [negative] * len(prompts) if isinstance(negative, str) else list(negative)
            first = self.readings[0] if self.readings else None  # where negative prompts are read apart
            with backbone.naming_while_read(_named(backbone, prompts, first, self.copies)):
                output = super().encode_prompt(*args, **kwargs)  # some write into their lists
            told, beside = _told_of(backbone, output, "", prompts, first), None
            if given.get("do_classifier_free_guidance"):
                beside = _told_of(backbone, output, "-", texts, told)
            rows = [told] if beside is None else [beside, told] if family.negatives_first else [told, beside]
            if "num_images_per_prompt" not in given:  # the pipeline copies what was read
                rows = [part[torch.arange(len(part)).repeat_interleave(self.copies)] for part in rows]
            reading = rows[0] if beside is None else Conditioning.cat(rows)
            self.readings.append(self.on_reading(reading, len(rows[0])))
            backbone.conditioning = self.readings[0]
            return family.untold(output, told, beside)

        def look(self, denoiser: torch.nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            """Which of several readings ``denoiser`` is called for; callers between the steps say so."""
            if len(self.readings) > 1 and any(backbone.conditioning is one for one in self.readings):
                handed = {id(given) for given in (*args, *kwargs.values())}
                backbone.conditioning = next(one for one in self.readings if id(one.features) in handed)

    Telling.__name__ = Telling.__qualname__ = kind.__name__
    return Telling
