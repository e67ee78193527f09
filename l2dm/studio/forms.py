"""Settings as fields of a form, and what was typed into them as settings again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from ..errors import SettingsError
from ..settings import OWN_MASKS, PLACES

#: Longest text of a field: longer than any prompt that a base reads.
LONGEST = 2000
#: Of a setting that may name a folder: what needs none.
CHOICES = {"masks": ("", *OWN_MASKS)}
#: Settings of free text that are read as words alone. Any other is taken for a place, and not offered.
WORDS = ("sample_prompt", "negative_prompt", "subjects", "layout")
#: Labels where the setting's own name says too little.
LABELS = {"n": "pictures"}
#: Help where the setting's own tells of what a page does not take.
HELP = {"masks": "white is the subject; beside: photo-masklabel.png, alpha: the photo's transparency"}


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


def fields(settings: Any) -> list[Field]:
    """One for each setting that a form offers, with its own value: none that names a place or sends
    something there.
    """
    return [
        Field(
            f.name,
            type(f.default).__name__,
            getattr(settings, f.name),
            HELP.get(f.name, f.metadata["text"]),
            CHOICES.get(f.name, f.metadata["choices"]),
            f.metadata["low"],
            f.metadata["high"],
        )
        for f in dataclasses.fields(settings)
        if _is_offered(f)
    ]


def _is_offered(setting: dataclasses.Field[Any]) -> bool:
    if setting.name in PLACES:
        return setting.name in CHOICES
    is_text = not isinstance(setting.default, (bool, int, float))
    return not is_text or bool(setting.metadata["choices"]) or setting.name in WORDS


def given(form: Mapping[str, Any], shown: Any) -> dict[str, Any]:
    """What the user changed of the settings ``shown``: a name that the form lacks, or that is empty, is as it
    was.

    What cannot be read as a number stays text, which the settings then refuse in their own words. Raises
    SettingsError for a setting that is not offered, and for a folder of the disk.
    """
    changed, offered = {}, fields(shown)
    for name in sorted({f.name for f in dataclasses.fields(shown)} - {field.name for field in offered}):
        if name in form or f"has-{name}" in form:
            raise SettingsError(
                f"{name}: a page takes no folder and nothing that leaves the studio's own; give it to l2dm "
                "in a terminal, or leave it out"
            )
    for field in offered:
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
