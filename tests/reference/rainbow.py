"""Eq. 5 and Algorithm 1 of L2DM (arXiv 2309.04430), as loops over single pictures."""

from __future__ import annotations

import math


def similarity(a: list[float], b: list[float]) -> float:
    dot = sum(x * y for x, y in zip(a, b))
    return dot / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(y * y for y in b))


def literal_score(
    candidate: list[float], generated: list[list[float]], stored: list[float], guide: float
) -> float:
    return sum(1 - similarity(candidate, other) for other in generated) / len(generated) + guide * similarity(
        candidate, stored
    )


def literal_select(
    candidates: list[list[float]], generated: list[list[float]], stored: list[list[float]], guide: float
) -> list[int]:
    kept = []
    for feature in stored:
        scores = [literal_score(candidate, generated, feature, guide) for candidate in candidates]
        kept.append(scores.index(max(scores)))
    return kept
