"""What a learning may use of the world's past, gathered from its files: prior pairs, the rainbow memory, what
a penalty kept.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..backbone import Backbone
from ..concept import Concept
from ..concept.class_pictures import ClassPictures
from ..concept.words import CONTEXT_NOUNS, article, class_prompt, file_stem
from ..errors import SettingsError
from ..learner import photo_latents
from ..memory import Draw, LongTerm, ShortTerm, rebuild
from ..methods import METHODS
from ..retention import Past, draw_prior, old_prompts
from ..settings import LearnSettings
from ..tuners import Tuner
from . import names
from .filling import Filling
from .memories import read_short_term, write_short_term
from .recorded import Recorded, made_once
from .tensors import write_tensors

#: stage, done, total
Tell = Callable[[str, int, int], None]
#: of each companion
COMPANION_PICTURES = 4


@dataclass(frozen=True)
class PastBuilder:
    """Gathers the past of the world in the folder ``world`` for a lesson with ``settings``; what is to be
    drawn for it is drawn with ``guidance_scale``.
    """

    world: Path
    backbone: Backbone
    tuner: Tuner
    settings: LearnSettings
    guidance_scale: float
    tell: Tell

    def build(
        self,
        concept: Concept,
        concepts: dict[str, str],
        head: Recorded | None,
        long: LongTerm,
        earlier: dict[str, Concept],
        own: ClassPictures | None = None,
    ) -> tuple[Past, ShortTerm]:
        """The past for learning ``concept`` after ``concepts``; ``head``: the present version's, if any;
        ``long`` holds an entry for each of ``concepts`` where there is a CLIP pair. ``earlier``: those with
        their photos, for methods that learn from them; ``own``: pictures of the noun that are not to be
        drawn; nothing of either is kept.
        """
        method, past = METHODS[self.settings.method], Past()
        long = long.of(concepts)
        if head is not None and names.KEPT in head:
            past.kept = head.tensors(names.KEPT)
        nouns = {"nothing": [], "new": [concept.noun], "all": [*concepts.values(), concept.noun]}[
            method.prior
        ]
        if own is not None:
            past.priors[class_prompt(concept.noun)] = self._encoded(own)
            past.prior_prompts[class_prompt(concept.noun)] = list(own.prompts)
            nouns = [noun for noun in nouns if noun != concept.noun]
        for noun in dict.fromkeys(nouns if self.settings.prior_weight else []):
            past.priors[class_prompt(noun)] = self._prior(noun, self.settings.prior_pictures)
        if method.mix and self.settings.mixes:
            past.companions = self._companions(concept, concepts if method.memory == "nothing" else {})
        short = ShortTerm()
        if method.distil == "new":
            past.prompts = old_prompts(concepts, concept.noun)
        if method.memory == "photos":
            past.memory, past.prompts = self._photos_as_memory(concepts, earlier)
        elif method.memory != "nothing" and head is not None and long.prompts:
            short = self._renewed(long, read_short_term(head).of(concepts), len(concepts))
            past.memory, past.prompts = short.latents, long.prompts
        past.names = {token: f"{token} {noun}" for token, noun in concepts.items()}
        return past, short

    def _encoded(self, own: ClassPictures) -> torch.Tensor:
        """(n, C, h, w): latents of one's own pictures of a class, on the CPU."""
        found = []
        for picture in own.squares(self.backbone.side):
            x = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 127.5 - 1
            found.append(self.backbone.encode_pictures(x).cpu())
            self.tell("prior", len(found), len(own.files))
        return torch.cat(found)

    def _prior(self, noun: str, count: int) -> torch.Tensor:
        """``count`` prior latents of a noun: drawn once, kept in the world, for all concepts of the noun."""
        steps = self.settings.prior_steps
        folder = self.world / "prior" / f"{file_stem(noun)}-{count}x{steps}"

        def make(place: Path) -> None:
            latents = draw_prior(
                self.backbone,
                self.tuner,
                class_prompt(noun),
                count,
                steps,
                self.guidance_scale,
                on_batch=lambda done: self.tell("prior", done, count),
            )
            write_tensors(place / "latents.safetensors", {"latents": latents})

        def read(files: Recorded) -> torch.Tensor:
            return files.tensors("latents.safetensors")["latents"]

        return made_once(self.world, folder, make, read)

    def _companions(self, concept: Concept, concepts: dict[str, str]) -> dict[str, torch.Tensor]:
        """Words -> latents: common nouns by the pretrained model, kept in the world, and as many of the
        earlier ``concepts``, chosen by the seed, by the present one.
        """
        settings, count, found = self.settings, COMPANION_PICTURES, {}
        for noun in CONTEXT_NOUNS:
            if noun != concept.noun:
                found[article(noun)] = self._prior(noun, count)
        order = torch.randperm(len(concepts), generator=torch.Generator().manual_seed(settings.seed))
        for i in order[: len(CONTEXT_NOUNS)].tolist():
            words = " ".join(list(concepts.items())[i])
            prompts, seed = [f"a photo of {words}"] * count, settings.seed + 100 * i
            found[words] = self.backbone.draw_latents(
                prompts, settings.prior_steps, self.guidance_scale, seed
            )
        return found

    def _photos_as_memory(
        self, concepts: dict[str, str], earlier: dict[str, Concept]
    ) -> tuple[dict[str, torch.Tensor], dict[str, list[str]]]:
        """Latents and prompts by token as a memory has them, one entry for each photo, view and prompt.
        Raises SettingsError for concepts that ``earlier`` has no photos of.
        """
        if missing := set(concepts) - set(earlier):
            raise SettingsError(
                f"method {self.settings.method!r} learns from the photos of every earlier concept too, and "
                f"{self.world} keeps none: hand over those of {', '.join(sorted(missing))} with "
                "World.learn(earlier=...), or choose another method"
            )
        latents, prompts = {}, {}
        for token in concepts:
            views = photo_latents(self.backbone, earlier[token].photos, self.settings.flip)
            entries = [
                (z, prompt)
                for photo, zs in zip(earlier[token].photos, views)
                for z in zs
                for prompt in earlier[token].prompts(photo, self.settings.captions_only)
            ]
            latents[token] = torch.stack([z for z, _ in entries])
            prompts[token] = [prompt for _, prompt in entries]
        return latents, prompts

    def _renewed(self, long: LongTerm, short: ShortTerm, turn: int) -> ShortTerm:
        """The short-term memory redrawn by the present model; what was drawn is kept beside the checkpoints,
        so that a stopped learning finds it.
        """
        settings = self.settings
        facts = json.dumps([turn, list(long.prompts), settings.as_dict()], sort_keys=True)
        identity = hashlib.sha256(facts.encode()).hexdigest()[:16]
        folder = self.world / "learning" / f"memory-{identity}"

        def make(place: Path) -> None:
            fresh = rebuild(
                long,
                short,
                drawing(self.backbone, settings, self.guidance_scale),
                turn,
                settings.memory_candidates,
                settings.memory_budget,
                settings.rainbow_similarity_weight,
                METHODS[settings.method].memory,
                settings.seed,
                on_task=lambda done, total: self.tell("memory", done, total),
            )
            redrawn = {
                token: drawn
                for token, drawn in fresh.drawn_in.items()
                if fresh.latents[token] is not short.latents.get(token)
            }
            write_short_term(Filling(place, None), dataclasses.replace(fresh, drawn_in=redrawn))

        redrawn = made_once(self.world, folder, make, read_short_term)
        return ShortTerm(
            short.latents | redrawn.latents,
            short.features | redrawn.features,
            short.drawn_in | redrawn.drawn_in,
        )


def drawing(backbone: Backbone, settings: LearnSettings, guidance_scale: float) -> Draw:
    """How the present model draws for its memory: (prompts, seed) -> latents and their CLIP features."""

    def draw(prompts: list[str], seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        latents = backbone.draw_latents(prompts, settings.prior_steps, guidance_scale, seed)
        return latents, torch.cat([backbone.seen(backbone.decode_latents(part)) for part in latents.split(8)])

    return draw
