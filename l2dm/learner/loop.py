"""The training loop: a generator of one small record a step. It can be stopped after any step and taken up exactly."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from ..backbone import Backbone
from ..concept import Concept
from ..methods import METHODS
from ..retention import Distillation, ElasticWeights, Past, past_rows
from ..settings import LearnSettings
from ..tuners import Tuner
from .checkpoint import pack_optimizer, unpack_optimizer
from .objective import Rows, objective
from .texts import Texts


@dataclass(frozen=True)
class Step:
    """One optimizer step: its number (from 1), the loss, each term's value, and the pace."""

    step: int
    steps: int
    loss: float
    terms: dict[str, float]
    pictures_per_second: float
    seconds_left: float


class Learning:
    """Tunes ``tuner``'s parameters and the new token's ``vector`` on the photos of ``concept`` and on what ``past`` holds.

    Everything random in step s is drawn from (seed, s): nothing else has to be kept to go on from a checkpoint.
    """

    def __init__(self, backbone: Backbone, tuner: Tuner, vector: torch.nn.Parameter, concept: Concept, past: Past,
                 settings: LearnSettings):  # fmt: skip
        self.backbone, self.tuner, self.concept, self.past, self.settings = backbone, tuner, concept, past, settings
        self.method = METHODS[settings.method]
        self.distillation = None
        if self.method.distil and past.memory:
            elastic = ElasticWeights(list(past.memory))
            self.distillation = Distillation(backbone, tuner, tuner.values(), elastic, settings.distil_weight)
        self.named = {**tuner.parameters, "token": vector}
        self.optimizer = torch.optim.AdamW(
            [
                {"params": list(tuner.parameters.values()), "lr": settings.learning_rate, "weight_decay": 0.0},
                {"params": [vector], "lr": settings.token_learning_rate, "weight_decay": 0.0},
            ]
        )
        self.texts = Texts(backbone, concept.token)
        self.done = 0
        self._latents = self._encode_photos()
        self._prompts = [concept.prompts(photo, settings.captions_only) for photo in concept.photos]

    def _encode_photos(self) -> torch.Tensor:
        """(photos, 1 or 2, C, h, w): latents of each photo, and of its mirror image where ``flip`` is on."""
        side = self.backbone.side
        pixels = np.stack([np.asarray(photo.square(side)) for photo in self.concept.photos])
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        views = [x, x.flip(-1)] if self.settings.flip else [x]
        return torch.stack([torch.cat([self.backbone.encode_pictures(row[None]) for row in view]) for view in views], 1)

    def rows(self, generator: torch.Generator) -> list[Rows]:
        """The rows of one step: photos of the new concept, prior pairs, and (last) the memory's pictures."""
        s = self.settings

        def draw(high: int, size: int) -> torch.Tensor:
            return torch.randint(high, (size,), generator=generator)

        photo, view = draw(len(self._latents), s.batch), draw(self._latents.shape[1], s.batch)
        prompts = [self._prompts[p][int(draw(len(self._prompts[p]), 1))] for p in photo.tolist()]
        parts = [Rows("concept", 1.0, self._latents[photo, view], prompts)]
        if self.past.priors:
            prompts, _, latents = past_rows(self.past.priors, s.batch, draw)
            parts.append(Rows("prior", s.prior_weight, latents, prompts))
        if self.past.memory:
            tasks, entries, latents = past_rows(self.past.memory, s.batch, draw)
            prompts = [self.past.prompts[task][entry] for task, entry in zip(tasks, entries)]
            parts.append(Rows("replay", s.replay_weight * self.method.rehearse, latents, prompts, tuple(tasks)))
        return parts

    def run(self) -> Iterator[Step]:
        """Yield after every optimizer step. Between two steps the state is whole: ``state()`` may be taken."""
        began, first, settings = time.monotonic(), self.done, self.settings
        precision = self._precision()
        if precision == "bfloat16":  # only together are the two faster
            self.backbone.unet.to(memory_format=torch.channels_last)
        for p in self.named.values():
            p.requires_grad_(True)
        try:
            while self.done < settings.steps:
                generator = torch.Generator().manual_seed((settings.seed * 1_000_003 + self.done) % 2**63)
                parts = self.rows(generator)
                with torch.autocast(self.backbone.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    loss, terms = objective(self.backbone, parts, generator, self.distillation, self.texts)
                loss.backward()
                self.optimizer.step()
                self.optimizer.zero_grad(set_to_none=True)
                self.done += 1
                pace = (self.done - first) / (time.monotonic() - began)
                pictures = sum(len(part.latents) for part in parts)
                yield Step(self.done, settings.steps, float(loss.detach()), terms, pace * pictures, (settings.steps - self.done) / pace)
        finally:
            self.backbone.unet.to(memory_format=torch.contiguous_format)
            for p in self.named.values():
                p.requires_grad_(False)
                p.grad = None

    def _precision(self) -> str:
        """bfloat16 is faster where the hardware multiplies it: recent GPUs, and CPUs with AMX."""
        if self.settings.precision != "auto":
            return self.settings.precision
        kind = self.backbone.device.type
        fast = torch.cuda.is_bf16_supported() if kind == "cuda" else kind == "cpu" and torch.cpu._is_amx_tile_supported()
        return "bfloat16" if fast else "float32"

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and optimizer after ``done`` steps; ``load_state`` of it goes on as if nothing had happened."""
        weights = {f"weight/{name}": p.detach().cpu().clone() for name, p in self.named.items()}
        if self.distillation:
            weights["elastic"] = self.distillation.elastic.drift.clone()
        return weights | pack_optimizer(self.named, self.optimizer)

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor], done: int) -> None:
        for name, p in self.named.items():
            p.copy_(tensors[f"weight/{name}"])
        if self.distillation:
            self.distillation.elastic.drift = tensors["elastic"].clone()
        unpack_optimizer(self.named, self.optimizer, tensors)
        self.done = done
