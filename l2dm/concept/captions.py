"""Captions as other tools leave them beside photos: ``a.txt``, ``a.jpg.txt``, ``a.caption``, and Hugging
Face's ``metadata.jsonl``.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterable
from pathlib import Path

from ..errors import PhotoError
from .words import TOKEN_LIKE

SUFFIXES = (".txt", ".caption")
METADATA = "metadata.jsonl"
MOST_BYTES, LONGEST = 4 << 20, 500
#: How other tools mark the place of the concept's name, besides angle brackets.
_PLACEHOLDER = re.compile(r"\[[A-Za-z][\w-]*\]|\{[A-Za-z]?[\w-]*\}")


def is_caption(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES or path.name.lower() == METADATA


class Captions:
    """The captions in a folder with ``files``. ``of`` gives a photo's; ``problems`` and ``notes`` are
    sentences for the user.
    """

    def __init__(self, files: Iterable[Path]):
        self.problems: list[str] = []
        self._files: dict[str, list[Path]] = {}
        self._texts: dict[str, str] = {}
        self._table: Path | None = None
        for path in files:
            if path.name.lower() == METADATA:
                self._table = path
                self._read_table(path)
            elif is_caption(path):
                self._files.setdefault(path.stem, []).append(path)
        self._used: set[str] = set()

    def of(self, photo: Path) -> tuple[str | None, list[str]]:
        """The caption of ``photo`` and notes about it. A file of the photo's own goes before the table;
        PhotoError if it is no text.
        """
        beside = sorted(
            self._files.get(photo.name, []) + self._files.get(photo.stem, []),
            key=lambda path: SUFFIXES.index(path.suffix.lower()),
        )
        self._used |= {photo.name, photo.stem}
        texts = [(path.name, _text(path)) for path in beside]
        if photo.name in self._texts:
            texts.append((METADATA, self._texts[photo.name]))
        texts = [(name, text) for name, text in texts if text]
        if not texts:
            return None, []
        first, caption = texts[0]
        notes = [f"caption of {first}, not of {name}" for name, text in texts[1:] if text != caption]
        if len(caption) > LONGEST:
            notes.append(f"caption cut to {LONGEST} characters")
        return caption[:LONGEST], notes

    def without_photo(self) -> list[str]:
        """A sentence about each caption that no photo was there for."""
        alone = [path for stem, paths in self._files.items() if stem not in self._used for path in paths]
        notes = [f"{path}: a caption without a photo" for path in alone]
        return notes + [
            f"{self._table}: {name!r} has a caption, but is not among the photos"
            for name in self._texts
            if name not in self._used
        ]

    def _read_table(self, path: Path) -> None:
        """``{"file_name": ..., "text": ...}`` a line, as Hugging Face's imagefolder has it."""
        try:
            lines = _content(path).splitlines()
        except PhotoError as error:
            self.problems.append(str(error))
            return
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line) if line.strip() else {"file_name": "", "text": ""}
                name, text = record["file_name"], record["text"]
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                self.problems.append(
                    f"{path}: line {number}: expected a JSON object with the texts file_name and text; mend "
                    "the line or remove the file"
                )
                return
            if name:
                self._texts[name] = " ".join(text.split())


def _text(path: Path) -> str:
    return " ".join(_content(path).split())


def _content(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise PhotoError(
                f"{path}: larger than {MOST_BYTES >> 20} MB; captions are short; mend or remove the file"
            )
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise PhotoError(f"{path}: the caption is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        raise PhotoError(f"{path}: cannot be read ({error.strerror}); mend or remove the file") from None


def check_caption(place: Path, caption: str, token: str, noun: str, known: Collection[str] = ()) -> None:
    """A PhotoError for a word that stands for some concept's name, but not for ``token`` nor for one of the
    ``known``.
    """
    if "\x00" in caption:
        raise PhotoError(f"{place}: its caption holds a NUL character; save it as UTF-8 text")
    for word in TOKEN_LIKE.findall(caption):
        if word != token and word not in known:
            near = difflib.get_close_matches(word.lower(), [token, *known], 1)
            hint = f"did you mean {near[0]}?" if near else f"write {token} or {noun} there"
            raise PhotoError(f"{place}: its caption says {word}, which is not in this world; {hint}")
    if marks := _PLACEHOLDER.findall(caption):
        raise PhotoError(
            f"{place}: its caption says {marks[0]}, another tool's placeholder; write {token} or {noun} there"
        )
