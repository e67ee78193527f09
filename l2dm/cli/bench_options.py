"""The options that several of the benchmarks' commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

OutFolder = Annotated[
    Path, typer.Option("--out", help="Folder of the runs and results; finished runs in it are not repeated.")
]
Methods = Annotated[str, typer.Option(help="Rows of l2dm/methods.py, with commas, or all.")]
Seeds = Annotated[str, typer.Option(help="One run each, with commas.")]
Count = Annotated[int, typer.Option(help="Concepts of a run.", min=1)]
Base = Annotated[str, typer.Option(help="As for init.")]
Clip = Annotated[str, typer.Option(help="CLIP model that worlds remember by, as for init.")]
Workers = Annotated[
    int,
    typer.Option(
        help="Runs at a time; 0: one on a GPU, or one a core. Several GPUs: accelerate launch -m l2dm bench.",
        min=0,
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(help="Run on a Ray cluster: its address (it must see --out and the data), or local."),
]
ConceptsFolder = Annotated[
    Path | None, typer.Option(help="Folder with a concepts.json (default: the shipped ten).")
]
JudgeOption = Annotated[str, typer.Option(help="shipped, or the folder or hub id of CLIP or DINO.")]
Pictures = Annotated[
    int, typer.Option(help="Pictures of each prompt; a run of many concepts needs fewer.", min=1)
]
Compositions = Annotated[
    str,
    typer.Option(
        "--compositions",
        "--guidances",
        help="Rows of l2dm/bench/multi.py, with commas; unmix and attend are the two halves of caa.",
    ),
]
PromptKinds = Annotated[
    str,
    typer.Option(help="Of prompts: all, or two_concepts, two_of_one_noun and so on, with commas; time."),
]
