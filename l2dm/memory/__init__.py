"""What a world remembers of earlier concepts: features and prompts for long, pictures of its own drawing for
a while.
"""

from .bank import Draw, LongTerm, ShortTerm, rebuild
from .rainbow import rainbow_score, select

__all__ = ["Draw", "LongTerm", "ShortTerm", "rainbow_score", "rebuild", "select"]
