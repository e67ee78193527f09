"""Settings as frozen dataclasses: checked once, accepted from mappings, saved with every result."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import SettingsError
from .spelling import SETTINGS, typed

#: What a setting may be.
Value = bool | int | float | str

_S = TypeVar("_S", bound="Checked")


def setting(
    default: Any,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[str] = (),
    text: str = "",
) -> Any:
    """A dataclass field with a closed range ``[low, high]`` or a set of ``choices``, which may grow, and one
    line of help.
    """
    return dataclasses.field(
        default=default, metadata={"low": low, "high": high, "choices": choices, "text": text}
    )


class Checked:
    """Mixin: type and range checks at construction, and construction from mappings and TOML."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):  # type: ignore[arg-type]
            value, wanted = getattr(self, field.name), type(field.default)
            if wanted is str and isinstance(value, os.PathLike):
                value = os.fspath(value)
                object.__setattr__(self, field.name, value)
            if wanted is float and type(value) is int:
                object.__setattr__(self, field.name, float(value))
                value = float(value)
            if type(value) is not wanted:
                raise SettingsError(
                    f"{field.name} = {value!r}: expected {wanted.__name__}, found {type(value).__name__}"
                )
            low, high, choices = (field.metadata.get(k) for k in ("low", "high", "choices"))
            if choices and value not in choices:
                raise SettingsError(
                    f"{field.name} = {value!r}: expected one of {', '.join(map(str, choices))}"
                )
            if (low is not None and not value >= low) or (high is not None and not value <= high):
                span = (
                    f"between {low} and {high}"
                    if None not in (low, high)
                    else f"at least {low}"
                    if high is None
                    else f"at most {high}"
                )
                raise SettingsError(f"{field.name} = {value!r}: expected a value {span}")

    if not TYPE_CHECKING:  # type checkers know today's names alone

        def __getattr__(self, name: str) -> Any:
            if name not in SETTINGS:
                raise AttributeError(f"{type(self).__name__} has no setting {name!r}")
            return getattr(self, *typed({name: name}))

    @classmethod
    def of(cls: type[_S], *layers: Mapping[str, object], place: str = "settings") -> _S:
        """Settings from mappings, later ones winning; None is skipped, an unknown name is an error."""
        merged: dict[str, Any] = {}
        known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
        for layer in layers:
            for name, value in typed(layer, place).items():
                if name not in known:
                    near = difflib.get_close_matches(name, known, 1)
                    raise SettingsError(
                        f"{place}: unknown setting {name!r}; "
                        + (f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}")
                    )
                if value is not None:
                    merged[name] = value
        try:
            return cls(**merged)
        except SettingsError as error:
            raise SettingsError(f"{place}: {error}") from None

    @classmethod
    def described(cls) -> list[dict[str, Value]]:
        """Of each setting its ``name``, ``default``, ``range`` as text ("" where any value will do) and
        ``help``.
        """
        return [
            {
                "name": field.name,
                "default": getattr(cls, field.name),
                "range": _span(field),
                "help": field.metadata["text"],
            }
            for field in dataclasses.fields(cls)  # type: ignore[arg-type]
        ]

    def as_dict(self) -> dict[str, Value]:
        return dataclasses.asdict(self)  # type: ignore[call-overload]


def _span(field: dataclasses.Field[Any]) -> str:
    """The values that a setting may have."""
    low, high, choices = (field.metadata[name] for name in ("low", "high", "choices"))
    if choices:
        return ", ".join(map(str, choices))
    return "" if low is None else f"{low:g} to {high:g}" if high < 2**62 else f"from {low:g}"


def reading_earlier_names(cls: type[_S]) -> type[_S]:
    """Settings ``cls`` whose constructor reads earlier names too."""
    own = cls.__init__

    @functools.wraps(own)
    def __init__(self: _S, *args: Any, **given: Any) -> None:  # noqa: N807
        own(self, *args, **typed(given, cls.__name__))

    cls.__init__ = __init__  # type: ignore[method-assign]
    return cls
