"""Verbs of going out and coming in: export, import."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import SettingsError
from ..studio.exchange_names import FORMATS
from .shared import AsJson, Device, Precision, SettingsFile, WorldPath, answer, bar, from_file
from .terminal import notes

if TYPE_CHECKING:
    from ..world.importing import Arrived
    from ..world.world import World


def export(
    world: WorldPath,
    tokens: Annotated[
        list[str] | None, typer.Argument(help="Concepts, such as '<rex>' '<tom>' (default: all).")
    ] = None,
    kind: Annotated[
        str,
        typer.Option(
            "--format",
            help="lora, diffusers, kohya, embedding, custom-diffusion, pipeline or world.",
            autocompletion=lambda incomplete: [name for name in FORMATS if name.startswith(incomplete)],
        ),
    ] = "lora",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder to make (of a world: zip file).", show_default="from the names"),
    ] = None,
    dtype: Annotated[
        str, typer.Option(help="float32, float16 or bfloat16.", show_default="as the world keeps them")
    ] = "",
    strength: Annotated[
        float, typer.Option(help="Times what was learnt in layers; a token's vectors go whole.")
    ] = 1.0,
    as_json: AsJson = False,
) -> None:
    """Write concepts for other programs: LoRA files, embeddings, a whole diffusers pipeline, or the world in
    one zip.
    """
    from ..world.world import World

    opened = World.open(world)
    with notes():
        done = opened.export(*(tokens or []), format=kind, out=out, dtype=dtype, strength=strength)
    record = {
        "world": str(world),
        "format": kind,
        "out": str(done.folder),
        "files": done.files,
        "prompts": done.triggers,
        "loses": done.loses,
    }
    answer(
        as_json,
        record,
        f"{done.folder}: {', '.join(done.files[:6])}{' …' if len(done.files) > 6 else ''}",
        *(f"in prompts: {prompt}" for prompt in done.triggers.values()),
        *([f"lost outside of a world: {done.loses}"] if done.loses else []),
    )


File = Annotated[
    Path | None,
    typer.Argument(
        help="LoRA, embedding or Custom Diffusion weights (.safetensors), a folder from l2dm export, or a "
        "world's zip."
    ),
]
Trigger = Annotated[
    str,
    typer.Option(
        help="Words that the file's prompts said, such as 'ohwx dog'.",
        show_default="what the file says of itself, else token's name and noun",
    ),
]
Embedding = Annotated[Path | None, typer.Option(help="File with the token's vectors, in place of a trigger.")]
DenoiserOnly = Annotated[
    bool, typer.Option("--denoiser-only", help="Leave out what a LoRA has for text encoders.")
]
Photos = Annotated[
    Path | None, typer.Option(help="Photos to remember it by.", show_default="pictures that it draws")
]
Other = Annotated[
    Path | None,
    typer.Option(
        "--from", help="Another world of the same base, or its zip: --token of it, or all its concepts."
    ),
]
To = Annotated[str, typer.Option("--as", help="With --from: its token here.", show_default="the same")]


def import_(
    world: WorldPath,
    file: File = None,
    token: Annotated[str, typer.Option(help="The word that will call it, such as '<rex>'.")] = "",
    noun: Annotated[str, typer.Option(help="Its class noun, such as dog.")] = "",
    trigger: Trigger = "",
    embedding: Embedding = None,
    denoiser_only: DenoiserOnly = False,
    photos: Photos = None,
    other: Other = None,
    to: To = "",
    discard: Annotated[bool, typer.Option("--discard", help="Drop an unfinished learning.")] = False,
    precision: Precision = None,
    device: Device = None,
    settings: SettingsFile = None,
    as_json: AsJson = False,
) -> None:
    """Take in a concept from a file of another program or from another world, or make a world of an exported
    zip.
    """
    from ..world.world import World

    if (file is None) == (other is None):
        raise SettingsError("import: give a file, or --from with another world")
    held = {"precision": precision, "device": device}
    of_files: dict[str, Any] = {
        "noun": noun,
        "trigger": trigger,
        "embedding": embedding,
        "photos": photos,
        "denoiser_only": denoiser_only,
    }
    if file is not None and file.suffix == ".zip" and not token:
        rest = {"as": to, "discard": discard, "settings": settings}
        return _unpack(file, world, of_files | held | rest, as_json)
    if file is not None and file.suffix == ".zip":
        file, other = None, file
    if (file is not None or to) and not token:
        raise SettingsError(
            "import: --token is missing; give the word that will call the concept, such as '<rex>'"
        )
    _check_fit(file, of_files, {"as": to})
    opened = World.open(world)
    chosen = from_file(settings, "learn") | {name: value for name, value in held.items() if value}
    with bar(as_json) as move, notes():
        how: dict[str, Any] = {
            "discard": discard,
            "on_progress": lambda p: move(p.stage, p.done, p.total),
            **chosen,
        }
        if file is not None:
            arrived = [opened.import_file(file, token=token, **of_files, **how)]
        elif other is not None and token:
            arrived = [opened.import_concept(other, token, to=to, **how)]
        else:
            assert other is not None
            arrived = opened.merge(other, **how)
    _tell(opened, arrived, as_json)


def _unpack(file: Path, world: Path, idle: Mapping[str, object], as_json: bool) -> None:
    """Make a world of an exported one's zip, where there is none yet. ``idle``: options that do nothing
    there; a SettingsError for one that was given.
    """
    from ..world.manifest import NAME
    from ..world.world import World

    if given := _options(idle):
        raise SettingsError(f"import: {given[0]} does nothing where a world is made of a zip; leave it out")
    if (world / NAME).exists():
        raise SettingsError(
            f"import: {world} is a world already; to take the concepts of {file} into it: "
            f"l2dm import {world} --from {file}"
        )
    made = World.import_world(file, world)
    said = ", ".join(f"{token} {noun}" for token, noun in made.concepts.items()) or "nothing yet"
    record = {"world": str(world), "version": made.version, "concepts": made.concepts}
    answer(as_json, record, f"{world}: a world of version {made.version} that has learnt {said}")


def _tell(world: World, arrived: list[Arrived], as_json: bool) -> None:
    """Answer with what has come in; the record is of the last of several, which it names all."""
    from ..report.card import card

    version, said = arrived[-1].version, [note for one in arrived for note in one.notes]
    record = {
        "world": str(world.path),
        "version": version.version,
        "token": version.token,
        "noun": version.noun,
        "notes": said,
        "arrived": {one.version.token: one.version.version for one in arrived},
        "report": card(world.manifest),
    }
    lines = [
        f"{one.version.token} {one.version.noun} has come in (version {one.version.version})"
        for one in arrived
    ]
    answer(as_json, record, *said, *(f"{world.path}: {line}" for line in lines))


def _check_fit(file: Path | None, of_files: Mapping[str, object], of_worlds: Mapping[str, object]) -> None:
    """Options that go with a ``file``, and those that go with another world, as parameters are called; a
    SettingsError for one that does nothing.
    """
    if file is not None and not of_files["noun"]:
        raise SettingsError("import: --noun is missing; give the concept's class, such as dog")
    unfit = of_worlds if file is not None else of_files
    if given := _options(unfit):
        clash = "without" if file is not None else "with"
        raise SettingsError(f"import: {given[0]} does nothing {clash} --from; leave it out")


def _options(parameters: Mapping[str, object]) -> list[str]:
    """The options that were given, as one types them."""
    return [f"--{name.replace('_', '-')}" for name, value in parameters.items() if value]
