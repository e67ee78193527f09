"""The settings that hold over a base or in a world where nothing else is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, overload

from ..backbone import Backbone, Source
from ..methods import METHODS
from ..settings import GenerateSettings, LearnSettings
from ..spelling import typed

_KINDS = {"learn": LearnSettings, "generate": GenerateSettings}


@overload
def settings_for(
    base: str | Source,
    kind: Literal["learn"],
    given: Mapping[str, object] | None = None,
    place: str = "settings",
) -> LearnSettings: ...
@overload
def settings_for(
    base: str | Source,
    kind: Literal["generate"],
    given: Mapping[str, object] | None = None,
    place: str = "settings",
) -> GenerateSettings: ...
@overload
def settings_for(
    base: str | Source, kind: str, given: Mapping[str, object] | None = None, place: str = "settings"
) -> LearnSettings | GenerateSettings: ...
def settings_for(
    base: str | Source, kind: str, given: Mapping[str, object] | None = None, place: str = "settings"
) -> LearnSettings | GenerateSettings:
    """Settings of ``kind`` ("learn" or "generate"): ours, then the base's own, then those it has for the
    method's tuner, then ``given``.
    """
    own, changes = Backbone.own_defaults(base), typed(given or {}, place)
    method = changes.get("method") or own.get("learn", {}).get("method", LearnSettings.method)
    tuner = METHODS[method].tuner if method in METHODS else ""
    of_tuner = own.get("tuners", {}).get(tuner, {}) if kind == "learn" else {}
    return _KINDS[kind].of(own.get(kind, {}), of_tuner, changes, place=place)
