"""The verb of drawing: generate."""

from __future__ import annotations

import itertools
import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import PromptWarning, SettingsError, os_errors
from ..files import write_new
from .shared import (
    AsJson,
    Device,
    Precision,
    SettingsFile,
    ThreadCount,
    WorldPath,
    answer,
    bar,
    settings_from,
    whole_numbers,
)
from .terminal import notes

if TYPE_CHECKING:
    from ..generation import Picture

Composition = Annotated[
    str | None,
    typer.Option(
        "--composition",
        "--guidance",
        help="For several concepts: none, caa, oaa, l2dm, artists, attend-and-excite, self-cross, structure, "
        "mudi, confined, collage or auto.",
    ),
]
Subjects = Annotated[
    str | None,
    typer.Option(help="Plain nouns of the prompt to look after, with commas (default: those found in it)."),
]
Layout = Annotated[
    str | None,
    typer.Option(
        help="Where each thing goes, by hand: '<rex>: left, <pip>: 0.5,0.2,0.9,0.8' (x0,y0,x1,y1 in shares "
        "of the picture)."
    ),
]
Offload = Annotated[
    bool | None,
    typer.Option(
        "--offload", help="On a small GPU: keep in its memory only the part of the base that works."
    ),
]
ShowAttention = Annotated[
    bool,
    typer.Option(
        "--show-attention",
        help="Save beside each picture where each thing was looked for, and a page of that.",
    ),
]
AttentionSteps = Annotated[
    str | None, typer.Option(help="Steps to show, from 0, with commas (default: four, spread evenly).")
]
BasePlace = Annotated[
    str | None, typer.Option(help="Where the world's base lies, this once; l2dm relocate records it.")
]


def generate(
    world: WorldPath,
    prompt: Annotated[str, typer.Argument(help="What to draw, e.g. 'a photo of <rex> dog on the beach'.")],
    n: Annotated[int | None, typer.Option("-n", help="Pictures.")] = None,
    seed: Annotated[int | None, typer.Option(help="Picture i is drawn from seed + i.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance.")] = None,
    composition: Composition = None,
    subjects: Subjects = None,
    layout: Layout = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    threads: ThreadCount = None,
    precision: Precision = None,
    device: Device = None,
    offload: Offload = None,
    show_attention: ShowAttention = False,
    attention_steps: AttentionSteps = None,
    base: BasePlace = None,
    settings: SettingsFile = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("pictures"),
    as_json: AsJson = False,
) -> None:
    """Draw a prompt: PNG files that carry prompt, seed and world version, and a contact sheet."""
    from ..world.store import check_outside
    from ..world.world import World

    opened = World.open(world, verify=False, base=base)
    chosen = settings_from(opened, "generate", settings, locals())
    if out_folder.exists() and not out_folder.is_dir():
        raise SettingsError(f"--out {out_folder}: is a file; give a folder")
    check_outside(world, out_folder, "--out")
    shown = _steps_shown(attention_steps, chosen.steps) if show_attention or attention_steps else ()
    with bar(as_json) as move, notes():
        warnings.simplefilter("ignore", PromptWarning)  # said below
        pictures = opened.generate(
            prompt, chosen, lambda done: move("drawing", done, chosen.n), show_attention=shown
        )
    files, sheet, extra = _save(pictures, out_folder, bool(shown))
    told = pictures[0].provenance
    record = {
        "prompt": prompt,
        "files": files,
        "sheet": str(sheet),
        "settings": chosen.as_dict(),
        "composition": told["composition"],
        "subjects": json.loads(told["subjects"]),
        "parts": json.loads(told["parts"]),
        "layout": told["layout"],
        "notes": told["notes"],
        **extra,
    }
    lines = [f"note: {told['notes']}"] if told["notes"] else []
    lines += [f"where it looked: {extra['attention_page']}"] if extra else []
    answer(as_json, record, f"{len(files)} pictures in {out_folder}; sheet: {sheet}", *lines)


def _steps_shown(asked: str | None, steps: int) -> tuple[int, ...]:
    """The steps that ``--attention-steps`` names; without it four of all ``steps``, spread evenly."""
    spread = {round(i * (steps - 1) / 3) for i in range(4)}
    return tuple(sorted(whole_numbers("--attention-steps", asked) if asked else spread))


def _save(pictures: list[Picture], folder: Path, attention: bool) -> tuple[list[str], Path, dict[str, Any]]:
    """The files of ``pictures``, numbered on from those in ``folder``, their contact sheet, and with
    ``attention`` what shows that.
    """
    from ..generation.picture import contact_sheet, save_png

    with os_errors(f"--out {folder}", SettingsError):
        folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(p.stem) for p in folder.glob("*.png") if re.fullmatch("[0-9]{1,18}", p.stem)]
        free = (folder / f"{i:04d}.png" for i in itertools.count(1 + max(numbers, default=-1)))
        files = [str(write_new(free, picture.png())) for picture in pictures]
        first = Path(files[0])
        sheet = first.with_name(f"{first.stem}-sheet.png")  # as nobody else's has the first one's name
        save_png(contact_sheet([picture.image for picture in pictures]), sheet)
        return files, sheet, _save_attention(pictures, files) if attention else {}


def _save_attention(pictures: list[Picture], files: list[str]) -> dict[str, Any]:
    """A sheet of overlays beside each of ``files``, and beside the first a page with all of them."""
    from ..generation.picture import save_png
    from ..report import attention

    sheets = [str(Path(file).with_name(f"{Path(file).stem}-attention.png")) for file in files]
    for picture, sheet in zip(pictures, sheets):
        save_png(attention.sheet(picture.image, picture.attention), sheet)
    page = attention.write_page(pictures, Path(sheets[0]).with_suffix(".html"))
    return {"attention": sheets, "attention_page": str(page)}
