"""A benchmark of sequences as one HTML page: who is best, the tables, pictures, curves, a matrix for each
method. Reads its JSON alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation.summary import summary
from ..methods import METHODS, Method
from . import plots
from .page import Page

#: heading -> key of a method's summary, how many decimals, and what it is divided by; what no method has is
#: left out
COLUMNS: dict[str, tuple[str, int, float]] = {
    "identification": ("identification", 3, 1),
    "just learned": ("identification_just_learned", 3, 1),
    "forgetting": ("forgetting", 3, 1),
    "image alignment": ("image_alignment", 1, 1),
    "image forgetting": ("image_forgetting", 1, 1),
    "text alignment": ("text_alignment", 1, 1),
    "text forgetting": ("text_forgetting", 1, 1),
    "text cosine": ("text_cosine", 1, 1),
    "DINO alignment": ("dino_alignment", 1, 1),
    "DINO forgetting": ("dino_forgetting", 1, 1),
    "prior drift": ("prior_drift", 3, 1),
    "drift rate": ("drift_rate", 3, 1),
    "two together": ("two_concepts", 3, 1),
    "two, guided": ("two_concepts_guided", 3, 1),
    "two, collage": ("two_concepts_collage", 3, 1),
    "three together": ("three_concepts", 3, 1),
    "three, guided": ("three_concepts_guided", 3, 1),
    "three, collage": ("three_concepts_collage", 3, 1),
    "s a concept": ("seconds_per_concept", 1, 1),
    "tenth over second": ("seconds_k10_over_k2", 2, 1),
    "peak MB": ("peak_memory_mb", 0, 1),
    "its tenth over second": ("peak_memory_k10_over_k2", 2, 1),
    "MB a concept": ("bytes_per_concept", 2, 1e6),
}
#: matrix -> its unit
UNITS = {
    "identification": "share of pictures",
    "image_alignment": "100 x cosine",
    "text_alignment": "100 x 2.5 max(cosine, 0)",
    "dino_alignment": "100 x cosine by DINO",
}

#: the page's tables
KEPT = (
    "identification",
    "identification_just_learned",
    "forgetting",
    "image_alignment",
    "image_forgetting",
    "text_alignment",
    "prior_drift",
    "drift_rate",
    "dino_alignment",
    "dino_forgetting",
)
COST = (
    "seconds_per_concept",
    "seconds_k10_over_k2",
    "peak_memory_mb",
    "peak_memory_k10_over_k2",
    "bytes_per_concept",
)
TOGETHER = tuple(key for key, *_ in COLUMNS.values() if key.startswith(("two_", "three_")))
#: what fits into a terminal
BRIEF = ("identification", "forgetting", "image_alignment", "text_alignment", "prior_drift")
#: figures by which L2DM and the best method are held against each other -> whether more is better
STANDING = {
    "identification": True,
    "image_alignment": True,
    "forgetting": False,
    "prior_drift": False,
    "two_concepts_collage": True,
    "three_concepts_collage": True,
}
CEILINGS = ("separate", "separate-key-value", "joint")
WHOLE = "l2dm"


def table(methods: dict[str, Any], keys: tuple[str, ...] = ()) -> tuple[list[str], list[list[str]]]:
    """Head and rows, mean ± spread over the runs. ``keys`` of the summaries: all where none is given."""
    columns = {
        head: column
        for head, column in COLUMNS.items()
        if any(column[0] in found for found in methods.values()) and (not keys or column[0] in keys)
    }
    rows = [
        [
            name,
            str(found["runs"]),
            *(
                _cell(found.get(key), places, unit, found["runs"] > 1)
                for key, places, unit in columns.values()
            ),
        ]
        for name, found in methods.items()
    ]
    return ["method", "runs", *columns], rows


def _cell(value: dict[str, float] | None, places: int, unit: float = 1, spread: bool = True) -> str:
    """Mean ± spread; of one run it has none."""
    if not value:
        return "-"
    return f"{value['mean'] / unit:.{places}f}" + (f" ± {value['std'] / unit:.{places}f}" if spread else "")


def ablations(result: dict[str, Any], keys: tuple[str, ...] = BRIEF) -> tuple[list[str], list[list[str]]]:
    """Head and rows: of each method "l2dm-without-..." its figures less L2DM's own on the same seed and
    order, mean ± spread.
    """
    alone = {
        (run["method"], run["seed"]): summary([run])
        for run in result["runs"]
        if run["method"].startswith(WHOLE)
    }
    columns = {
        head: column
        for head, column in COLUMNS.items()
        if column[0] in keys and column[0] in result["methods"].get(WHOLE, {})
    }
    rows = []
    for method in (m for m in result["methods"] if m.startswith((f"{WHOLE}-without-", f"{WHOLE}-uniform-"))):
        seeds = [seed for name, seed in alone if name == method and (WHOLE, seed) in alone]
        cells = []
        for key, places, unit in columns.values():
            apart = [alone[method, seed][key]["mean"] - alone[WHOLE, seed][key]["mean"] for seed in seeds]
            spread = float(np.std(apart, ddof=1)) if len(apart) > 1 else 0.0
            cells.append(
                f"{np.mean(apart) / unit:+.{places}f} ± {spread / unit:.{places}f}" if apart else "-"
            )
        rows.append([method, str(len(seeds)), *cells])
    return ["less L2DM's own", "runs", *columns], rows


def standing(methods: dict[str, Any], ours: str = WHOLE) -> list[str]:
    """Of each figure of STANDING a sentence: whether ``ours`` leads, and by more than both spreads. Ceilings
    and ``ours`` without a part are no rivals."""
    lines = []
    for key, more in STANDING.items():
        rivals = [
            m
            for m in methods
            if m not in CEILINGS and not m.startswith((f"{ours}-without-", f"{ours}-uniform-"))
        ]
        have = {m: methods[m][key] for m in rivals if key in methods[m]}
        if ours not in have or len(have) < 2:
            continue
        order = sorted(have, key=lambda m: have[m]["mean"], reverse=more)
        rival = next(m for m in order if m != ours)
        gap = abs(have[ours]["mean"] - have[rival]["mean"])
        clear = "beyond" if gap > have[ours]["std"] + have[rival]["std"] else "within"
        tied = have[ours]["mean"] == have[rival]["mean"]
        number = 1 + [have[m]["mean"] for m in order].index(have[ours]["mean"])
        place = "ties with" if tied else "leads before" if order[0] == ours else "is behind"
        places = 3 if have[ours]["mean"] < 2 else 1
        lines.append(
            f"{key.replace('_', ' ')}: {ours} ({_cell(have[ours], places)}) {place} {rival} "
            f"({_cell(have[rival], places)})"
            + ("" if tied else f", {clear} the spreads")
            + f"; it is number {number} of {len(order)}."
        )
    return lines


def _flat(card: dict[str, Any], name: str = "") -> Iterator[tuple[str, Any]]:
    """Every figure of a card, by its whole name."""
    for key, value in card.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{name}{key}: ")
        else:
            yield f"{name}{key}".replace("_", " "), value


def write_page(
    result: dict[str, Any],
    target: Path,
    title: str = "Lifelong learning, compared",
    command: str = "",
    samples: dict[str, list[Image.Image]] | None = None,
) -> Path:
    """The page of a benchmark's JSON. ``command`` made it; ``samples``: of each method one picture of each
    concept, as it is at the end.
    """
    note = result["judge"].get("note", "")
    lead_in = (
        f"{note + ' ' if note else ''}{result['settings']['count']} concepts one after another, every method "
        "with the same steps, photos, prompts and seeds. Mean ± standard deviation over the runs, the best "
        "at the end first."
    )
    page = Page(title, lead_in)
    lead = next(iter(result["runs"][0]["matrices"]))
    methods = dict(sorted(result["methods"].items(), key=lambda row: -row[1][lead]["mean"]))
    page.heading("After the last concept")
    page.table(*table(methods, KEPT), WHOLE)
    for line in standing(methods):
        page.text(line)
    if "published" in result:
        page.text(result["published"]["source"])
        page.table(
            ["method", "image alignment", "text alignment"],
            [[m, *row] for m, row in result["published"]["methods"].items()],
        )
    if any(key in found for found in methods.values() for key in TOGETHER):
        page.heading("Several concepts in one prompt")
        page.text(
            "Share of pictures in which the judge finds everything named, each with its own looks, nothing "
            "twice: plainly sampled, guided by L2DM's attention artists, as a collage."
        )
        page.table(*table(methods, TOGETHER), WHOLE)
    if samples:
        page.heading("Every concept after the last, by each method")
        page.text(
            "The first picture of the first prompt of each concept, from the same seed for every method; "
            "none is chosen."
        )
        page.rows({m: samples[m] for m in ["photos", *methods] if m in samples})
    by_method = {m: [r for r in result["runs"] if r["method"] == m] for m in methods}
    matrices = result["runs"][0]["matrices"]
    names = [name for name in UNITS if name in matrices and matrices[name][0][0] is not None]
    page.heading("All concepts so far, after each concept")
    curves = {name: plots.curves(by_method, name, UNITS[name]) for name in names}
    page.plots({f"{name.replace('_', ' ')} ({UNITS[name]})": curve for name, curve in curves.items()})
    head, rows = ablations(result)
    if rows:
        page.heading("What each part of L2DM does")
        page.table(head, rows)
    _costs(page, methods, lead)
    _by_concept(page, by_method, lead, names[:2])
    _how(page, result, methods, command)
    return page.save(target)


def _costs(page: Page, methods: dict[str, Any], lead: str) -> None:
    page.heading("What it costs")
    whole = {m: found for m, found in methods.items() if not m.startswith(f"{WHOLE}-without-")}
    page.table(*table(methods, COST), WHOLE)
    page.plots(
        {
            f"{lead.replace('_', ' ')} over {text}": plots.costs(whole, lead, key)
            for key, (text, _) in plots.COSTS.items()
        }
    )


def _by_concept(page: Page, by_method: dict[str, list[dict[str, Any]]], lead: str, names: list[str]) -> None:
    page.heading(
        f"{lead.replace('_', ' ').capitalize()}: each concept (row) after each concept (column), mean of the "
        "runs"
    )
    page.plots(
        {f"{name.replace('_', ' ')} ({UNITS[name]})": plots.heat_maps(by_method, name) for name in names},
        across=True,
    )


def _how(page: Page, result: dict[str, Any], methods: dict[str, Any], command: str) -> None:
    page.heading("What the methods are")
    page.table(["method", ""], [[method, _said(method, result["runs"])] for method in methods])
    page.heading("How it was measured")
    if command:
        page.text(f"Every figure of this page: {command}")
    page.table(["setting", "value"], [[k, str(v)] for k, v in result["settings"].items()])
    page.table(
        ["the judge", ""],
        [[k, f"{v:.3f}" if isinstance(v, float) else str(v)] for k, v in _flat(result["judge"])],
    )


def _said(method: str, runs: list[dict[str, Any]]) -> str:
    """What a method is; and that its row was another one when ``runs`` were made, where it was."""
    now, text = METHODS[method].choices(), METHODS[method].text
    then = [
        {**Method("").choices(), **run["row"]} for run in runs if run["method"] == method and "row" in run
    ]
    return (
        text
        if all(row == now for row in then)
        else f"{text} (these runs were made by an earlier form of the row)"
    )
