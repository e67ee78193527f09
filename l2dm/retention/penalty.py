"""The interface of all penalties: terms on the tuned weights alone, without any picture."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..tuners import Tuner


class Penalty:
    """Made when a concept begins, over the state that the last concept left. ``kept``: what ``keep`` gave
    then, from the version's folder.
    """

    def __init__(self, tuner: Tuner, kept: dict[str, torch.Tensor], weight: float = 1.0):
        self.tuner, self.kept, self.weight = tuner, kept, weight

    def __call__(self) -> torch.Tensor:
        """The penalty now, a scalar; 0 where there is no past."""
        raise NotImplementedError

    def keep(self, losses: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the next concept will need. ``losses``: the loss of one photo at a time, with gradients, as
        many as wanted.
        """
        return self.kept
