"""The rainbow memory bank (L2DM, arXiv 2309.04430, Algorithm 1 [given]; the budget is ours).

Long-term memory: of each photo its CLIP feature and its prompt, never the photo. Short-term memory: for each
stored feature one picture (as latents) that the model drew itself, renewed before every task.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import torch

from .rainbow import select

#: (prompts, seed) -> latents (B, C, h, w) and their CLIP features (B, d), drawn by the model as it is before
#: the task.
Draw = Callable[[list[str], int], tuple[torch.Tensor, torch.Tensor]]


@dataclass
class LongTerm:
    """B_l: token -> features (n, d) and the n prompts they were learnt with."""

    features: dict[str, torch.Tensor] = field(default_factory=dict)
    prompts: dict[str, list[str]] = field(default_factory=dict)

    def of(self, tokens: Collection[str]) -> LongTerm:
        """What of it is of ``tokens``, in their order."""
        features = {t: self.features[t] for t in tokens if t in self.features}
        return LongTerm(features, {t: self.prompts[t] for t in tokens if t in self.prompts})


@dataclass
class ShortTerm:
    """B_s: token -> latents (n, C, h, w), their features (n, d), and the number of the rebuild that drew
    them.
    """

    latents: dict[str, torch.Tensor] = field(default_factory=dict)
    features: dict[str, torch.Tensor] = field(default_factory=dict)
    drawn_in: dict[str, int] = field(default_factory=dict)

    def of(self, tokens: Collection[str]) -> ShortTerm:
        """What of it is of ``tokens``."""
        latents = {t: of for t, of in self.latents.items() if t in tokens}
        features = {t: of for t, of in self.features.items() if t in tokens}
        return ShortTerm(latents, features, {t: turn for t, turn in self.drawn_in.items() if t in tokens})


def _affordable(
    due: list[str], long: LongTerm, short: ShortTerm, candidates: int, budget: int
) -> tuple[list[str], int]:
    """What of ``due`` at most ``budget`` pictures can redraw, and how many of each prompt: tasks never drawn
    come first, then those drawn longest ago. Where a task never drawn would leave nothing for an old one,
    both share the budget with fewer of each prompt (one at least): else, with few pictures, the old ones
    would never be drawn again.
    """
    count = {token: len(long.prompts[token]) for token in due}
    kept, spent = due[:1], sum(candidates * count[token] for token in due[:1])
    for token in due[1:]:
        spent += candidates * count[token]
        if spent > budget:
            break
        kept.append(token)
    if len(kept) == 1 < len(due) and due[0] not in short.drawn_in:
        kept = due[:2]
    return kept, max(1, min(candidates, budget // sum(count[token] for token in kept)))


def rebuild(
    long: LongTerm,
    short: ShortTerm,
    draw: Draw,
    turn: int,
    candidates: int = 4,
    budget: int = 0,
    guide: float = 1.0,
    selection: str = "rainbow",
    seed: int = 0,
    on_task: Callable[[int, int], None] = lambda done, total: None,
) -> ShortTerm:
    """The short-term memory for the next task.

    For each prompt of a task ``candidates`` (eta) pictures are drawn, and for each stored feature the best of
    its own prompt's is kept. ``budget`` 0 redraws every task (Algorithm 1 to the letter: eta * sum n
    pictures, growing with the tasks). Otherwise see ``_affordable``: the other tasks' entries are carried
    over, and a redrawn task's old entries compete with the new. ``selection`` "random" keeps a random
    candidate of the prompt instead. ``turn`` numbers the rebuilds.
    """
    due = sorted(long.prompts, key=lambda token: short.drawn_in.get(token, -1))
    if budget:
        due, candidates = _affordable(due, long, short, candidates, budget)
    asked = dict(long.prompts)  # of each candidate, the prompt that it was drawn from
    latents, features = dict(short.latents), dict(short.features)
    for done, token in enumerate(due):
        prompts = [prompt for prompt in long.prompts[token] for _ in range(candidates)]
        new_latents, new_features = draw(prompts, seed + 7919 * turn + 101 * done)
        if budget and token in short.latents:
            new_latents, new_features = (
                torch.cat([new_latents, latents[token]]),
                torch.cat([new_features, features[token]]),
            )
            prompts = prompts + long.prompts[token]
        asked[token] = prompts
        latents[token], features[token] = new_latents, new_features
        on_task(done + 1, len(due))
    generated = torch.cat([features[token] for token in latents]) if latents else torch.empty(0)
    rng = torch.Generator().manual_seed(seed + turn)
    fresh = ShortTerm(drawn_in={**short.drawn_in, **dict.fromkeys(due, turn)})
    for token in latents:
        if token in due:
            stored = long.features[token]
            own = torch.tensor([[a == p for p in long.prompts[token]] for a in asked[token]])
            if selection == "random":
                best = torch.multinomial(own.float().T, 1, generator=rng).flatten()
            else:
                best = select(features[token], generated, stored, guide, own)
            fresh.latents[token], fresh.features[token] = latents[token][best], features[token][best]
        else:
            fresh.latents[token], fresh.features[token] = latents[token], features[token]
    return fresh
