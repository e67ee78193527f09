"""The command line: thin faces over World. Every command answers with --json; errors are one line and exit code 2."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from .. import __version__
from ..errors import PromptWarning, SettingsError, os_errors
from .bench import bench_app
from .shared import AsJson, SettingsFile, ThreadCount, WorldPath, answer, bar, settings_from, whole_numbers
from .terminal import run, table

app = typer.Typer(
    help="Teach a text-to-image model one concept after another, and draw them together.\n\n"
    "Start with:  l2dm init pets;  l2dm learn pets photos/rex --token '<rex>' --noun dog;  "
    "l2dm generate pets 'a photo of <rex> dog on the beach'",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(bench_app, name="bench")


@app.command()
def check(
    photos: Annotated[Path, typer.Argument(metavar="PHOTOS", help="Folder of 1 to 30 photos.")],
    as_json: AsJson = False,
) -> None:
    """Say what a folder of photos holds, without learning anything."""
    from ..concept import check_photos

    report = check_photos(photos)
    shown = table(
        ("photo", "pixels", "caption", "notes"),
        [
            (p.path.name, f"{p.size[0]} x {p.size[1]}", p.caption or "-", "; ".join(p.notes))
            for p in report.photos
        ],
    )
    rows = [
        {
            "file": p.path.name,
            "width": p.size[0],
            "height": p.size[1],
            "caption": p.caption,
            "notes": list(p.notes),
        }
        for p in report.photos
    ]
    count = f"{len(report.photos)} usable, {len(report.problems)} not" + (
        "" if len(report.photos) >= 3 else "; 3 to 5 photos are best"
    )
    answer(as_json, {"photos": rows, "problems": list(report.problems), "notes": list(report.notes)}, shown,
           *report.problems, *report.notes, count)  # fmt: skip
    if report.problems or not report.photos:
        raise typer.Exit(2)


@app.command()
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


@app.command()
def learn(
    world: WorldPath,
    photos: Annotated[
        Path,
        typer.Argument(metavar="PHOTOS", help="Folder of 1 to 30 photos of one thing (3 to 5 are best)."),
    ],
    token: Annotated[str, typer.Option(help="The new word that will call it, such as '<rex>'.")],
    noun: Annotated[str, typer.Option(help="Its class noun, such as dog or 'duck toy'.")],
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    method: Annotated[
        str | None,
        typer.Option(help="How the past is kept, e.g. custom-diffusion or l2dm (see l2dm/methods.py)."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes everything that is random.")] = None,
    keep_if_forgetting_below: Annotated[
        float | None,
        typer.Option(help="Take the concept back if an earlier one loses more points of likeness than this."),
    ] = None,
    threads: ThreadCount = None,
    settings: SettingsFile = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")
    ] = False,
    discard: Annotated[
        bool, typer.Option("--discard", help="Drop an unfinished learning of something else.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Learn one concept from photos. Ctrl-C stops cleanly; the same command goes on where it was."""
    from ..world.world import World

    opened = World.open(world)
    options = {
        "steps": steps,
        "method": method,
        "seed": seed,
        "threads": threads,
        "keep_if_forgetting_below": keep_if_forgetting_below,
    }
    chosen = settings_from(opened, "learn", settings, options)
    with bar(as_json) as move:

        def show_progress(p: Any) -> None:
            note = f"loss {p.step.loss:.3f}  {p.step.pictures_per_second:.0f} images/s" if p.step else ""
            move(p.stage, p.done, p.total, note)

        version = opened.learn(
            photos,
            token=token,
            noun=noun,
            settings=chosen,
            skip_bad=skip_bad,
            discard=discard,
            on_progress=show_progress,
        )
    from ..report.card import card

    report = card(opened.manifest)
    answer(
        as_json,
        {"world": str(world), "version": version.version, "token": token, "noun": version.noun, "photos": version.photos,
         "seconds": version.seconds, "steps": chosen.steps, "batch": chosen.batch, "threads": version.threads, "report": report},
        f"{world}: learnt {token} {version.noun} from {version.photos} photos in {version.seconds:.0f} s (version {version.version})",
        *_report_tables(report),
        *([f"with pictures: l2dm report {world}"] if report["concepts"] else []),
    )  # fmt: skip


def _report_tables(report: dict[str, Any]) -> list[Table]:
    from ..report.card import row_cells

    if not report["concepts"]:
        return []
    return [
        table(
            ("concept", "before", "now", "change", "own"),
            map(row_cells, report["concepts"]),
            "likeness to the photos, of 100",
        ),
        table(
            ("noun", "drift"),
            [(row["noun"], f"{row['drift']:.1f}") for row in report["nouns"]],
            "the base's own nouns",
        ),
    ]


@app.command()
def report(
    world: WorldPath,
    html: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """What the last concept did to the others and to the base: a table, and a page with pictures from before and after."""
    from ..report.card import card, write_page
    from ..world.manifest import Manifest

    manifest = Manifest.read(world)
    found = card(manifest)
    if not found["concepts"]:
        answer(
            as_json,
            {"world": str(world), "report": found},
            f"{world}: no examination yet; it is made when a concept is learnt",
        )
        return
    with os_errors(f"--html {html}", SettingsError):
        write_page(world, manifest, html)
    answer(
        as_json,
        {"world": str(world), "report": found, "page": str(html)},
        *_report_tables(found),
        f"page: {html}",
    )


@app.command()
def generate(
    world: WorldPath,
    prompt: Annotated[str, typer.Argument(help="What to draw, e.g. 'a photo of <rex> dog on the beach'.")],
    n: Annotated[int | None, typer.Option("-n", help="Pictures.")] = None,
    seed: Annotated[int | None, typer.Option(help="Picture i is drawn from seed + i.")] = None,
    steps: Annotated[int | None, typer.Option(help="Sampling steps.")] = None,
    guidance_scale: Annotated[float | None, typer.Option(help="Classifier-free guidance.")] = None,
    guidance: Annotated[
        str | None,
        typer.Option(
            help="For several concepts: none, caa, oaa, l2dm, attend-and-excite, structure, collage or auto."
        ),
    ] = None,
    subjects: Annotated[
        str | None,
        typer.Option(
            help="Plain nouns of the prompt to look after, with commas (default: those found in it)."
        ),
    ] = None,
    negative_prompt: Annotated[str | None, typer.Option(help="What to keep away from.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    threads: ThreadCount = None,
    show_attention: Annotated[
        bool,
        typer.Option(
            "--show-attention",
            help="Save beside each picture where each thing was looked for, and a page of that.",
        ),
    ] = False,
    attention_steps: Annotated[
        str | None, typer.Option(help="Steps to show, from 0, with commas (default: four, spread evenly).")
    ] = None,
    settings: SettingsFile = None,
    out_folder: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")] = Path("pictures"),
    as_json: AsJson = False,
) -> None:
    """Draw a prompt: PNG files that carry prompt, seed and world version, and a contact sheet."""
    from ..generation.picture import contact_sheet, save_png
    from ..world.world import World

    opened = World.open(world)
    options = dict(n=n, seed=seed, steps=steps, guidance_scale=guidance_scale, guidance=guidance,
                   subjects=subjects, negative_prompt=negative_prompt, height=height, width=width,
                   threads=threads)  # fmt: skip
    chosen = settings_from(opened, "generate", settings, options)
    if out_folder.exists() and not out_folder.is_dir():
        raise SettingsError(f"--out {out_folder}: is a file; give a folder")
    shown = ()
    if show_attention or attention_steps:
        spread = {round(i * (chosen.steps - 1) / 3) for i in range(4)}
        shown = tuple(
            sorted(whole_numbers("--attention-steps", attention_steps) if attention_steps else spread)
        )
    with bar(as_json) as move, warnings.catch_warnings():
        warnings.simplefilter("ignore", PromptWarning)  # said below
        pictures = opened.generate(
            prompt, chosen, lambda done: move("drawing", done, chosen.n), show_attention=shown
        )
    extra = {}
    with os_errors(f"--out {out_folder}", SettingsError):
        out_folder.mkdir(parents=True, exist_ok=True)
        numbers = [int(p.stem) for p in out_folder.glob("*.png") if re.fullmatch("[0-9]{1,18}", p.stem)]
        first = 1 + max(numbers, default=-1)
        files = [str(picture.save(out_folder / f"{first + i:04d}.png")) for i, picture in enumerate(pictures)]
        save_png(contact_sheet([picture.image for picture in pictures]), out_folder / "sheet.png")
        if shown:
            extra = _save_attention(pictures, files, out_folder / f"{first:04d}-attention.html")
    told = pictures[0].provenance
    record = {
        "prompt": prompt,
        "files": files,
        "sheet": str(out_folder / "sheet.png"),
        "settings": chosen.as_dict(),
        "composition": told["composition"],
        "subjects": json.loads(told["subjects"]),
        "parts": json.loads(told["parts"]),
        "notes": told["notes"],
        **extra,
    }
    lines = [f"note: {told['notes']}"] if told["notes"] else []
    lines += [f"where it looked: {extra['attention_page']}"] if extra else []
    answer(
        as_json, record, f"{len(files)} pictures in {out_folder}; sheet: {out_folder / 'sheet.png'}", *lines
    )


def _save_attention(pictures: list[Any], files: list[str], page: Path) -> dict[str, Any]:
    """A sheet of overlays beside each of ``files``, and ``page`` with all of them."""
    from ..generation.picture import save_png
    from ..report import attention

    sheets = [str(Path(file).with_name(f"{Path(file).stem}-attention.png")) for file in files]
    for picture, sheet in zip(pictures, sheets):
        save_png(attention.sheet(picture.image, picture.attention), sheet)
    return {"attention": sheets, "attention_page": str(attention.write_page(pictures, page))}


@app.command()
def show(world: WorldPath, as_json: AsJson = False) -> None:
    """Say what a world holds."""
    from ..world.manifest import Manifest
    from ..world.store import size

    opened = Manifest.read(world)
    learnt = {v.token: v for v in opened.versions.values()}
    rows = [(token, noun, learnt.get(token)) for token, noun in opened.concepts.items()]
    taken = size(world)
    record = {
        "world": str(world), "base": opened.base, "version": opened.head, "bytes": taken,
        "concepts": [{"token": t, "noun": n, "photos": v and v.photos, "version": v and v.version} for t, n, v in rows],
    }  # fmt: skip
    shown = table(
        ("token", "noun", "photos", "seconds", "version"),
        [(t, n, *((v.photos, f"{v.seconds:.0f}", v.version) if v else "---")) for t, n, v in rows],
        f"{world}: version {opened.head} over {opened.base}",
    )
    answer(as_json, record, shown, f"{taken / 2**20:.1f} MiB on disk")


@app.command()
def history(world: WorldPath, as_json: AsJson = False) -> None:
    """Tell what happened to a world, oldest first."""
    from ..world.manifest import Manifest

    entries = Manifest.read(world, whole=False).journal
    rows = [
        (
            entry["at"],
            entry["action"],
            ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("at", "action")),
        )
        for entry in entries
    ]
    shown = table(("when", "what", "details"), rows)
    answer(as_json, {"world": str(world), "history": entries}, shown)


@app.command()
def forget(
    world: WorldPath,
    token: Annotated[str, typer.Argument(help="The concept's token, such as '<rex>'.")],
    as_json: AsJson = False,
) -> None:
    """Remove a concept on purpose: its token and all that is remembered of it."""
    from ..world.world import World

    version = World.open(world).forget(token)
    answer(
        as_json,
        {"world": str(world), "forgot": token, "version": version.version},
        f"{world}: {token} is forgotten (version {version.version})",
    )


@app.command()
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


@app.command()
def verify(world: WorldPath, as_json: AsJson = False) -> None:
    """Check every file of every version, and name what is broken."""
    from ..world.manifest import Manifest

    opened = Manifest.read(world, whole=False)
    broken = {n: found for n in opened.versions if (found := opened.damage(world, n))}
    lines = [line for found in broken.values() for line in found]
    whole = [n for n in opened.versions if n not in broken]
    way = [f"go to the newest whole version with: l2dm repair {world}"] if broken else []
    answer(
        as_json,
        {"world": str(world), "whole": whole, "broken": lines},
        *lines,
        f"whole versions: {whole or 'none'}",
        *way,
    )
    if broken:
        raise typer.Exit(2)


@app.command()
def repair(world: WorldPath, as_json: AsJson = False) -> None:
    """Go to the newest whole version; what is broken is put aside in quarantine/, not removed."""
    from ..world.world import World

    opened = World.open(world, whole=False)
    aside = opened.repair()
    told = f"versions {aside} are in {world / 'quarantine'}" if aside else "nothing is broken"
    answer(
        as_json,
        {"world": str(world), "aside": aside, "version": opened.version},
        f"{world}: {told}; the world is at version {opened.version}",
    )


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        print(f"l2dm {__version__}")
        raise typer.Exit


def main() -> None:
    """Entry point: what a user can cause ends in one line and exit code 2, never in a traceback."""
    if code := run(app, sys.argv[1:]):
        raise SystemExit(code)
