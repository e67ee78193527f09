"""The rainbow memory bank (L2DM, arXiv 2309.04430, Algorithm 1 [given]; the budget is ours).

Long-term memory: of each photo its CLIP feature and its prompt, never the photo. Short-term memory: for each stored
feature one picture (as latents) that the model drew itself, renewed before every task.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from .rainbow import select

#: (prompts, seed) -> latents (B, C, h, w) and their CLIP features (B, d), drawn by the model as it is before the task.
Draw = Callable[[list[str], int], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class LongTerm:
    """B_l: token -> features (n, d) and the n prompts they were learnt with."""

    features: dict[str, torch.Tensor] = field(default_factory=dict)
    prompts: dict[str, list[str]] = field(default_factory=dict)


@dataclass
class ShortTerm:
    """B_s: token -> latents (n, C, h, w), their features (n, d), and the number of the rebuild that drew them."""

    latents: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    drawn_in: dict[str, int] = field(default_factory=dict)


def rebuild(
    long: LongTerm, short: ShortTerm, draw: Draw, turn: int, candidates: int = 4, budget: int = 0, guide: float = 1.0,
    selection: str = "rainbow", seed: int = 0, on_task: Callable[[int, int], None] = lambda done, total: None,
) -> ShortTerm:  # fmt: skip
    """The short-term memory for the next task.

    For each prompt of a task ``candidates`` (eta) pictures are drawn, and for each stored feature the best is kept.
    ``budget`` 0 redraws every task (Algorithm 1 to the letter: eta * sum n pictures, growing with the tasks). Otherwise at
    most ``budget`` pictures are drawn (but one task at least): tasks never drawn before come first, then the ones drawn
    longest ago; the other tasks' entries are carried over, and a redrawn task's old entries compete with the new.
    ``selection`` "random" keeps a random candidate instead. ``turn`` numbers the rebuilds.
    """
    due = sorted(long.prompts, key=lambda token: short.drawn_in.get(token, -1))
    if budget:
        costs, kept, spent = {token: candidates * len(long.prompts[token]) for token in due}, [], 0
        for token in due:
            if kept and spent + costs[token] > budget:
                break
            kept.append(token)
            spent += costs[token]
        due = kept
    latents, features = dict(short.latents), dict(short.features)
    for done, token in enumerate(due):
        prompts = [prompt for prompt in long.prompts[token] for _ in range(candidates)]
        new_latents, new_features = draw(prompts, seed + 7919 * turn + 101 * done)
        if budget and token in short.latents:
            new_latents, new_features = (
                torch.cat([new_latents, latents[token]]),
                torch.cat([new_features, features[token]]),
            )
        latents[token], features[token] = new_latents, new_features
        on_task(done + 1, len(due))
    generated = torch.cat([features[token] for token in latents]) if latents else torch.empty(0)
    rng = torch.Generator().manual_seed(seed + turn)
    fresh = ShortTerm(drawn_in={**short.drawn_in, **dict.fromkeys(due, turn)})
    for token in latents:
        if token in due:
            stored = long.features[token]
            best = select(features[token], generated, stored, guide)
            if selection == "random":
                best = torch.randint(len(features[token]), (len(stored),), generator=rng)
            fresh.latents[token], fresh.features[token] = latents[token][best], features[token][best]
        else:
            fresh.latents[token], fresh.features[token] = latents[token], features[token]
    return fresh
