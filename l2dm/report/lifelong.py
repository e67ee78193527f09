"""A benchmark of sequences as one HTML page: the table, curves over the concepts, a matrix for each method. Reads its JSON alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation import matrix
from .page import Page

#: heading -> key of a method's summary, how many decimals, and what it is divided by; what no method has is left out
COLUMNS = {
    "identification": ("identification", 3, 1), "just learned": ("identification_just_learned", 3, 1), "forgetting": ("forgetting", 3, 1),
    "image alignment": ("image_alignment", 1, 1), "image forgetting": ("image_forgetting", 1, 1),
    "text alignment": ("text_alignment", 1, 1), "text forgetting": ("text_forgetting", 1, 1), "text cosine": ("text_cosine", 1, 1),
    "DINO alignment": ("dino_alignment", 1, 1), "DINO forgetting": ("dino_forgetting", 1, 1), "prior drift": ("prior_drift", 3, 1),
    "drift rate": ("drift_rate", 3, 1), "s a concept": ("seconds_per_concept", 1, 1), "peak MB": ("peak_memory_mb", 0, 1),
    "MB a concept": ("bytes_per_concept", 2, 1e6), "two together": ("two_concepts", 3, 1), "two, guided": ("two_concepts_guided", 3, 1),
    "two, collage": ("two_concepts_collage", 3, 1),
    "three together": ("three_concepts", 3, 1), "three, guided": ("three_concepts_guided", 3, 1),
    "three, collage": ("three_concepts_collage", 3, 1),
}  # fmt: skip
#: matrix -> its unit
UNITS = {
    "identification": "share of pictures", "image_alignment": "100 x cosine", "text_alignment": "100 x 2.5 max(cosine, 0)",
    "dino_alignment": "100 x cosine by DINO",
}  # fmt: skip

#: cost -> how it is called in a plot; and what it is divided by
COSTS = {"seconds_per_concept": "seconds a concept", "bytes_per_concept": "MB a concept"}
COST_UNITS = {"bytes_per_concept": 1e6}

#: what fits into a terminal
BRIEF = ("identification", "forgetting", "image_alignment", "text_alignment", "prior_drift")


def table(methods: dict[str, Any], keys: tuple[str, ...] = ()) -> tuple[list[str], list[list[str]]]:
    """Head and rows, mean ± spread over the runs. ``keys`` of the summaries: all where none is given."""
    columns = {
        head: column
        for head, column in COLUMNS.items()
        if any(column[0] in found for found in methods.values()) and (not keys or column[0] in keys)
    }

    def cell(found: dict[str, Any], key: str, places: int, unit: float) -> str:
        return f"{found[key]['mean'] / unit:.{places}f} ± {found[key]['std'] / unit:.{places}f}" if key in found else "-"

    rows = [[name, str(found["runs"]), *(cell(found, *column) for column in columns.values())] for name, found in methods.items()]
    return ["method", "runs", *columns], rows


def write_page(
    result: dict[str, Any], target: Path, title: str = "Lifelong learning, compared", command: str = "", samples: dict[str, list[Path]] | None = None
) -> Path:  # fmt: skip
    """The page of a benchmark's JSON. ``command`` made it; ``samples``: of each method one picture of each concept, as it is at the end."""
    note = result["judge"].get("note", "")
    page = Page(title, f"{note + ' ' if note else ''}{result['settings']['count']} concepts one after another, every method with the same "
                "steps, photos, prompts and seeds. Mean ± standard deviation over the runs.")  # fmt: skip
    page.heading("After the last concept")
    page.table(*table(result["methods"]))
    if "published" in result:
        page.text(result["published"]["source"])
        page.table(["method", "image alignment", "text alignment"], [[m, *row] for m, row in result["published"]["methods"].items()])
    by_method = {m: [r for r in result["runs"] if r["method"] == m] for m in result["methods"]}
    names = [n for n in UNITS if n in result["runs"][0]["matrices"] and result["runs"][0]["matrices"][n][0][0] is not None]
    if samples:
        page.heading("Every concept after the last, by each method")
        page.text("The first picture of the first prompt of each concept, from the same seed for every method; none is chosen.")
        for method, files in samples.items():
            page.pictures([Image.open(file).convert("RGB") for file in files], method)
    page.heading("All concepts so far, after each concept")
    page.plots({f"{name.replace('_', ' ')} ({UNITS[name]})": curves(by_method, name, UNITS[name]) for name in names})
    page.heading("What it costs")
    page.plots({f"{names[0].replace('_', ' ')} over {text}": costs(result["methods"], names[0], key, text) for key, text in COSTS.items()})
    page.heading(f"{names[0].replace('_', ' ').capitalize()}: each concept (row) after each concept (column)")
    span = (0, 1) if names[0] == "identification" else _span(by_method, names[0])
    page.plots({f"{method}, mean of {len(runs)} runs": heat_map(runs, names[0], span) for method, runs in by_method.items()})
    page.heading("How it was measured")
    if command:
        page.text(f"Every figure of this page: {command}")
    page.table(["setting", "value"], [[k, str(v)] for k, v in result["settings"].items()])
    page.table(["the judge", ""], [[k, f"{v:.3f}" if isinstance(v, float) else str(v)] for k, v in result["judge"].items()])
    return page.save(target)


def _span(by_method: dict[str, list[dict[str, Any]]], name: str) -> tuple[float, float]:
    """The least and the greatest entry of all methods: one scale of colours for all."""
    means = [_mean(runs, name) for runs in by_method.values()]
    return float(np.nanmin(means)), float(np.nanmax(means))


def _mean(runs: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.mean([np.array(run["matrices"][name], dtype=float) for run in runs], axis=0)


def plot(width: float, height: float):
    """A figure of ``width`` x ``height`` inches, and its axes."""
    from matplotlib.figure import Figure  # only pages with plots need it

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.add_subplot()


def image(figure) -> Image.Image:
    """``figure``, drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def curves(by_method: dict[str, list[dict[str, Any]]], name: str, unit: str) -> Image.Image:
    """One line a method over the number of concepts, with the runs' spread as a band."""
    figure, axes = plot(5.6, 4)
    for method, runs in by_method.items():
        lines = np.array([matrix.curve(np.array(run["matrices"][name], dtype=float)) for run in runs])
        x = np.arange(1, lines.shape[1] + 1)
        (drawn,) = axes.plot(x, lines.mean(0), marker="o", markersize=3, label=method)
        axes.fill_between(x, lines.min(0), lines.max(0), alpha=0.15, color=drawn.get_color())
    axes.set(xlabel="concepts learnt", ylabel=unit)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8, ncols=2)
    return image(figure)


def costs(methods: dict[str, Any], name: str, key: str, text: str) -> Image.Image:
    """Score ``name`` at the end over cost ``key``, with both spreads."""
    figure, axes = plot(5.6, 4)
    for method, found in methods.items():
        x, y, unit = found[key], found[name], COST_UNITS.get(key, 1)
        axes.errorbar(x["mean"] / unit, y["mean"], y["std"], x["std"] / unit, fmt="o", markersize=4, capsize=2, label=method)
        axes.annotate(method, (x["mean"] / unit, y["mean"]), textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.set(xlabel=text, ylabel=name.replace("_", " "))
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.2)
    return image(figure)


def heat_map(runs: list[dict[str, Any]], name: str, span: tuple[float, float]) -> Image.Image:
    """The mean matrix M[t, j], coloured over ``span``: from left to right a concept's own life."""
    m = _mean(runs, name)
    figure, axes = plot(4.4, 3.6)
    drawn = axes.imshow(m, vmin=span[0], vmax=span[1], cmap="viridis")
    axes.set(xlabel="after concept", ylabel="concept", xticks=range(len(m)), yticks=range(len(m)))
    axes.set_xticklabels(range(1, len(m) + 1))
    axes.set_yticklabels(range(1, len(m) + 1))
    figure.colorbar(drawn)
    return image(figure)
