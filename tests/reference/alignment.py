"""The released metric of the CIFC protocol (arXiv 2410.17594) written literally: a pair at a time."""

from __future__ import annotations

import math


def cosine(a, b) -> float:
    dot = sum(x * y for x, y in zip(a, b))
    return dot / (math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(y * y for y in b)))


def literal_image_alignment(drawn, references) -> float:
    """100 x mean over every drawn picture and every reference."""
    pairs = [cosine(a, b) for a in drawn for b in references]
    return 100 * sum(pairs) / len(pairs)


def literal_text_alignment(drawn, texts) -> float:
    """100 x mean of 2.5 max(cos, 0), each picture with its own text."""
    scores = [2.5 * max(cosine(a, b), 0.0) for a, b in zip(drawn, texts)]
    return 100 * sum(scores) / len(scores)
