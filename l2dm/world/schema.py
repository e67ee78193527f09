"""What the JSON files of a world may say: types, and limits of size, counts, depth. A world may come from a
stranger.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NotRequired, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    ValidationError,
)
from typing_extensions import TypedDict

from ..concept.words import check_noun, check_token
from ..errors import L2DMError, WorldDamaged, reading
from ..files import is_reserved
from ..spelling import TUNERS, today
from .store import read

#: Bytes and values that one JSON file of a world may have, and entries of one table or list in it.
MOST_BYTES, MOST_VALUES, MOST_ENTRIES = 32 << 20, 1_000_000, 100_000

STRICT = ConfigDict(extra="forbid", strict=True, defer_build=True)

_T = TypeVar("_T")


def _unchanged(check: Callable[[str], str]) -> AfterValidator:
    """The rule of what users type, for what was stored: it must already be as ``check`` would return it."""

    def validate(text: str) -> str:
        try:
            if check(text) != text:
                raise ValueError(f"{text[:80]!r} is not as it would be stored")
        except L2DMError as error:
            raise ValueError(str(error)[:300]) from None
        return text

    return AfterValidator(validate)


def _known_tuner(name: str) -> str:
    from ..methods import METHODS

    name = TUNERS.get(name, name)
    if name not in (known := {row.tuner for row in METHODS.values()}):
        raise ValueError(f"{name[:80]!r} is not among {', '.join(sorted(known))}")
    return name


def as_tuple(found: Any) -> Any:
    """JSON has lists for tuples."""
    return tuple(found) if isinstance(found, list) else found


def _pairs(found: Any) -> Any:
    return [as_tuple(pair) for pair in found] if isinstance(found, list) else found


Token = Annotated[str, _unchanged(check_token)]
Noun = Annotated[str, _unchanged(check_noun)]


def _portable(name: str) -> str:
    if is_reserved(name):
        raise ValueError(f"{name[:80]!r} is a name that Windows has for itself")
    return name


def _apart(files: dict[str, str]) -> dict[str, str]:
    if len({unicodedata.normalize("NFC", name).lower() for name in files}) < len(files):
        raise ValueError("two names differ by case alone, so that some systems take them for one")
    return files


#: A plain name inside a version's folder: no separators, no leading dot, nothing that a system reads
#: otherwise.
#: (Its length apart from its pattern: two hundred times a class of Unicode takes long to compile.)
FileName = Annotated[str, Field(pattern=r"^\w[\w' .-]*$", max_length=200), AfterValidator(_portable)]
FileNames = Annotated[list[FileName], Field(max_length=MOST_ENTRIES)]
Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Digest = Annotated[str, Field(pattern="^([0-9a-f]{64})?$")]
Fingerprint = Annotated[str, Field(pattern="^[0-9a-zA-Z:_-]{1,200}$")]
ClipFingerprint = Annotated[str, Field(pattern="^[0-9a-zA-Z:_-]{0,200}$")]
Text = Annotated[str, Field(max_length=4096)]
#: The name of a base: a folder or a hub id, on one line.
BaseName = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$", max_length=4096)]
Tuner = Annotated[str, AfterValidator(_known_tuner)]
Count = Annotated[int, Field(ge=0, le=10**9)]
Seconds = Annotated[FiniteFloat, Field(ge=0)]
Number = Annotated[int, Field(ge=-(2**63), lt=2**64)]
Scalar = bool | Number | FiniteFloat | Text | None
Concepts = Annotated[dict[Token, Noun], Field(max_length=MOST_ENTRIES)]
Files = Annotated[dict[FileName, Sha256], Field(max_length=MOST_ENTRIES), AfterValidator(_apart)]
Drift = Annotated[dict[Noun, FiniteFloat], Field(max_length=MOST_ENTRIES)]
Settings = Annotated[dict[Text, Scalar], Field(max_length=1000), AfterValidator(today)]
Tokens = Annotated[list[Token], Field(max_length=MOST_ENTRIES)]
Names = Annotated[list[Token | Noun], Field(max_length=MOST_ENTRIES)]
#: From which step on how many threads.
ThreadCounts = Annotated[list[tuple[Count, Count]], Field(max_length=10_000), BeforeValidator(_pairs)]


#: Folders of a world that are still to be removed.
Pending = Annotated[
    list[
        Annotated[
            str,
            Field(
                pattern=r"^(versions/[0-9]{4,9}|learning|quarantine|prior/\w[\w' .-]*)$",
                max_length=len("prior/") + 200,
            ),
        ]
    ],
    Field(max_length=MOST_ENTRIES),
]


class ScoreRecord(TypedDict):
    """A ``Score`` as it is stored."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    likeness: FiniteFloat
    own: FiniteFloat
    version: Count


Scores = Annotated[dict[Token, ScoreRecord], Field(max_length=MOST_ENTRIES)]


#: What lines of the journal have where they have it.
_TOLD = {"version": int, "token": str, "was": str, "noun": str}


def _entry(line: dict[str, Any]) -> dict[str, Any]:
    if not all(isinstance(line.get(key), str) for key in ("at", "action")):
        raise ValueError("a line of the journal needs 'at' and 'action'")
    for key, kind in _TOLD.items():
        if not isinstance(line.get(key, "" if kind is str else 0), kind):
            raise ValueError(f"{key!r} in a line of the journal is of a wrong type")
    if line["action"] == "rename" and not {"version", "token", "was"} <= set(line):
        raise ValueError("a renaming in the journal needs 'version', 'token' and 'was'")
    return line


Entry = Annotated[
    dict[Text, Scalar | Annotated[list[Scalar], Field(max_length=1000)]],
    Field(max_length=100),
    AfterValidator(_entry),
]
Journal = Annotated[list[Entry], Field(max_length=MOST_ENTRIES)]

#: memory.json: of each concept the prompts that it was learnt with.
PROMPTS = TypeAdapter(Annotated[dict[Token, list[Text]], Field(max_length=MOST_ENTRIES)])
#: short-term.json: of each concept the turn in which its pictures were drawn.
DRAWN_IN = TypeAdapter(Annotated[dict[Token, Count], Field(max_length=MOST_ENTRIES)])


class _Record(TypedDict):
    """files.json: name -> SHA-256 of the files beside it."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    files: Files


FILES = TypeAdapter(_Record)


class _Identity(TypedDict):
    __pydantic_config__ = STRICT  # type: ignore[misc]
    concept: Text
    settings: Settings
    parent: Count
    earlier: dict[Token, Text]


class DraftRecord(TypedDict):
    """draft.json: what an unfinished learning was of, and how far it came."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    identity: _Identity
    token: Token
    step: Count
    seconds: Seconds
    threads: NotRequired[ThreadCounts]


DRAFT = TypeAdapter(DraftRecord)


def read_bytes(path: Path) -> bytes:
    """A JSON file's content; WorldDamaged when it cannot be read or is larger than any that l2dm writes."""
    with reading(path):
        data = read(path, MOST_BYTES + 1)
    _check_size(data, path)
    return data


def _check_size(data: bytes, path: Path) -> None:
    if len(data) > MOST_BYTES or data.count(b",") > MOST_VALUES:
        raise WorldDamaged(
            f"{path}: more than {MOST_BYTES >> 20} MiB or {MOST_VALUES} values, so it is not one of l2dm's "
            "own"
        )


def parse(data: bytes, schema: TypeAdapter[_T], place: Path, way_out: str) -> _T:
    """``data`` as ``schema`` says, or a WorldDamaged that names the first thing that is otherwise."""
    _check_size(data, place)
    try:
        return schema.validate_json(data)
    except ValidationError as error:
        kind = place.stem.replace("-", " ")
        raise WorldDamaged(f"{place}: not a readable {kind} ({_first(error)}); {way_out}") from None


def _first(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_context=False, include_input=False)[0]
    where = ".".join(str(part)[:60] for part in found["loc"][:6])
    what = found["msg"].removeprefix("Value error, ")[:300]
    return f"{where}: {what}" if where else what
