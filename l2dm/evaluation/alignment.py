"""Alignment as the CIFC protocol releases it (arXiv 2410.17594): pure functions of unit features, larger is
better, of 100.

image alignment = 100 * mean over all drawn pictures x all reference photos of cos text alignment  = 100 *
mean over pictures of 2.5 * max(cos, 0), each against its own prompt without the token (CLIPScore, 2104.08718)
"""

from __future__ import annotations

import torch


def image_alignment(drawn: torch.Tensor, references: torch.Tensor) -> float:
    """Of pictures ``(n, d)`` and photos ``(m, d)``: in [-100, 100]."""
    return 100 * float((drawn @ references.T).mean())


def text_alignment(drawn: torch.Tensor, texts: torch.Tensor) -> float:
    """Of pictures and their prompts, both ``(n, d)``: in [0, 250]."""
    return 100 * float((2.5 * (drawn * texts).sum(1).clamp(min=0)).mean())


def text_cosine(drawn: torch.Tensor, texts: torch.Tensor) -> float:
    """The plain mean cosine of the same, in [-100, 100]."""
    return 100 * float((drawn * texts).sum(1).mean())
