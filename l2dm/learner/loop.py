"""The training loop: a generator of one small record a step. It can be stopped after any step and taken up
exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from ..backbone import Backbone, keep_freed_memory
from ..concept import Concept
from ..errors import LearningDiverged, SettingsError
from ..methods import METHODS
from ..processes import Processes
from ..retention import (
    PENALTIES,
    Distillation,
    DrawNumbers,
    ElasticWeights,
    KeptDirections,
    Past,
    old_rows,
    past_rows,
)
from ..settings import LearnSettings
from ..tuners import Tuner
from .engine import Engine
from .mixes import mixes
from .objective import Rows, objective
from .optimizer_state import match_layout, pack_optimizer, unpack_optimizer
from .photos import buckets
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


def drawing(generator: torch.Generator) -> DrawNumbers:
    return lambda high, size: torch.randint(high, (size,), generator=generator)


def falling(kind: str, at: float) -> float:
    """The share of a learning rate that is left when a share ``at`` of the steps, in [0, 1), is done."""
    return {"constant": 1.0, "linear": 1 - at, "cosine": (1 + math.cos(math.pi * at)) / 2}[kind]


class Learning:
    """Tunes ``tuner``'s parameters and the new token's ``vector`` on the photos of ``concept`` and on what
    ``past`` holds.

    Everything random in step s is drawn from (seed, s): nothing else has to be kept to go on from a
    checkpoint. Several ``processes`` work out a part of each step's rows each, and take the same steps.
    ``more``: the tuner has learnt the concept already.
    """

    def __init__(
        self,
        backbone: Backbone,
        tuner: Tuner,
        vector: torch.nn.Parameter,
        concept: Concept,
        past: Past,
        settings: LearnSettings,
        processes: Processes | None = None,
        more: bool = False,
    ):
        self.backbone, self.tuner, self.concept, self.past, self.settings = (
            backbone,
            tuner,
            concept,
            past,
            settings,
        )
        self.processes = processes or Processes()
        self.method = METHODS[settings.method]
        self.distillation = None
        if self.method.distil != "nothing" and past.prompts:
            elastic = self.method.distil == "memory" and self.method.elastic
            elastic = ElasticWeights(list(past.prompts), pace=0.05 if elastic else 0.0)
            weights = settings.distil_weight, settings.attention_weight
            self.distillation = Distillation(backbone, tuner, tuner.values(), elastic, *weights)
        (tuner.resume if more else tuner.begin)(concept, settings)
        self.penalty = None
        if self.method.penalty != "nothing":
            weight = settings.penalty_weight * self.method.penalty_weight
            self.penalty = PENALTIES[self.method.penalty](tuner, past.kept, weight)
        self.directions = None
        if self.method.directions and settings.kept_share:
            self.directions = KeptDirections(backbone, tuner, concept, past.kept, settings.kept_share)
        self.named = {**tuner.parameters, "token": vector}
        self.rates = settings.learning_rate * self.method.rate, settings.token_learning_rate
        tuned = list(tuner.parameters.values()), [vector]
        groups = [{"params": params, "lr": rate} for params, rate in zip(tuned, self.rates)]
        self.engine = Engine(backbone, settings, groups)
        self.optimizer = self.engine.optimizer
        if self.directions:
            self.optimizer.register_step_pre_hook(lambda *_: self.directions.turn())
            self.optimizer.register_step_post_hook(lambda *_: self.directions.hold())
        self.texts = Texts(backbone, concept.token if settings.token_learning_rate else None)
        self.done = 0
        self._buckets = buckets(backbone, concept.photos, settings)
        flip, seed, black = settings.flip, settings.seed, settings.mask_background
        self._mixes = self._meetings = None
        if past.companions:
            self._mixes = mixes(backbone, concept, past.companions, flip, seed, background=black)
        if past.companions and past.memory:
            self._meetings = mixes(
                backbone, concept, past.memory, flip, seed + 1, past.names, background=black
            )
        self._prompts = [concept.prompts(photo, settings.captions_only) for photo in concept.photos]

    def photo_rows(self, size: int, draw: DrawNumbers) -> Rows:
        """``size`` photos of the new concept, all of one bucket, each with one of its prompts."""
        bucket = self._buckets[0]
        if len(self._buckets) > 1:  # every photo is as likely as with one
            lot = int(draw(len(self._prompts), 1))
            bucket = next(bucket for bucket in self._buckets if lot in bucket.photos)
        photo, view = draw(len(bucket.photos), size), draw(bucket.latents.shape[1], size)
        own = [self._prompts[bucket.photos[p]] for p in photo.tolist()]
        prompts = [sentences[int(draw(len(sentences), 1))] for sentences in own]
        masks = None if bucket.masks is None else bucket.masks[photo, view]
        return Rows("concept", 1.0, bucket.latents[photo, view], prompts, loss_mask=masks)

    def rows(self, generator: torch.Generator) -> list[Rows]:
        """The rows of one step: photos of the new concept, prior pairs, and (last) what is rehearsed or
        distilled; of each as many as settings say, times the shares that they are worked out in."""
        s, draw, times = self.settings, drawing(generator), self.settings.accumulate
        batch = s.batch * times
        parts = [self.photo_rows(batch, draw)]
        meetings = s.mixes // 2 * times if self._meetings else 0
        if self._mixes:
            mixed = s.mixes * times - meetings if self.method.rehearse else s.mixes * times
            parts.append(self._mixes.rows("mix", mixed, 1 / batch, draw))
        if self.past.priors:
            classes, entries, latents = past_rows(self.past.priors, batch, draw)
            own = self.past.prior_prompts
            prompts = [own[noun][entry] if noun in own else noun for noun, entry in zip(classes, entries)]
            parts.append(Rows("prior", s.prior_weight, latents, prompts))
        if meetings:
            weight = s.replay_weight * self.method.rehearse / batch
            parts.append(self._meetings.rows("replay", meetings, weight, draw))
        elif self.past.memory and not self._mixes:
            tasks, entries, latents = past_rows(self.past.memory, batch, draw)
            prompts = [self.past.prompts[task][entry] for task, entry in zip(tasks, entries)]
            parts.append(
                Rows("replay", s.replay_weight * self.method.rehearse, latents, prompts, tuple(tasks))
            )
        if self.method.distil == "new":
            prompts, tasks = old_rows(self.past.prompts, batch, draw)
            parts.append(Rows("old outputs", 0.0, parts[0].latents, prompts, tasks))
        return parts

    def run(self) -> Generator[Step, None, None]:
        """Yield after every optimizer step; between two steps the state is whole for ``state()``."""
        keep_freed_memory()
        self._check_rows()
        began, first, settings = time.monotonic(), self.done, self.settings
        with self._training(), self.engine.running(*self._idle()):
            match_layout(self.optimizer)
            while self.done < settings.steps:
                for group, rate in zip(self.optimizer.param_groups, self.rates):
                    group["lr"] = rate * falling(settings.lr_scheduler, self.done / settings.steps)
                if not self.processes.told(True):
                    return
                with self.processes.step():
                    pictures, value, terms = self._gradients()
                    self.processes.average_gradients(list(self.named.values()))
                steepest = self.engine.step(self.named)
                if not self.engine.is_finite(value, steepest):
                    raise LearningDiverged(
                        f"{self.concept.token}: step {self.done + 1} of {settings.steps}: the loss or a "
                        "gradient is no longer finite at "
                        f"learning_rate = {settings.learning_rate:g}, token_learning_rate = "
                        f"{settings.token_learning_rate:g}; "
                        "nothing was kept and the world is as it was (choose smaller rates)"
                    )
                self.done += 1
                pace = (self.done - first) / (time.monotonic() - began)
                left = (settings.steps - self.done) / pace
                try:
                    yield Step(self.done, settings.steps, value, terms, pace * pictures, left)
                except GeneratorExit:  # the others wait for another step
                    if self.processes.is_main and self.done < settings.steps:
                        self.processes.told(False)
                    raise

    def _idle(self) -> tuple[str, ...]:
        """The text encoders where no vector is learnt in them, after all that is ever read is kept; where one
        is, they have to work in every step.
        """
        if self.texts.token is not None:
            return ()
        prompts = {sentence for sentences in self._prompts for sentence in sentences} | set(self.past.priors)
        prompts |= {sentence for sentences in self.past.prompts.values() for sentence in sentences}
        for mixed in (self._mixes, self._meetings):
            prompts |= {*mixed.prompts, *mixed.known} if mixed else set()
        self.texts.keep(sorted(prompts))
        return tuple(dict.fromkeys(reader.encoder for reader in self.backbone.family.readers))

    def _gradients(self) -> tuple[int, float, dict[str, float]]:
        """Put one step's gradients in place, worked out share by share; how many pictures it had, its loss,
        its terms.
        """
        generator, shares = self._generator(self.done), self.settings.accumulate
        parts, losses, terms = self.rows(generator), [], []
        count, first = shares * self.processes.count, shares * self.processes.number
        drawn = generator.get_state()
        with self.distillation.elastic.held(self.processes.all_of) if self.distillation else nullcontext():
            for share in range(first, first + shares):
                with self.engine.autocast():
                    loss, values = objective(
                        self.backbone,
                        parts,
                        generator.set_state(drawn),
                        self.distillation,
                        self.texts,
                        self.penalty,
                        (share, count),
                    )
                self.engine.backward(loss / shares)
                losses.append(float(loss.detach()))
                terms.append(values)
        means = [sum(values[name] for values in terms) / shares for name in terms[0]]
        loss, *means = self.processes.mean([sum(losses) / shares, *means])
        return sum(len(part.latents) for part in parts), loss, dict(zip(terms[0], means))

    def _check_rows(self) -> None:
        """Raises SettingsError where processes would have nothing to work out."""
        shares, count = self.settings.accumulate, self.processes.count
        rows = sum(len(part.latents) for part in self.rows(self._generator(self.done)))
        if rows < shares * count:
            raise SettingsError(
                f"batch = {self.settings.batch}: a step has {rows} rows, too few for {count} processes with "
                f"{shares} shares each; choose a larger "
                "batch, or fewer processes"
            )

    def finish(self) -> dict[str, torch.Tensor]:
        """After the last step, once: what was grown is settled, and what the next concept's learning needs is
        returned.
        """
        with self._training():
            kept = self.penalty.keep(self._photo_losses()) if self.penalty else self.past.kept
        if self.directions:
            kept = {**kept, **self.directions.keep()}
        self.tuner.finish()
        return kept

    def _photo_losses(self) -> Iterator[torch.Tensor]:
        """The loss of one photo of the concept after another, in float32."""
        for sample in range(self.settings.fisher_samples):
            generator = self._generator(self.settings.steps + sample)
            yield objective(
                self.backbone, [self.photo_rows(1, drawing(generator))], generator, read=self.texts
            )[0]

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed((self.settings.seed * 1_000_003 + step) % 2**63)

    def _training(self) -> AbstractContextManager[None]:
        return self.engine.training(self.named)

    def state(self) -> dict[str, torch.Tensor]:
        """Weights and optimizer after ``done`` steps; ``load_state`` of it goes on as if nothing had
        happened.
        """
        weights = {f"weight/{name}": p.detach().cpu().clone() for name, p in self.named.items()}
        if self.distillation:
            elastic = self.distillation.elastic
            weights["elastic"] = torch.stack([elastic.drift, elastic.seen])
        return weights | self.engine.state() | pack_optimizer(self.named, self.optimizer)

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor], done: int) -> None:
        for name, p in self.named.items():
            p.copy_(tensors[f"weight/{name}"])
        if self.distillation:
            elastic = self.distillation.elastic
            elastic.drift, elastic.seen = tensors["elastic"].clone()
        self.engine.load_state(tensors)
        unpack_optimizer(self.named, self.optimizer, tensors)
        self.done = done
