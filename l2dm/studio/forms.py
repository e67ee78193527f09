"""Settings as fields of a form, and what was typed into them as settings again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError
from ..settings import OWN_MASKS

#: Longest text of a field: longer than any prompt that a base reads.
LONGEST = 2000
#: Settings that may name a folder of the disk: in a form only what needs none.
CHOICES = {"masks": ("", *OWN_MASKS)}
#: Labels where the setting's own name says too little.
LABELS = {"n": "pictures"}


@dataclasses.dataclass(frozen=True)
class Field:
    """One setting: how it is typed, what it is now, what it means."""

    name: str
    kind: str  # "int", "float", "bool", "str"
    value: Any
    text: str
    choices: tuple[str, ...] = ()
    low: float | None = None
    high: float | None = None

    @property
    def label(self) -> str:
        return LABELS.get(self.name, self.name.replace("_", " "))


def fields(settings: Any, leave_out: tuple[str, ...] = ()) -> list[Field]:
    """One for each setting, with its own value."""
    return [
        Field(
            f.name,
            type(f.default).__name__,
            getattr(settings, f.name),
            f.metadata["text"],
            CHOICES.get(f.name, f.metadata["choices"]),
            f.metadata["low"],
            f.metadata["high"],
        )
        for f in dataclasses.fields(settings)
        if f.name not in leave_out
    ]


def given(form: Mapping[str, Any], shown: Any) -> dict[str, Any]:
    """What the user changed of the settings ``shown``: a name that the form lacks, or that is empty, is as it
    was.

    What cannot be read as a number stays text, which the settings then refuse in their own words. Raises
    SettingsError for a folder of the disk.
    """
    changed = {}
    for field in fields(shown):
        if field.kind == "bool":
            value = f"{field.name}" in form if f"has-{field.name}" in form else field.value
        else:
            typed = text(form, field.name)
            if field.name not in form or (typed == "" and field.kind != "str"):
                continue
            value = _read(field.kind, typed)
            if value not in CHOICES.get(field.name, (value,)):
                known = ", ".join(filter(None, CHOICES[field.name]))
                raise SettingsError(
                    f"{field.name} = {typed[:60]}: a page takes no folder; choose one of {known}, or none"
                )
        if value != field.value:
            changed[field.name] = value
    return changed


def _read(kind: str, typed: str) -> Any:
    try:
        return {"int": int, "float": float}.get(kind, str)(typed)
    except ValueError:
        return typed


def text(form: Mapping[str, Any], name: str) -> str:
    """A field's text, cut at LONGEST; a file in its place is none."""
    value = form.get(name, "")
    return value.replace("\x00", "\ufffd").strip()[:LONGEST] if isinstance(value, str) else ""
