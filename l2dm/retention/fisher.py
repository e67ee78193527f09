"""Elastic weight consolidation (EWC; Kirkpatrick et al., arXiv 1612.00796): weights that mattered are held.

    L_EWC = 1/2 * sum_n F_n (th_n - th*_n)^2,     F_n = E (dL / dth_n)^2     over the photos, noise and
    timesteps of a concept

with one gradient for each photo drawn (the empirical diagonal). With several earlier concepts their F are
added up and th* are the weights after the last one (as Huszar proposes, arXiv 1712.03847): one penalty at
every k, in size and cost that of the first.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from .penalty import Penalty

_KEY = "fisher/"


def diagonal(
    parameters: dict[str, torch.nn.Parameter], losses: Iterator[torch.Tensor]
) -> dict[str, torch.Tensor]:
    """F of each parameter: the mean over ``losses`` of the squared gradient."""
    sums, count = {name: torch.zeros_like(p) for name, p in parameters.items()}, 0
    for loss in losses:
        count += 1
        for name, gradient in zip(
            sums, torch.autograd.grad(loss, list(parameters.values()), materialize_grads=True)
        ):
            sums[name] += gradient.square()
    return {name: total / max(1, count) for name, total in sums.items()}


class Fisher(Penalty):
    """Keeps the sum of all concepts' diagonals."""

    def begin(self) -> None:
        held = {name: self.kept.get(_KEY + name) for name in self.tuner.parameters}
        self.terms = [
            (p, p.detach().clone(), fisher.to(p))
            for p, fisher in zip(self.tuner.parameters.values(), held.values())
            if fisher is not None
        ]

    def __call__(self) -> torch.Tensor:
        return 0.5 * sum(
            ((fisher * (p - anchor).square()).sum() for p, anchor, fisher in self.terms), torch.zeros(())
        )

    def keep(self, losses: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
        new = {_KEY + name: fisher.cpu() for name, fisher in diagonal(self.tuner.parameters, losses).items()}
        return {
            name: self.kept[name] + fisher if name in self.kept else fisher for name, fisher in new.items()
        }
