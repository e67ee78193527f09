"""What a world remembers of earlier concepts: features and prompts for long, pictures of its own drawing for a while."""

from .bank import LongTerm, ShortTerm, forget, rebuild
from .rainbow import rainbow_score, select

__all__ = ["LongTerm", "ShortTerm", "forget", "rainbow_score", "rebuild", "select"]
