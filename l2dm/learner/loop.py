"""The training loop: a generator of one small record a step. It can be stopped after any step and taken up
exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..backbone import Backbone, keep_freed_memory
from ..concept import Concept
from ..errors import LearningDiverged, SettingsError
from ..processes import Processes
from ..retention import Distillation, DrawNumbers, Past, Penalty, Retention, Rows, Task
from ..settings import LearnSettings
from ..tuners import Tuner
from .engine import Engine
from .objective import objective
from .optimizer_state import match_layout, pack_optimizer, unpack_optimizer
from .photos import buckets
from .retentions import retentions_of
from .texts import Texts

R = TypeVar("R", bound=Retention)


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
        task = Task(backbone, tuner, concept, past, settings)
        self.retentions = retentions_of(task)
        (tuner.resume if more else tuner.begin)(concept, settings)
        for retention in self.retentions:
            retention.begin()
        self.named = {**tuner.parameters, "token": vector}
        self.rates = settings.learning_rate * task.method.rate, settings.token_learning_rate
        tuned = list(tuner.parameters.values()), [vector]
        groups = [{"params": params, "lr": rate} for params, rate in zip(tuned, self.rates)]
        self.engine = Engine(backbone, settings, groups)
        self.optimizer = self.engine.optimizer
        self.optimizer.register_step_pre_hook(self._before_step)
        self.optimizer.register_step_post_hook(self._after_step)
        self.texts = Texts(backbone, concept.token if settings.token_learning_rate else None)
        self.done = 0
        self._buckets = buckets(backbone, concept.photos, settings)
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

    def retention(self, kind: type[R]) -> R | None:
        """The one of ``retentions`` of a kind."""
        return next((one for one in self.retentions if isinstance(one, kind)), None)

    @property
    def distillation(self) -> Distillation | None:
        return self.retention(Distillation)

    @property
    def penalty(self) -> Penalty | None:
        return self.retention(Penalty)

    def rows(self, generator: torch.Generator) -> list[Rows]:
        """The rows of one step: photos of the new concept, and what keeps the past; of each as many as
        settings say, times the shares that they are worked out in. Those that are distilled come last."""
        draw = drawing(generator)
        photos = self.photo_rows(self.settings.batch * self.settings.accumulate, draw)
        return [photos, *(rows for retention in self.retentions for rows in retention.rows(photos, draw))]

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

    def _before_step(self, *_: object) -> None:
        for retention in self.retentions:
            retention.before_step()

    def _after_step(self, *_: object) -> None:
        for retention in self.retentions:
            retention.after_step()

    def _idle(self) -> tuple[str, ...]:
        """The text encoders where no vector is learnt in them, after all that is ever read is kept; where one
        is, they have to work in every step.
        """
        if self.texts.token is not None:
            return ()
        prompts = {sentence for sentences in self._prompts for sentence in sentences}
        prompts |= {sentence for retention in self.retentions for sentence in retention.prompts()}
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
        with ExitStack() as working:
            for retention in self.retentions:
                working.enter_context(retention.working(self.processes.all_of))
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
        kept = self.past.kept
        with self._training():
            for retention in self.retentions:
                kept = {**kept, **retention.keep(self._photo_losses())}
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
        for retention in self.retentions:
            weights |= retention.state()
        return weights | self.engine.state() | pack_optimizer(self.named, self.optimizer)

    @torch.no_grad()
    def load_state(self, tensors: dict[str, torch.Tensor], done: int) -> None:
        for name, p in self.named.items():
            p.copy_(tensors[f"weight/{name}"])
        for retention in self.retentions:
            retention.load_state(tensors)
        self.engine.load_state(tensors)
        unpack_optimizer(self.named, self.optimizer, tensors)
        self.done = done
