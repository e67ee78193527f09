"""Earlier spellings of settings and methods, read until 0.3.0: what people type, and what worlds, bases and
results hold, as it is called today.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from .errors import RenamedWarning, SettingsError

SETTINGS = {
    "guidance": "composition",
    "guidance_enough": "composition_loss_threshold",
    "guide": "rainbow_similarity_weight",
    "candidates": "memory_candidates",
    "budget": "memory_budget",
    "previews": "report_pictures",
}

METHODS = {
    "switched": "gated-lora",
    "isolated": "gated-kv",
    "isolated-without-mixes": "gated-kv-without-mixes",
}
TUNERS = {"switched": "gated_lora", "isolated": "gated_kv"}
#: Where a method or a tuner stands: as a value, or as the keys of a table.
_VALUES = {"method": METHODS, "tuner": TUNERS}
_TABLES = {"methods": METHODS, "refused": METHODS, "tuners": TUNERS}
#: of results files
HEADINGS = {"guidance": "compositions"}


def today(stored: Any, heading: str = "") -> Any:
    """A JSON value that was written by any version, with today's spellings at any depth. ``heading``: the key
    that it stands under.
    """
    if isinstance(stored, list):
        return [today(item) for item in stored]
    if isinstance(stored, str):
        return _VALUES.get(heading, {}).get(stored, stored)
    if not isinstance(stored, dict):
        return stored
    names = _TABLES.get(heading, {})
    return {names.get(key, _key(key, value)): today(value, key) for key, value in stored.items()}


def _key(key: str, value: Any) -> str:
    """A setting is a number or a word; over a table a word means something else, or is a results file's
    heading.
    """
    return HEADINGS.get(key, key) if isinstance(value, (dict, list)) else SETTINGS.get(key, key)


def typed(given: Mapping[str, object], place: str = "settings") -> dict[str, Any]:
    """Settings that a person wrote, with today's spellings; a RenamedWarning tells each earlier one, and a
    SettingsError one that is given twice.
    """
    found: dict[str, Any] = {}
    for name, value in given.items():
        now = SETTINGS.get(name, name)
        if name == "method":
            value = method_today(value, place)
        if now in found and None not in (value, found[now]):
            raise SettingsError(f"{place}: {now!r} is given twice, once by its earlier name; leave one out")
        if now != name and value is not None:
            _tell(name, now, place)
        if value is not None or now not in found:
            found[now] = value
    return found


def method_today(name: Any, place: str) -> Any:
    """A method that a person wrote, as it is called today; a RenamedWarning tells an earlier name."""
    if not isinstance(name, str) or name not in METHODS:
        return name
    _tell(name, METHODS[name], place)
    return METHODS[name]


def _tell(earlier: str, now: str, place: str) -> None:
    line = f"{place}: {earlier!r} is called {now!r} now; the earlier name goes with 0.3.0"
    warnings.warn(line, RenamedWarning, stacklevel=5)
