"""Verbs that change a world's files or take something back: forget, rename, branch, undo, repair."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..errors import SettingsError
from .shared import AsJson, WorldPath, answer
from .terminal import say

if TYPE_CHECKING:
    from ..world.repository import Repository


def forget(
    world: WorldPath,
    token: Annotated[str, typer.Argument(help="The concept's token, such as '<rex>'.")],
    purge: Annotated[
        bool,
        typer.Option("--purge", help="Leave nothing of it in any version, after asking; cannot be undone."),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Purge without asking.")] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a concept on purpose: its token and all that is remembered of it. Earlier versions keep it for
    undo, unless purged.
    """
    from ..world.repository import Repository

    opened = Repository.open(world, verify=False)
    if purge:
        _purge(opened, token, yes, as_json)
        return
    version = opened.forget(token)
    kept = [number for number, earlier in opened.manifest.versions.items() if token in earlier.concepts]
    answer(
        as_json,
        {"world": str(world), "forgot": token, "version": version.version, "kept_for_undo": kept},
        f"{world}: {token} is forgotten (version {version.version}); versions {kept} keep it for undo",
    )


def _purge(world: Repository, token: str, yes: bool, as_json: bool) -> None:
    """Say what purging takes and leaves, ask, and do it."""
    plan = world.purge(token, dry=True)
    lines = [f"{world.path}: purging {token} cannot be undone", f"versions removed: {list(plan.removed)}"]
    lines += [f"versions rewritten: {list(plan.rewritten)}, then called {list(plan.rewritten.values())}"]
    lines += [f"lost too: {what}" for what in plan.lost] + [f"stays: {what}" for what in plan.stays]
    if (studio := world.path.with_name(f"{world.path.name}.studio")).is_dir():
        lines += [f"stays: photos and pictures that the studio keeps in {studio}"]
    lines += ["stays: pictures, reports and copies outside the world's folder, in backups and snapshots too"]
    lines += ["stays: what the disk still holds in blocks that it calls free; they are not overwritten"]
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise SettingsError(f"{'; '.join(lines)}; to do it without being asked add --yes")
        say(*lines)
        typer.confirm("Purge it?", abort=True)
    done = world.purge(token)
    answer(
        as_json,
        {
            "world": str(world.path),
            "purged": token,
            "removed": done.removed,
            "rewritten": done.rewritten,
            "lost": done.lost,
            "stays": done.stays,
            "version": world.version,
        },
        *(lines if yes else []),
        f"{world.path}: {token} is purged; the world is at version {world.version}",
    )


def rename(
    world: WorldPath,
    token: Annotated[str, typer.Argument(help="The concept's token, such as '<rex>'.")],
    to: Annotated[str, typer.Argument(help="What it is to be called, such as '<max>'.")],
    as_json: AsJson = False,
) -> None:
    """Call a concept otherwise; its pictures stay, bit for bit."""
    from ..world.world import World

    version = World.open(world).rename(token, to)
    answer(
        as_json,
        {"world": str(world), "was": token, "token": to, "version": version.version},
        f"{world}: {token} is called {to} now (version {version.version})",
    )


def branch(
    world: WorldPath,
    path: Annotated[Path, typer.Argument(metavar="NEW", help="Folder of the new world.")],
    at: Annotated[
        int | None,
        typer.Option(help="Version to branch from, 0 for the fresh world (default: the present one)."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a new world of what this one was at a version, to go on another way; this one stays as it is."""
    from ..world.repository import Repository

    made = Repository.open(world, verify=False).branch(path, at)
    told = ", ".join(made.concepts) or "nothing learnt"
    answer(
        as_json,
        {"world": str(world), "branch": str(path), "version": made.version, "concepts": made.concepts},
        f"{path}: a branch of {world} at version {made.version}: {told}",
    )


def pick(
    world: WorldPath,
    token: Annotated[str, typer.Argument(help="The concept's token, such as '<rex>'.")],
    step: Annotated[
        int | None, typer.Option(help="Whose weights to take; left out: list those that there are.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Choose among the steps whose weights a lesson kept (keep_every): what a concept is from now on, as a
    new version.
    """
    from ..world.kept_steps import kept_steps
    from ..world.manifest import Manifest

    if step is None:
        steps = sorted(kept_steps(world, Manifest.read(world, verify=False), token))
        have = f"{world}: weights of {token} after steps {', '.join(map(str, steps))}; take one with --step"
        none = f"{world}: no weights of {token} are kept; a lesson keeps them with --keep-every"
        answer(as_json, {"world": str(world), "token": token, "steps": steps}, have if steps else none)
        return
    from ..world.world import World

    version = World.open(world).pick(token, step)
    answer(
        as_json,
        {"world": str(world), "token": token, "step": step, "version": version.version},
        f"{world}: {token} is as after step {step} (version {version.version})",
    )


def undo(world: WorldPath, as_json: AsJson = False) -> None:
    """Take the last change back: a concept learnt, or one forgotten."""
    from ..world.repository import Repository

    opened = Repository.open(world, verify=False)
    dropped = opened.undo()
    answer(
        as_json,
        {"world": str(world), "dropped": dropped.token, "version": opened.version},
        f"{world}: the last change ({dropped.token} {dropped.noun}) is taken back; the world is at version "
        f"{opened.version}",
    )


def repair(world: WorldPath, as_json: AsJson = False) -> None:
    """Go to the newest whole version, or leave out a concept of which only its own weights are broken; what
    is broken is put aside in quarantine/, not removed."""
    from ..world import repair as repairing

    found = repairing.repair(world)
    told = f"what was broken is in {world / 'quarantine'}" if found.faults else "nothing is broken"
    left = f", without {', '.join(found.without)}" if found.without else ""
    answer(
        as_json,
        {
            "world": str(world),
            "lost": found.lost,
            "spared": found.spared,
            "broken": found.faults,
            "version": found.head,
            "without": found.without,
        },
        *found.faults,
        f"{world}: {told}; the world is at version {found.head}{left}",
    )
