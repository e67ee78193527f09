"""What is to be learnt: photos, captions, a token and a class noun."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__all__ = [
    "Concept",
    "Photo",
    "PhotoReport",
    "Photos",
    "check_noun",
    "check_photos",
    "check_token",
    "shrunken",
]

if TYPE_CHECKING:
    from .concept import Concept
    from .photos import Photo, PhotoReport, Photos, check_photos, shrunken
    from .words import check_noun, check_token

_HOMES = {"Concept": "concept", "check_noun": "words", "check_token": "words"}


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: words are checked, and files counted, without what reads
    pictures.
    """
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES.get(name, 'photos')}", __name__), name)
