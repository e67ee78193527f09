"""The interface of all penalties: terms on the tuned weights alone, without any picture."""

from __future__ import annotations

import torch

from .retention import Retention, Task


class Penalty(Retention):
    """A method names one of them. ``kept``: what ``keep`` gave when the last concept was learnt."""

    def __init__(self, task: Task):
        super().__init__(task)
        self.tuner, self.kept = task.tuner, task.past.kept
        self.weight = task.settings.penalty_weight * task.method.penalty_weight

    @classmethod
    def asked(cls, task: Task) -> bool:
        return True

    def __call__(self) -> torch.Tensor:
        """The penalty now, a scalar; 0 where there is no past."""
        raise NotImplementedError
