"""Otsu's threshold (IEEE Trans. SMC 9(1), 1979): where a map is high, without a number to choose.

t* = argmax_t  w(t) (1 - w(t)) (mean above t - mean up to t)^2,    w(t): the share of cells up to t
"""

from __future__ import annotations

import torch


def otsu(maps: torch.Tensor) -> torch.Tensor:
    """True (B, m, h, w) in the cells of each map above its threshold; in all of them when all are equal."""
    values, cells = maps.flatten(2).double().sort(-1)[0], maps.shape[2] * maps.shape[3]
    below = (
        torch.arange(1, cells, device=maps.device, dtype=values.dtype) / cells
    )  # share of cells below each split
    sums = values.cumsum(-1) / cells
    mean_below, mean_above = sums[..., :-1] / below, (sums[..., -1:] - sums[..., :-1]) / (1 - below)
    between = below * (1 - below) * (mean_above - mean_below).square()
    between = between.masked_fill(values[..., 1:] <= values[..., :-1], -1)  # no split between equals
    threshold = values.gather(-1, between.argmax(-1, keepdim=True))
    flat = values[..., :1] == values[..., -1:]
    return (maps.flatten(2).double() > threshold).unflatten(-1, maps.shape[2:]) | flat[..., None]
