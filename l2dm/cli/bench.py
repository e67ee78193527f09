"""l2dm bench: the benchmarks."""

from __future__ import annotations

import importlib.util
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from ..errors import SettingsError
from ..processes import main_process
from . import terminal
from .bench_options import (
    Base,
    Clip,
    Compositions,
    ConceptsFolder,
    Count,
    JudgeOption,
    Methods,
    OutFolder,
    Pictures,
    PromptKinds,
    Ray,
    Seeds,
    Workers,
)
from .shared import AsJson, SettingsFile, answer, from_file, names, whole_numbers

bench_app = typer.Typer(
    help="Benchmarks: the same concepts, prompts and seeds for every method.", no_args_is_help=True
)

COMPARED = "sequential,custom-diffusion,ewc,replay,l2dm-published,l2dm,gated-kv,gated-lora,separate"


@bench_app.command()
def lifelong(
    out_folder: OutFolder,
    methods: Methods = COMPARED,
    seeds: Seeds = "0,1,2",
    count: Count = 10,
    concepts: ConceptsFolder = None,
    base: Base = "mini",
    clip: Clip = "",
    judge: JudgeOption = "shipped",
    pictures: Pictures = 2,
    settings: SettingsFile = None,
    workers: Workers = 0,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """One concept after another for several methods: the score matrix of each run, JSON, plots, one page.
    Resumes.
    """
    _measure(
        _lifelong(count, concepts, base, clip, judge, settings, pictures),
        methods,
        seeds,
        out_folder,
        workers,
        ray,
        as_json,
    )


@bench_app.command(name="all")
def everything(
    out_folder: OutFolder,
    methods: Methods = "all",
    seeds: Seeds = "0,1,2",
    count: Count = 10,
    concepts: ConceptsFolder = None,
    base: Base = "mini",
    clip: Clip = "",
    judge: JudgeOption = "shipped",
    settings: SettingsFile = None,
    workers: Workers = 0,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """Every method of l2dm/methods.py: bench lifelong, then several concepts in each world; comparison.json
    and .html. Resumes.
    """
    from ..bench.comparison import bench

    plan = _lifelong(count, concepts, base, clip, judge, settings)
    _measure(
        plan,
        methods,
        seeds,
        out_folder,
        workers,
        ray,
        as_json,
        "comparison",
        "Every method on one ground",
        bench,
    )


@bench_app.command()
def cifc10(
    out_folder: OutFolder,
    data: Annotated[Path, typer.Option(help="Folder of the protocol's ten concepts and prompts.")],
    base: Base = "mini",
    clip: Annotated[
        str,
        typer.Option(help="CLIP's folder or hub id; base: the base's own pair, as a check of the machinery."),
    ] = "openai/clip-vit-base-patch32",
    world_clip: Annotated[str, typer.Option(help="CLIP model that worlds remember by, as init --clip.")] = "",
    dino: Annotated[
        str, typer.Option(help="DINO's folder or hub id; empty: without.")
    ] = "facebook/dino-vits16",
    methods: Methods = COMPARED,
    seeds: Seeds = "0,1,2",
    order: Annotated[
        str, typer.Option(help="Of the concepts: published, or shuffled by the seed.")
    ] = "published",
    count: Annotated[int, typer.Option(help="Concepts of a run.", min=1, max=10)] = 10,
    prompts: Annotated[int, typer.Option(help="Prompts of a concept.", min=1)] = 20,
    images: Annotated[int, typer.Option(help="Pictures of a prompt.", min=1)] = 50,
    steps: Annotated[int, typer.Option(help="Sampling steps.", min=1)] = 50,
    negative_prompt: Annotated[
        str, typer.Option(help="What to keep away from; CIDM's own script has one.")
    ] = "",
    batch: Annotated[int, typer.Option(help="Pictures drawn at once.", min=1)] = 5,
    settings: SettingsFile = None,
    workers: Workers = 0,
    ray: Ray = None,
    as_json: AsJson = False,
) -> None:
    """The CIFC-10 protocol (arXiv 2410.17594) as published; smaller with --images, --prompts, --steps.
    Resumes.
    """
    from ..bench.cifc10 import Plan, learning, read

    if order not in ("published", "shuffled"):
        raise SettingsError(f"--order {order}: expected published or shuffled")
    read(data, prompts)
    plan = Plan(
        str(data.resolve()),
        _absolute(base),
        _absolute(clip),
        _absolute(dino),
        count,
        order,
        prompts,
        images,
        steps,
        negative_prompt=negative_prompt,
        batch=batch,
        learn=learning(from_file(settings, "learn")),
        world_clip=_absolute(world_clip),
    )
    _measure(plan, methods, seeds, out_folder, workers, ray, as_json, title="The CIFC-10 protocol")


@bench_app.command()
def multi(
    worlds: Annotated[
        list[Path],
        typer.Argument(
            metavar="WORLD...",
            help="Worlds that have learnt the benchmark's concepts: one for all seeds, or one for each.",
        ),
    ],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder of the parts and results; finished parts in it are not repeated."),
    ],
    compositions: Compositions = "none,collage,l2dm,artists,caa,oaa,attend-and-excite,structure",
    kinds: PromptKinds = "all",
    seeds: Annotated[str, typer.Option(help="Whole numbers with commas.")] = "0,1,2",
    triples: Annotated[
        int, typer.Option(help="Random triples of concepts; all pairs are drawn.", min=0)
    ] = 20,
    pictures: Annotated[int, typer.Option(help="Pictures of each prompt.", min=1)] = 1,
    concepts: Annotated[
        Path | None, typer.Option(help="Folder with a concepts.json (default: the shipped ten).")
    ] = None,
    judge: JudgeOption = "shipped",
    settings: SettingsFile = None,
    workers: Annotated[int, typer.Option(help="Parts at a time; 0: one on a GPU, or one a core.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Several concepts in one prompt, with every composition: the judge's verdicts, JSON, a page. Resumes."""
    from ..bench.multi import KINDS, ROWS, Plan, bench, samples
    from ..bench.pool import resolve_workers
    from ..report.multi import table, write_page

    needs_plots()
    chosen, asked = names("--compositions", compositions, list(ROWS)), names("--kinds", kinds, list(KINDS))
    numbers = whole_numbers("--seeds", seeds)
    if min(numbers) < 0:
        raise SettingsError(f"--seeds {seeds}: expected numbers from 0 on")
    plan = Plan(
        str(concepts.resolve()) if concepts else "shipped",
        pictures,
        triples,
        judge=_absolute(judge),
        generate=from_file(settings, "generate"),
    )
    result = bench(plan, chosen, numbers, worlds, out_folder, *resolve_workers(workers), asked)
    page = write_page(
        result, samples(out_folder, list(result["compositions"]), numbers[0]), out_folder / "multi.html"
    )
    if main_process():
        answer(
            as_json,
            {"compositions": result["compositions"], "page": str(page)},
            terminal.table(*table(result["compositions"])),
            f"page: {page}",
        )


def _lifelong(
    count: int,
    concepts: Path | None,
    base: str,
    clip: str,
    judge: str,
    settings: Path | None,
    pictures: int = 2,
) -> Any:
    from ..bench.lifelong import Plan
    from ..bench.subjects import Subjects

    folder = str(concepts.resolve()) if concepts else "shipped"
    if count > (have := len(Subjects.read(folder).concepts)):
        raise SettingsError(f"--count {count}: {folder} holds {have} concepts")
    return Plan(
        folder,
        _absolute(base),
        count,
        pictures,
        learn=from_file(settings, "learn"),
        judge=_absolute(judge),
        world_clip=_absolute(clip),
    )


def _measure(
    plan: Any,
    methods: str,
    seeds: str,
    out: Path,
    workers: int,
    ray: str | None,
    as_json: bool,
    name: str = "",
    title: str = "",
    bench: Callable[..., dict[str, Any]] | None = None,
) -> None:
    """Run, write JSON and page, and answer with the table."""
    from ..bench import runs
    from ..bench.pool import resolve_workers
    from ..methods import METHODS
    from ..report.lifelong import BRIEF, table, write_page

    needs_plots()
    chosen = names("--methods", methods, list(METHODS))
    numbers = whole_numbers("--seeds", seeds)
    name = name or plan.name
    result = (bench or runs.bench)(plan, chosen, numbers, out, *resolve_workers(workers), ray)
    headed = {"title": title} if title else {}
    page = write_page(
        result,
        out / f"{name}.html",
        command=shlex.join(["l2dm", *sys.argv[1:]]),
        samples=runs.samples(plan, out, result),
        **headed,
    )
    if main_process():
        answer(
            as_json,
            {"methods": result["methods"], "page": str(page)},
            terminal.table(*table(result["methods"], BRIEF)),
            f"all figures: {page}",
        )


def needs_plots() -> None:
    """Say now, and not after hours, that the page's plots lack their package."""
    if importlib.util.find_spec("matplotlib") is None:
        raise SettingsError("l2dm bench: the package matplotlib is not installed; pip install 'l2dm[bench]'")


def _absolute(place: str) -> str:
    """A folder's whole path, since a worker may stand elsewhere; our own names and hub ids as they are."""
    return (
        str(Path(place).resolve())
        if place not in ("", "mini", "shipped", "base", "none") and Path(place).exists()
        else place
    )
