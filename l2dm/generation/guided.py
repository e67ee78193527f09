"""Guided sampling: diffusers' own pipeline, with the latents moved before chosen steps (L2DM, arXiv
2309.04430, Fig. 2 [given]).

    z_t <- z_t - s_t * grad_{z_t} (lambda_u L_CLUL + lambda_d L_DAL + lambda_o L_OAA)

The pipeline calls back between its steps, so that without guidance nothing is different, to the last bit.
The noise of a step is predicted at the moved latents, so the move's own forward cannot serve for it; that
forward is kept short instead (``AttentionMaps.of``): the prompt's half alone, only as deep as the maps, and
only pictures that still move.

The same move in every sampler: its size is told in the latents that the denoiser is given. Where a sampler's
own are c times as large (c^2 = sigma^2 + 1 of Euler and Heun), so is the move, and its gradient with respect
to them is 1 / c of that. Samplers that forget a moved latent are replaced
(``backbone.samplers.deterministic``), and moves are made only where a step begins.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ..backbone import Backbone, Conditioning
from ..backbone.samplers import deterministic
from ..backbone.sites import looks_at_itself
from ..errors import SettingsError
from ..guidance.attend_and_excite import goals, most_neglected_loss, sharpened
from ..guidance.attention import AttentionMaps, map_size, of_words, without_start
from ..guidance.concept_attention_artist import attend_loss, unmix_loss
from ..guidance.orthogonal_attention_artist import orthogonal_loss
from ..guidance.regions import all_said, masks, of_boxes
from ..guidance.self_cross import joint_loss
from ..settings import GenerateSettings
from .batch import Batch
from .by_phrases import by_phrases
from .composition import confines, resolve_composition
from .confined import confined
from .mentions import Mention
from .solver import REGION_SIGNAL, latents_scale, model_input, signal_share, step_starts


class Guide:
    """Moves the latents of a batch of pictures of one prompt. One for each batch: it remembers their
    regions.
    """

    def __init__(
        self,
        backbone: Backbone,
        mentions: list[Mention],
        words: Sequence[int],
        settings: GenerateSettings,
        latent_size: tuple[int, int],
    ):
        self.backbone, self.mentions, self.words, self.settings = backbone, mentions, words, settings
        size = map_size(backbone.denoiser, *latent_size)
        self.maps = AttentionMaps(size, own=settings.composition == "self-cross")
        boxes = [mention.box for mention in mentions]
        #: (pictures or 1, m, h, w), of zeros and ones, once they are known
        self.regions = of_boxes(boxes, *size)[None].to(backbone.device) if any(boxes) else None
        self.choosing = False  # regions, from the maps of the move that is being made
        self.settled: set[int] = set()  # pictures that have enough: they cost nothing more
        self.history: list[list[float]] = []  # of each move the losses of the pictures that were looked at

    @property
    def wants_regions(self) -> bool:
        return self.settings.composition in ("caa", "artists", "l2dm") and len(self.mentions) > 1

    def guided_steps(self, scheduler) -> dict[int, int]:
        """Index into the sampler's timesteps -> step, of the steps that are guided."""
        s, starts = self.settings, step_starts(scheduler)
        return {
            index: step
            for step, index in enumerate(starts)
            if step < s.guidance_until * len(starts) and step % s.guidance_every == 0
        }

    def region_index(self, scheduler) -> int:
        """Where regions are chosen: the first guided index with ``REGION_SIGNAL``; the last guided one where
        none has as much, and the first where the prompt's own words say where every thing is to be.
        """
        guided = list(self.guided_steps(scheduler))
        if all_said([mention.side for mention in self.mentions]):
            return guided[0]
        shares = {index: signal_share(scheduler, scheduler.timesteps[index]) for index in guided}
        return next((index for index, share in shares.items() if share >= REGION_SIGNAL), guided[-1])

    def word_maps(self, probabilities: torch.Tensor) -> torch.Tensor:
        """(B, tokens, h, w) in [0, 1]: cross-attention ``probabilities`` of words alone, smoothed."""
        return without_start(probabilities, self.backbone.start)

    def mention_maps(self, words: torch.Tensor) -> torch.Tensor:
        """(B, m, h, w): where each mention is looked for, of maps of ``words`` (B, tokens, h, w)."""
        return of_words(words, [mention.all for mention in self.mentions])

    def losses(self, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(B,) of pictures ``rows`` with cross-attention ``probabilities`` (B, tokens, h, w)."""
        return LOSSES[self.settings.composition](self, probabilities, rows)

    def move(self, scheduler, index: int, latents: torch.Tensor, context: Conditioning) -> torch.Tensor:
        """``latents`` (B, C, h, w) before the sampler's call ``index``, a step down the losses' gradient;
        pictures that have ``enough`` stay.
        """
        s, guided = self.settings, self.guided_steps(scheduler)
        if index not in guided:
            return latents
        step, steps = guided[index], len(step_starts(scheduler))
        latents = latents.detach().clone()
        size = s.guidance_step * (1 - 0.5 * step / max(1, steps - 1)) ** 0.5
        if s.composition == "attend-and-excite" and (goal := goals(steps).get(step)) is not None:
            self._refine(scheduler, index, latents, context, size, goal)
        for _ in range(s.guidance_repeats):
            unsettled = [row for row in range(len(latents)) if row not in self.settled]
            rows = torch.tensor(unsettled, dtype=torch.long)
            if not len(rows):
                break
            unchosen = self.wants_regions and self.regions is None
            self.choosing = unchosen and index == self.region_index(scheduler)
            losses, moved = self._moved(scheduler, index, latents[rows], rows, context, size)
            moving = losses > s.composition_loss_threshold
            if self.regions is not None or not self.wants_regions:  # else a part of the loss is still to come
                self.settled.update(rows[~moving].tolist())
            latents[rows[moving]] = moved[moving]
        return latents

    def _moved(
        self,
        scheduler,
        index: int,
        latents: torch.Tensor,
        rows: torch.Tensor,
        context: Conditioning,
        size: float,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The losses (on the CPU) of pictures ``rows``, and their ``latents`` ``size`` down the gradient."""
        timestep = scheduler.timesteps[index]
        scale = latents_scale(scheduler, timestep)
        context = Conditioning.of(context)[rows]
        with torch.enable_grad():
            z = model_input(scheduler, latents.detach(), timestep).detach().requires_grad_()
            seen = self.maps.of(self.backbone, z, timestep, context)
            losses = self.losses(seen, rows)
            (gradient,) = torch.autograd.grad(losses.sum(), z)
        self.history.append(losses.tolist())
        return losses.detach().cpu(), latents.detach() - size * scale * gradient

    def _refine(
        self, scheduler, index: int, latents: torch.Tensor, context: Conditioning, size: float, goal: float
    ) -> None:
        """Attend-and-Excite's iterative refinement of ``latents`` in place: as its authors', a picture moves
        while its loss before the last move was above 1 - ``goal``.
        """
        rows = torch.arange(len(latents))
        for move in range(self.settings.guidance_refinements):
            losses, moved = self._moved(scheduler, index, latents[rows], rows, context, size)
            neglects = losses > 1 - goal
            if move == 0:
                rows, moved, neglects = rows[neglects], moved[neglects], neglects[neglects]
            latents[rows] = moved
            rows = rows[neglects]
            if not len(rows):
                break


def _neglect(guide: Guide, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return most_neglected_loss(guide.mention_maps(sharpened(probabilities, guide.words)))


def _self_cross(guide: Guide, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    return joint_loss(guide.mention_maps(sharpened(probabilities, guide.words)), guide.maps.own)


def _artists(concept: bool, orthogonal: bool) -> Callable[[Guide, torch.Tensor, torch.Tensor], torch.Tensor]:
    def loss(guide: Guide, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        words, total = guide.word_maps(probabilities), probabilities.new_zeros(len(probabilities))
        if concept:
            total = total + _concept_artist(guide, guide.mention_maps(words), rows)
        if orthogonal and len(guide.mentions) > 1:
            personal = of_words(words, [mention.personal or mention.noun for mention in guide.mentions])
            nouns = of_words(words, [mention.noun or mention.personal for mention in guide.mentions])
            total = total + guide.settings.orthogonal_weight * orthogonal_loss(personal, nouns)
        return total

    return loss


def _concept_artist(guide: Guide, maps: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Of mentions' ``maps``; before regions are chosen the attend loss alone."""
    attending = guide.settings.attend_weight * attend_loss(maps)
    if guide.choosing:
        guide.regions = masks(maps.detach(), [mention.side for mention in guide.mentions])
    if guide.regions is None:
        return attending
    own = guide.regions if len(guide.regions) == 1 else guide.regions[rows]
    return guide.settings.unmix_weight * unmix_loss(maps, own) + attending


#: Composition that moves latents -> its loss (B,) of (guide, probabilities (B, tokens, h, w), pictures (B,)),
#: which the moves descend.
LOSSES: dict[str, Callable[[Guide, torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "attend-and-excite": _neglect,
    "self-cross": _self_cross,
    "caa": _artists(True, False),
    "oaa": _artists(False, True),
    "artists": _artists(True, True),
    "l2dm": _artists(True, True),
}

#: Compositions whose moves look at the attention of the base itself, adapters that act by whole pictures
#: being off, which takes less time: where a thing belongs is for its words to say, and how it looks there for
#: its adapters.
OURS = ("caa", "oaa", "artists", "l2dm")


@contextmanager
def guided(pipe, batch: Batch) -> Iterator[dict[str, Any]]:
    """What the pipeline is to be called with for ``batch`` under its ``settings.composition``; empty when
    that is "none" or nothing is named.
    """
    backbone, prompt, mentions, settings = batch.backbone, batch.prompt, batch.mentions, batch.settings
    generators, size = batch.generators, batch.size
    kind, pipe.regions = resolve_composition(settings.composition, mentions).name, None
    if kind == "none" or not mentions:
        yield {}
        return
    context = backbone.read([prompt] * len(generators))
    if kind == "structure":
        with by_phrases(backbone, prompt, mentions, context.features):
            yield {}
        return
    if kind == "self-cross" and not looks_at_itself(backbone.denoiser):
        raise SettingsError(
            f"composition = self-cross: in {backbone.family.name} the picture attends to itself without a "
            "softmax, so that there are no maps of it; choose another composition"
        )
    latent_size = size["height"] // backbone.factor, size["width"] // backbone.factor
    if kind == "confined":
        with confined(pipe, backbone, mentions, latent_size, {}) as changes:
            yield changes
        return
    if kind in OURS and context.named is not None:
        context = replace(context, named=torch.zeros_like(context.named))
    words, settings = backbone.places(prompt, (0, len(prompt))), replace(settings, composition=kind)
    guide = Guide(backbone, mentions, words, settings, latent_size)
    pipe.scheduler, _ = deterministic(pipe.scheduler)
    family, scheduler = backbone.family, pipe.scheduler
    family.set_timesteps(backbone, scheduler, settings.steps, *latent_size)
    latents = family.noise(backbone, generators, *latent_size)
    scale = getattr(scheduler, "init_noise_sigma", 1.0)  # flow matching has none
    latents = guide.move(scheduler, 0, latents * scale, context) / scale
    pipe.regions = guide.regions

    def move(pipe, index: int, timestep, tensors: dict) -> dict:
        if index + 1 < len(pipe.scheduler.timesteps):
            latents = family.unpacked(tensors["latents"], *latent_size)
            tensors["latents"] = family.packed(guide.move(pipe.scheduler, index + 1, latents, context))
            pipe.regions = guide.regions
        return tensors

    changes = {"latents": family.begun(latents), "callback_on_step_end": move}
    if not confines(kind, mentions, settings):
        yield changes
        return
    finds = guide.wants_regions and guide.guided_steps(scheduler)
    found = (lambda: guide.regions) if finds else None
    with confined(pipe, backbone, mentions, latent_size, changes, found) as changes:
        yield changes
