"""l2dm: text-to-image diffusion that keeps learning (L2DM, "Create Your World", arXiv 2309.04430)."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .threads import wait_asleep

__version__ = "0.2.0"
__all__ = [
    "Concept",
    "GenerateSettings",
    "L2DMError",
    "LearnSettings",
    "LearningStopped",
    "Processes",
    "World",
    "check_photos",
]

if TYPE_CHECKING:
    from .concept import Concept, check_photos
    from .errors import L2DMError, LearningStopped
    from .processes import Processes
    from .settings import GenerateSettings, LearnSettings
    from .world.world import World

_HOMES = {
    "Concept": "concept",
    "check_photos": "concept",
    "L2DMError": "errors",
    "LearningStopped": "errors",
    "GenerateSettings": "settings",
    "LearnSettings": "settings",
    "Processes": "processes",
    "World": "world.world",
}

wait_asleep()  # torch reads the environment once, when it is first imported


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Public names are imported on first use: ``l2dm --help`` need not wait for torch."""
    if name not in _HOMES:
        raise AttributeError(f"module 'l2dm' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
