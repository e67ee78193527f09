"""Elastic concept distillation (L2DM, arXiv 2309.04430, Fig. 2).

    L_ECD = sum over tasks l < k of  w_l * E || eps^{k-1}(z_t | c) - eps^k(z_t | c) ||^2
    [given]

on the short-term memory's pictures; the teacher eps^{k-1} is the same network with the tuned weights as they
were before the task. [reconstructed] "Elastic": w_l is a running mean of task l's own distillation error,
normalised to mean 1 over the tasks, so that concepts at risk are held and the others leave room for the new
one. An optional second term is in ``attention_distillation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from ..backbone import Conditioning
from .attention_distillation import attention_errors, attention_outputs
from .retention import Retention, Task


class ElasticWeights:
    """w_l of every earlier concept. ``drift`` (tasks,) holds the running mean of each task's own errors,
    ``seen`` (tasks,) how many there were: a plain mean of the first 1/pace, an exponential one from then on.
    ``pace`` 0: all weights are 1 (uniform).
    """

    def __init__(self, tokens: list[str], pace: float = 0.05):
        self.tokens, self.pace = list(tokens), pace
        self.drift, self.seen = torch.zeros(len(tokens)), torch.zeros(len(tokens))
        self._waiting: list[tuple[str, float]] | None = None

    def weights(self) -> torch.Tensor:
        """(tasks,) positive, mean 1: the running means by their mean over the tasks. A task never met has the
        others' mean, and none has less than a twentieth of it."""
        met = self.seen > 0
        mean = self.drift[met].mean() if met.any() else self.drift.new_zeros(())
        if not mean > 0:
            return torch.ones_like(self.drift)
        weights = torch.where(met, self.drift / mean, 1.0).clamp(min=0.05)
        return weights / weights.mean()

    def rows(self, tasks: list[str]) -> torch.Tensor:
        """The weight of each row's task, shape ``(rows,)``."""
        return self.weights()[[self.tokens.index(task) for task in tasks]]

    def update(self, tasks: list[str], errors: torch.Tensor) -> None:
        """Move the drift of each row's task towards the row's distillation error (rows,), as it is: relative
        to the few rows of a step every task would look alike."""
        if not self.pace:
            return
        met = list(zip(tasks, errors.detach().float().tolist()))
        if self._waiting is not None:
            self._waiting += met
            return
        for task, value in met:
            i = self.tokens.index(task)
            self.seen[i] += 1
            self.drift[i] += max(self.pace, 1 / float(self.seen[i])) * (value - self.drift[i])

    @contextmanager
    def held(self, all_of: Callable[[list[Any]], list[Any]] = list) -> Iterator[None]:
        """Within the block the weights stay: what ``update`` is told counts from its end on, as if told at
        once. ``all_of``: what several processes were told, of which each has but its own."""
        self._waiting = []
        try:
            yield
            met = all_of(self._waiting)
        finally:
            self._waiting = None
        if met:
            tasks, errors = zip(*met)
            self.update(list(tasks), torch.tensor(errors))


def distillation_errors(
    teacher: torch.Tensor, student: torch.Tensor, where: torch.Tensor | None = None
) -> torch.Tensor:
    """(rows,) mean squared difference of the two predictions (rows, C, h, w), ``where`` (rows, 1, h, w) is 1
    if given; no gradient reaches the teacher."""
    errors = (teacher.detach() - student).float().square()
    if where is not None:
        errors = errors * where.to(errors) / where.to(errors).mean((1, 2, 3), keepdim=True)
    return errors.mean((1, 2, 3))


#: A prediction (rows, C, h, w), and the outputs of the cross-attention layers behind it; none where they have
#: no weight.
Answer = tuple[torch.Tensor, list[torch.Tensor]]


class Distillation(Retention):
    """The rows with tasks, held to what the tuned weights' earlier values, the teacher, say of them."""

    def __init__(self, task: Task):
        super().__init__(task)
        settings, method = task.settings, task.method
        self.backbone, self.tuner, self.previous = task.backbone, task.tuner, task.tuner.values()
        self.weight, self.attention_weight = settings.distil_weight, settings.attention_weight
        pace = 0.05 if method.distil == "memory" and method.elastic else 0.0
        self.elastic = ElasticWeights(list(task.past.prompts), pace)

    @classmethod
    def asked(cls, task: Task) -> bool:
        return task.method.distil != "nothing" and bool(task.past.prompts)

    def working(self, all_of: Callable[[list[Any]], list[Any]]) -> AbstractContextManager[None]:
        return self.elastic.held(all_of)

    def state(self) -> dict[str, torch.Tensor]:
        return {"elastic": torch.stack([self.elastic.drift, self.elastic.seen])}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        self.elastic.drift, self.elastic.seen = tensors["elastic"].clone()

    @torch.no_grad()
    def teacher(self, noisy: torch.Tensor, timesteps: torch.Tensor, context: Conditioning) -> Answer:
        """eps^{k-1} of some rows: one forward of the same network with the earlier weights in place."""
        with self.tuner.holding(self.previous), self.attention() as outputs:
            return self.backbone.predict(noisy, timesteps, context), outputs

    def attention(self) -> AbstractContextManager[list[torch.Tensor]]:
        """Within the block the list fills with cross-attention outputs, if that term has a weight."""
        return attention_outputs(self.backbone.denoiser, self.attention_weight > 0)

    def loss(
        self, tasks: list[str], teacher: Answer, student: Answer, where: torch.Tensor | None = None
    ) -> torch.Tensor:
        """The term before gamma, on rows of ``tasks``; the elastic weights move on by the errors of the
        predictions.
        """
        errors = distillation_errors(teacher[0], student[0], where)
        weights = self.elastic.rows(tasks).to(errors)
        self.elastic.update(tasks, errors)
        if self.attention_weight:
            errors = errors + self.attention_weight * attention_errors(teacher[1], student[1])
        return (weights * errors).mean()
