"""What learning one concept did to the others and to the base's own nouns: the report card's figures.

Everything is measured against what a world may keep, CLIP features: of each concept's photos (the long-term
memory) and of the pretrained model's own pictures of each class noun. Pictures are drawn from fixed prompts
and seeds, so two examinations of the same weights agree to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Score:
    """``likeness``: mean cosine in [-1, 1] to what it should look like (image alignment is 100 times this).
    ``own``: the share of pictures, in [0, 1], that are nearer to it than to any other concept of the world.
    ``version``: when it was examined.
    """

    likeness: float
    own: float
    version: int


#: Cosines that differ by less are the same: a tie, as of two concepts of the same photos, is not for rounding
#: to decide.
_SAME = 1e-6


def score(drawn: np.ndarray, name: str, stored: dict[str, np.ndarray], version: int) -> Score:
    """The score of pictures of ``name`` with unit features ``(n, d)``, or zeros, which are nearest to nobody
    (see ``flat``); ``stored`` holds everyone's features ``(m, d)``. As near to its own as to any other is its
    own.
    """
    means = {other: (drawn @ features.T).mean(1) for other, features in stored.items()}
    nearest = np.stack(list(means.values())).max(0)
    return Score(
        round(float(means[name].mean()), 6),
        round(float(np.mean((means[name] >= nearest - _SAME) & drawn.any(1))), 6),
        version,
    )


def drift(drawn: np.ndarray, pretrained: np.ndarray) -> float:
    """1 - mean cosine of pictures of a noun with the pretrained model's from the same seeds, both ``(n, d)``,
    unit or zeros: 0 when nothing moved."""
    cosines = np.where((drawn == pretrained).all(1), 1, (drawn * pretrained).sum(1))
    return round(float(1 - cosines.mean()), 6)


def concepts_to_examine(concepts: list[str], last: dict[str, int], most: int) -> list[str]:
    """The newest concept and ``most`` earlier ones, those examined longest ago first: the cost does not grow
    with the world.
    """
    earlier = sorted(concepts[:-1], key=lambda token: (last.get(token, -1), concepts.index(token)))
    return [*concepts[-1:], *earlier[:most]]


def max_forgetting(before: dict[str, Score], now: dict[str, Score]) -> float:
    """The largest fall of likeness of any concept that was examined both times, in points of 100; 0 when none
    fell.
    """
    return max(
        [0.0, *(100 * (before[token].likeness - now[token].likeness) for token in now if token in before)]
    )
