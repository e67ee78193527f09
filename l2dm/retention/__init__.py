"""HOW the past is kept. One idea a file."""

from .prior import draw_prior

__all__ = ["draw_prior"]
