"""Verbs that take something back: forget, undo, repair."""

from __future__ import annotations

from typing import Annotated

import typer

from .shared import AsJson, WorldPath, answer


def forget(
    world: WorldPath,
    token: Annotated[str, typer.Argument(help="The concept's token, such as '<rex>'.")],
    as_json: AsJson = False,
) -> None:
    """Remove a concept on purpose: its token and all that is remembered of it."""
    from ..world.world import World

    opened = World.open(world)
    version = opened.forget(token)
    kept = [number for number, earlier in opened.manifest.versions.items() if token in earlier.concepts]
    answer(
        as_json,
        {"world": str(world), "forgot": token, "version": version.version, "kept_for_undo": kept},
        f"{world}: {token} is forgotten (version {version.version}); versions {kept} keep it for undo",
    )


def undo(world: WorldPath, as_json: AsJson = False) -> None:
    """Take the last change back: a concept learnt, or one forgotten."""
    from ..world.world import World

    opened = World.open(world, whole=False)
    dropped = opened.undo()
    answer(
        as_json,
        {"world": str(world), "dropped": dropped.token, "version": opened.version},
        f"{world}: the last change ({dropped.token} {dropped.noun}) is taken back; the world is at version {opened.version}",
    )


def repair(world: WorldPath, as_json: AsJson = False) -> None:
    """Go to the newest whole version; what is broken is put aside in quarantine/, not removed."""
    from ..world import repair as repairing

    found = repairing.repair(world)
    told = f"what was broken is in {world / 'quarantine'}" if found.faults else "nothing is broken"
    answer(
        as_json,
        {
            "world": str(world),
            "lost": found.lost,
            "spared": found.spared,
            "broken": found.faults,
            "version": found.head,
        },
        *found.faults,
        f"{world}: {told}; the world is at version {found.head}",
    )
