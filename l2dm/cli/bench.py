"""l2dm bench: the benchmarks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from ..errors import SettingsError
from ..settings import read_toml
from .shared import AsJson, SettingsFile, answer, whole_numbers

bench_app = typer.Typer(help="Benchmarks: the same concepts, prompts and seeds for every method.", no_args_is_help=True)


@bench_app.command()
def lifelong(
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the runs and results; finished runs in it are not repeated.")],
    methods: Annotated[
        str, typer.Option(help="Rows of l2dm/methods.py, with commas.")
    ] = "sequential,custom-diffusion,replay,l2dm,separate",
    seeds: Annotated[str, typer.Option(help="One run each, with its own order of the concepts.")] = "0,1,2",
    count: Annotated[int, typer.Option(help="Concepts of a run.", min=1)] = 10,
    concepts: Annotated[Path | None, typer.Option(help="Folder with a concepts.json (default: the shipped ten).")] = None,
    base: Annotated[str, typer.Option(help="As for init.")] = "mini",
    settings: SettingsFile = None,
    workers: Annotated[int, typer.Option(help="Runs at a time; 0: one a core.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """One concept after another for several methods: the score matrix of each run, JSON, plots, one page. Resumes."""
    from ..bench.lifelong import Plan, bench
    from ..bench.subjects import Subjects
    from ..methods import METHODS
    from ..report.lifelong import table, write_page

    chosen = [name.strip() for name in methods.split(",")]
    if unknown := [name for name in chosen if name not in METHODS]:
        raise SettingsError(f"--methods: unknown method {unknown[0]!r}; known: {', '.join(METHODS)}")
    numbers = whole_numbers("--seeds", seeds)
    folder = str(concepts.resolve()) if concepts else "shipped"
    if count > (have := len(Subjects.read(folder).concepts)):
        raise SettingsError(f"--count {count}: {folder} holds {have} concepts")
    cores = os.cpu_count() or 1
    at_once = workers or cores
    plan = Plan(folder, base, count, learn=read_toml(settings, "learn") if settings else {})
    result = bench(plan, chosen, numbers, out_folder, at_once, max(1, cores // at_once))
    page = write_page(result, out_folder / "lifelong.html")
    answer(as_json, {"methods": result["methods"], "page": str(page)}, _shown(*table(result["methods"])), f"page: {page}")


@bench_app.command()
def multi(
    worlds: Annotated[
        list[Path],
        typer.Argument(metavar="WORLD...", help="Worlds that have learnt the benchmark's concepts: one for all seeds, or one for each."),
    ],
    out_folder: Annotated[Path, typer.Option("--out", help="Folder of the parts and results; finished parts in it are not repeated.")],
    guidances: Annotated[
        str, typer.Option(help="Rows of l2dm/bench/multi.py, with commas; unmix and attend are the two halves of caa.")
    ] = "none,l2dm,caa,oaa,attend-and-excite,structure",
    seeds: Annotated[str, typer.Option(help="Whole numbers with commas.")] = "0,1,2",
    triples: Annotated[int, typer.Option(help="Random triples of concepts; all pairs are drawn.", min=0)] = 20,
    pictures: Annotated[int, typer.Option(help="Pictures of each prompt.", min=1)] = 2,
    concepts: Annotated[Path | None, typer.Option(help="Folder with a concepts.json (default: the shipped ten).")] = None,
    settings: SettingsFile = None,
    workers: Annotated[int, typer.Option(help="Parts at a time; 0: one a core.", min=0)] = 0,
    as_json: AsJson = False,
) -> None:
    """Several concepts in one prompt, with every guidance: the judge's verdicts, JSON, one page. Resumes."""
    from ..bench.multi import ROWS, Plan, bench, samples
    from ..report.multi import table, write_page

    chosen = [name.strip() for name in guidances.split(",")]
    if unknown := [name for name in chosen if name not in ROWS]:
        raise SettingsError(f"--guidances: unknown guidance {unknown[0]!r}; known: {', '.join(ROWS)}")
    numbers = whole_numbers("--seeds", seeds)
    if min(numbers) < 0:
        raise SettingsError(f"--seeds {seeds}: expected numbers from 0 on")
    cores = os.cpu_count() or 1
    at_once = workers or cores
    plan = Plan(
        str(concepts.resolve()) if concepts else "shipped", pictures, triples, generate=read_toml(settings, "generate") if settings else {}
    )
    result = bench(plan, chosen, numbers, worlds, out_folder, at_once, max(1, cores // at_once))
    page = write_page(result, samples(out_folder, chosen, numbers[0]), out_folder / "multi.html")
    answer(as_json, {"guidance": result["guidance"], "page": str(page)}, _shown(*table(result["guidance"])), f"page: {page}")


def _shown(head: list[str], rows: list[list[str]]) -> Table:
    shown = Table(*head)
    for row in rows:
        shown.add_row(*row)
    return shown
