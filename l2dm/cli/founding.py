"""Verbs that give a world its base: init."""

from __future__ import annotations

from typing import Annotated

import typer

from .shared import AsJson, WorldPath, answer


def init(
    world: WorldPath,
    base: Annotated[
        str,
        typer.Option(
            help="The shipped base (mini), a Stable Diffusion 1.x/2.x diffusers folder, or a hub id."
        ),
    ] = "mini",
    clip: Annotated[
        str | None,
        typer.Option(
            help="CLIP model that pictures are remembered and compared by: a folder, a hub id, or none. Default: the base's own, else its family's."
        ),
    ] = None,
    revision: Annotated[str, typer.Option(help="Of a hub id: branch, tag or commit.")] = "",
    variant: Annotated[str, typer.Option(help="Weights to take where there are several, such as fp16.")] = "",
    config: Annotated[
        str,
        typer.Option(
            help="Of a .safetensors checkpoint: a diffusers folder or hub id with its configurations."
        ),
    ] = "",
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
