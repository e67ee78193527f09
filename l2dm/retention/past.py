"""What of the past a learning may use."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

#: ``draw(high, size)``: ``size`` whole numbers below ``high``.
DrawNumbers = Callable[[int, int], torch.Tensor]


@dataclass
class Past:
    """What of the past a learning may use: prior latents (n, C, h, w) by class prompt; earlier concepts'
    pictures by token, and prompts (of the pictures one each; without pictures, of what is to be distilled);
    what a penalty ``kept``; latents of ``companions`` by their words; earlier concepts' ``names``, "<rex>
    dog", by token. ``prior_prompts``: of a class prompt whose pictures have captions of their own, those, one
    each.
    """

    priors: dict[str, torch.Tensor] = field(default_factory=dict)
    memory: dict[str, torch.Tensor] = field(default_factory=dict)
    prompts: dict[str, list[str]] = field(default_factory=dict)
    kept: dict[str, torch.Tensor] = field(default_factory=dict)
    companions: dict[str, torch.Tensor] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    prior_prompts: dict[str, list[str]] = field(default_factory=dict)


def past_rows(
    pool: dict[str, torch.Tensor], size: int, draw: DrawNumbers
) -> tuple[list[str], list[int], torch.Tensor]:
    """``size`` rows of a pool: for each a task drawn evenly, then an entry of the task; (tasks, entries,
    latents).
    """
    names = list(pool)
    tasks = [names[i] for i in draw(len(names), size).tolist()]
    entries = [int(draw(len(pool[task]), 1)) for task in tasks]
    return tasks, entries, torch.stack([pool[task][entry] for task, entry in zip(tasks, entries)])
