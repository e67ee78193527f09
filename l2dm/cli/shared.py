"""What all commands share: how they answer, show progress, and the options that several of them take."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

from ..errors import SettingsError
from ..settings import GenerateSettings, LearnSettings, read_toml
from ..spelling import method_today, today
from . import terminal
from .progress import Steady

WorldPath = Annotated[Path, typer.Argument(metavar="WORLD", help="Folder of the world.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer with one JSON object on standard output.")]
SettingsFile = Annotated[
    Path | None,
    typer.Option("--settings", help="TOML file with a table \\[learn] or \\[generate]; options here win."),
]

ThreadCount = Annotated[
    int | None, typer.Option(help="Of the processor, for results to the last bit; else as many as are free.")
]
SETTINGS = {"learn": LearnSettings, "generate": GenerateSettings}
_SHORT = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
Precision = Annotated[
    str | None,
    typer.Option(
        help="Of the base's weights: float32, bfloat16 or float16 (fp32, bf16, fp16); else half for large "
        "bases, where it is fast.",
        callback=lambda name: _SHORT.get(name, name),
    ),
]
Device = Annotated[str | None, typer.Option(help="cuda, mps or cpu (default: CUDA where there is one).")]


def answer(as_json: bool, value: dict[str, Any], *lines: Any) -> None:
    """Print ``value`` as JSON, or ``lines`` for people."""
    print(terminal.as_json(value)) if as_json else terminal.say(*lines)


def from_file(file: Path | None, kind: str) -> dict[str, Any]:
    """The settings of a TOML file's table ``kind``, checked, so that what is wrong is said of the file."""
    given = read_toml(file, kind) if file else {}
    with terminal.notes():
        SETTINGS[kind].of(given, place=str(file))
    return today(given)


def settings_from(world: Any, kind: str, file: Path | None, arguments: dict[str, Any]) -> Any:
    """The settings of ``kind`` that ``world`` has, over them those of ``file``, over them a command's
    ``arguments`` that were given, if they are called as a setting is.
    """
    known = SETTINGS[kind].__dataclass_fields__
    given = {name: value for name, value in arguments.items() if name in known and value is not None}
    return world.settings(kind, {**from_file(file, kind), **given}, place="options")


def whole_numbers(option: str, text: str) -> list[int]:
    """``"0,1,2"`` -> ``[0, 1, 2]``; a SettingsError that names ``option`` for anything else."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise SettingsError(f"{option} {text}: expected whole numbers with commas, such as 0,1,2") from None


def names(option: str, text: str, known: list[str]) -> list[str]:
    """``"a,b"`` -> ``["a", "b"]``, "all" -> ``known``; a SettingsError that names ``option`` for what is not
    known.
    """
    asked = known if text == "all" else [name.strip() for name in text.split(",")]
    with terminal.notes():
        chosen = [name if name in known else method_today(name, option) for name in asked]
    if unknown := [name for name in chosen if name not in known]:
        raise SettingsError(
            f"{option}: unknown {option.strip('-').rstrip('s')} {unknown[0]!r}; known: all, "
            f"{', '.join(known)}"
        )
    return chosen


def _silent(label: str, done: int, total: int, note: str = "") -> None:
    """No progress."""


@contextlib.contextmanager
def bar(quiet: bool) -> Iterator[Callable[..., None]]:
    """Progress: ``move(label, done, total, note)``. Silent with ``quiet``."""
    if quiet:
        yield _silent
        return
    columns = (
        TextColumn("{task.description:9}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Steady(*columns, console=Console(stderr=True)) as progress:
        tasks: dict[str, Any] = {}

        def move(label: str, done: int, total: int, note: str = "") -> None:
            if label not in tasks:
                tasks[label] = progress.add_task(label, total=total, note=note)
            progress.update(tasks[label], completed=done, note=note)

        yield move
