"""Verbs that give a world its base and its CLIP model: init, relocate. They alone download, and say what
before.
"""

from __future__ import annotations

from typing import Annotated

import typer

from .shared import AsJson, WorldPath, answer

_BASE = (
    "The shipped base (mini), a diffusers folder or .safetensors checkpoint of a known family, or a hub id."
)
_CLIP = "CLIP model that pictures are remembered and compared by: a folder, a hub id, or none."
Revision = Annotated[str, typer.Option(help="Of a hub id: branch, tag or commit.")]
Variant = Annotated[str, typer.Option(help="Weights to take where there are several, such as fp16.")]
Config = Annotated[
    str,
    typer.Option(help="Of a .safetensors checkpoint: a diffusers folder or hub id with its configurations."),
]


def init(
    world: WorldPath,
    base: Annotated[str, typer.Option(help=_BASE)] = "mini",
    clip: Annotated[
        str | None, typer.Option(help=f"{_CLIP} Default: the base's own, else its family's.")
    ] = None,
    revision: Revision = "",
    variant: Variant = "",
    config: Config = "",
    as_json: AsJson = False,
) -> None:
    """Make a fresh world over a base model."""
    from ..world.world import World

    made = World.create(world, base, clip, revision, variant, config)
    notes = [f"note: {note}" for note in made.backbone().notes]
    answer(
        as_json,
        {
            "world": str(world),
            "base": made.manifest.base,
            "clip": made.manifest.clip,
            "version": 0,
            "notes": notes,
        },
        f"{world}: a fresh world over {made.manifest.base}",
        *notes,
    )


def relocate(
    world: WorldPath,
    base: Annotated[
        str | None, typer.Option(help=f"Where the world's own base lies now. {_BASE}", show_default=False)
    ] = None,
    clip: Annotated[str | None, typer.Option(help=f"{_CLIP} A world without one is given it.")] = None,
    revision: Revision = "",
    variant: Variant = "",
    config: Config = "",
    as_json: AsJson = False,
) -> None:
    """Tell a world where its base lies now (only the very same weights are taken), or which CLIP model to
    remember by.
    """
    from ..world.world import World

    opened = World.open(world, verify=False)
    late = opened.relocate(base, clip, revision, variant, config)
    found = opened.manifest
    note = (
        f"note: {', '.join(late)}: learnt without a CLIP model, so remembered by what the world draws of them"
    )
    answer(
        as_json,
        {"world": str(world), "base": found.base, "clip": found.clip, "version": found.head, "drawn": late},
        f"{world}: its base is at {found.base}, its CLIP model: {found.clip}",
        *([note] if late else []),
    )
