"""Tiny encoders, for tests."""

from benchmarks.tiny import tiny_clip, tiny_dino

__all__ = ["tiny_clip", "tiny_dino"]
