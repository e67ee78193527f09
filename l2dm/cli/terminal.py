"""Where everything that is shown passes through, so that no text of a world, photo, file or prompt can act on
the terminal.

Rich markup in such texts is shown as it stands; control characters, escape sequences, marks that turn the
direction of writing and bytes that are not UTF-8 are shown as ``\\x1b`` and the like.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..errors import TOLD, L2DMError, LearningStopped, because, hearing, out_of_memory
from ..processes import ToldByMain, for_one, main_process

_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
#: typer's own error of a wrong command line; BadParameter is the only public one of its kind.
_UsageError = typer.BadParameter.__mro__[1]


def plain(text: object) -> str:
    """``text`` on one line, with whatever could act on a terminal made visible."""
    return _UNSAFE.sub(lambda found: found.group().encode("unicode_escape").decode(), str(text))


def as_json(value: Any) -> str:
    """One line of JSON in which the same characters are escaped."""
    line = json.dumps(value, ensure_ascii="utf" not in (sys.stdout.encoding or "").lower())
    return _UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", line)


def table(head: Iterable[str], rows: Iterable[Iterable[object]], title: str = "") -> Table:
    """A table whose cells are shown letter by letter."""
    shown = Table(title=Text(plain(title)) if title else None)
    for cell in head:
        shown.add_column(Text(plain(cell)))
    for row in rows:
        shown.add_row(*(Text(plain(cell)) for cell in row))
    return shown


def say(*lines: str | Table) -> None:
    """Print lines and tables on standard output."""
    for line in lines:
        Console(markup=False, emoji=False, highlight=False).print(line) if isinstance(line, Table) else print(
            plain(line)
        )


@contextmanager
def notes() -> Iterator[None]:
    """Within the block, on standard error, one line each: what was damaged in a world and is made anew; work
    that will be long; what is probably not learnt well."""
    with hearing(TOLD, lambda text: print(f"note: {plain(text)}", file=sys.stderr)):
        yield


def run(app: Callable[..., Any], arguments: list[str]) -> int:
    """Run the command line; returns the exit code. What a user can cause is one line on standard error, as
    JSON with --json.
    """
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        if not {"learn", "bench"}.intersection(arguments[:1]):
            for_one(" ".join(["l2dm", *arguments[:1]]))
        with out_of_memory(" ".join(["l2dm", *arguments[:1]]), "close other programs and try again"):
            code = app(arguments or ["--help"], prog_name="l2dm", standalone_mode=False) or 0
    except L2DMError as error:
        if isinstance(error.__cause__, ToldByMain):
            return 2
        return _refuse(type(error).__name__, str(error), arguments)
    except LearningStopped as stopped:
        if main_process():
            print(plain(stopped), file=sys.stderr)
        return 130
    except _UsageError as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            error.show()
            return 2
        command = error.ctx.command_path if error.ctx else "l2dm"
        return _refuse("UsageError", f"{error.format_message().rstrip('.')}; see {command} --help", arguments)
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        return _refuse("OSError", place + because(error), arguments)
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    if code == 130:
        print("interrupted", file=sys.stderr)
    return code


def _refuse(kind: str, message: str, arguments: list[str]) -> int:
    asked = "--json" in arguments
    if not main_process():
        message = f"process {os.environ['RANK']}: {message}"
    print(
        as_json({"error": kind, "message": message}) if asked else f"error: {plain(message)}", file=sys.stderr
    )
    return 2
