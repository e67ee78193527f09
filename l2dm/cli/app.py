"""The command line: thin faces over World. Every command answers with --json; errors are one line and exit
code 2.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from .. import __version__
from .bench import bench_app
from .changing import branch, forget, pick, rename, repair, undo
from .drawing import generate
from .founding import init, relocate
from .learning import learn, report
from .looking import check, history, settings, show, verify
from .studio import studio
from .terminal import run
from .travelling import export, import_

app = typer.Typer(
    help="Teach a text-to-image model one concept after another, and draw them together.\n\n"
    "Start with:  l2dm init pets;  l2dm learn pets photos/rex --token '<rex>' --noun dog;  "
    "l2dm generate pets 'a photo of <rex> dog on the beach'",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
#: Every verb, in the order in which --help lists them.
VERBS = (
    check,
    init,
    learn,
    report,
    pick,
    generate,
    settings,
    show,
    history,
    export,
    import_,
    rename,
    branch,
    forget,
    undo,
    relocate,
    verify,
    repair,
    studio,
)
for verb in VERBS:
    app.command(verb.__name__.rstrip("_"))(verb)
app.add_typer(bench_app, name="bench")


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"l2dm {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: what a user can cause ends in one line and exit code 2, never in a traceback."""
    if code := run(app, sys.argv[1:]):
        raise SystemExit(code)
