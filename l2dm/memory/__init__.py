"""What a world remembers of earlier concepts: features and prompts for long, pictures of its own drawing for a while."""

from .bank import LongTerm, ShortTerm, rebuild
from .rainbow import rainbow_score, select

__all__ = ["LongTerm", "ShortTerm", "rainbow_score", "rebuild", "select"]
