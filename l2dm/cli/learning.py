"""Verbs of learning: learn, report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..errors import SettingsError, os_errors
from ..processes import Processes
from ..settings import LearnSettings
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
)
from .terminal import notes, table

if TYPE_CHECKING:
    from ..world.manifest import Manifest
    from ..world.version import Version

PhotoFolder = Annotated[
    Path, typer.Argument(metavar="PHOTOS", help="Folder of 1 to 30 photos of one thing (3 to 5 are best).")
]
MethodName = Annotated[
    str | None,
    typer.Option(help="How the past is kept, e.g. custom-diffusion or l2dm (see l2dm/methods.py)."),
]
Masks = Annotated[
    str | None,
    typer.Option(
        metavar="FOLDER|beside|alpha",
        help="White is the subject: masks with the photos' names in a folder, photo-masklabel.png beside "
        "them, or their transparency.",
    ),
]
ClassPictures = Annotated[
    Path | None,
    typer.Option(help="Folder of pictures of the noun, instead of drawn ones (methods with prior pairs)."),
]
Buckets = Annotated[
    bool | None,
    typer.Option("--buckets", help="Learn each photo in its own aspect ratio, not its centre square."),
]
Noun = Annotated[
    str | None, typer.Option(help="Its class noun, such as dog or 'duck toy'; not needed with --more.")
]
More = Annotated[
    bool,
    typer.Option("--more", help="So many more steps for a concept that is learnt already, as a new version."),
]
SampleEvery = Annotated[
    int | None, typer.Option(help="Steps between sample pictures, kept in the world's version.")
]
SamplePrompt = Annotated[str | None, typer.Option(help="What samples show; several are parted by |.")]
KeepEvery = Annotated[
    int | None, typer.Option(help="Steps between weights that are kept to choose from with pick.")
]
TrackerName = Annotated[
    str | None, typer.Option("--tracker", help="tensorboard or wandb: losses and samples go there too.")
]
KeepIf = Annotated[
    float | None,
    typer.Option(help="Take the concept back if an earlier one loses more points of likeness than this."),
]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out files that cannot be used.")]
Discard = Annotated[bool, typer.Option("--discard", help="Drop an unfinished learning of something else.")]


def learn(
    world: WorldPath,
    photos: PhotoFolder,
    token: Annotated[str, typer.Option(help="The new word that will call it, such as '<rex>'.")],
    noun: Noun = None,
    more: More = False,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps.")] = None,
    method: MethodName = None,
    vectors: Annotated[int | None, typer.Option(help="Of the token; several hold more.")] = None,
    masks: Masks = None,
    class_pictures: ClassPictures = None,
    buckets: Buckets = None,
    sample_every: SampleEvery = None,
    sample_prompt: SamplePrompt = None,
    keep_every: KeepEvery = None,
    tracker: TrackerName = None,
    seed: Annotated[int | None, typer.Option(help="Fixes everything that is random.")] = None,
    keep_if_forgetting_below: KeepIf = None,
    threads: ThreadCount = None,
    precision: Precision = None,
    device: Device = None,
    settings: SettingsFile = None,
    skip_bad: SkipBad = False,
    discard: Discard = False,
    as_json: AsJson = False,
) -> None:
    """Learn one concept from photos. Ctrl-C stops cleanly; the same command goes on where it was. Several
    GPUs: accelerate launch -m l2dm learn.
    """
    from ..world.world import World

    processes = Processes.together()
    opened = World.open(world)
    chosen = settings_from(opened, "learn", settings, locals())
    with bar(as_json or not processes.is_main) as move, notes():

        def show_progress(p: Any) -> None:
            note = f"loss {p.step.loss:.3f}  {p.step.pictures_per_second:.0f} images/s" if p.step else ""
            move(p.stage, p.done, p.total, note)

        version = opened.learn(
            photos,
            token=token,
            noun=noun or "",
            more=more,
            settings=chosen,
            skip_bad=skip_bad,
            discard=discard,
            on_progress=show_progress,
            processes=processes,
        )
    if processes.is_main:
        _say_learnt(world, opened.manifest, version, chosen, more, as_json)


def _say_learnt(
    world: Path, manifest: Manifest, version: Version, chosen: LearnSettings, more: bool, as_json: bool
) -> None:
    from ..report.card import card

    report, token = card(manifest), version.token
    record = {
        "world": str(world),
        "version": version.version,
        "token": token,
        "noun": version.noun,
        "photos": version.photos,
        "seconds": version.seconds,
        "steps": chosen.steps,
        "batch": chosen.batch,
        "threads": version.threads,
        "adopted": version.adopted,
        "report": report,
    }
    adopted = f"{token} was in the base already: learning began with its {version.adopted} vector(s)"
    done = (
        f"{world}: {'went on with' if more else 'learnt'} {token} {version.noun} from {version.photos} "
        f"photos in {version.seconds:.0f} s (version {version.version})"
    )
    lines = [adopted, done] if version.adopted else [done]
    pictures = [f"with pictures: l2dm report {world}"] if report["concepts"] else []
    answer(as_json, record, *lines, *_report_tables(report), *pictures)


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


def report(
    world: WorldPath,
    html: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("report.html"),
    as_json: AsJson = False,
) -> None:
    """What the last concept did to the others and to the base: a table, and a page with pictures from before
    and after.
    """
    from ..report.card import card, write_page
    from ..world.manifest import steadily
    from ..world.store import check_outside

    check_outside(world, html, "--html")

    def write(manifest: Manifest) -> dict[str, Any]:
        found = card(manifest)
        if found["concepts"]:
            with os_errors(f"--html {html}", SettingsError):
                write_page(world, manifest, html)
        return found

    found = steadily(world, write)
    if not found["concepts"]:
        answer(
            as_json,
            {"world": str(world), "report": found},
            f"{world}: no examination yet; it is made when a concept is learnt",
        )
        return
    answer(
        as_json,
        {"world": str(world), "report": found, "page": str(html)},
        *_report_tables(found),
        f"page: {html}",
    )
