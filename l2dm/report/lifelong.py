"""The lifelong benchmark as one HTML page: the table, curves over the concepts, a matrix for each method. Reads its JSON alone."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation import matrix
from .page import Page

#: heading -> key of a method's summary, and how many decimals
COLUMNS = {
    "identification": ("identification", 3), "just learned": ("identification_just_learned", 3), "forgetting": ("forgetting", 3),
    "image alignment": ("image_alignment", 1), "text alignment": ("text_alignment", 1), "prior drift": ("prior_drift", 3),
    "drift rate": ("drift_rate", 3), "s a concept": ("seconds_per_concept", 1),
}  # fmt: skip


def table(methods: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Head and rows, mean ± spread over the runs."""

    def cell(found: dict[str, Any], key: str, places: int) -> str:
        return f"{found[key]['mean']:.{places}f} ± {found[key]['std']:.{places}f}" if key in found else "-"

    rows = [[name, str(found["runs"]), *(cell(found, *column) for column in COLUMNS.values())] for name, found in methods.items()]
    return ["method", "runs", *COLUMNS], rows


def write_page(result: dict[str, Any], target: Path) -> Path:
    """The page of ``lifelong.json``'s content."""
    page = Page("Lifelong learning, compared", f"{result['settings']['count']} concepts one after another, every method with the same "
                "steps, photos, prompts and seeds. Mean ± standard deviation over runs, each with its own order.")  # fmt: skip
    page.heading("After the last concept")
    page.table(*table(result["methods"]))
    by_method = {m: [r for r in result["runs"] if r["method"] == m] for m in result["methods"]}
    for name, unit in (("identification", "share of pictures"), ("image_alignment", "100 x likeness")):
        page.heading(f"{name.replace('_', ' ').capitalize()} of all concepts so far")
        page.pictures([curves(by_method, name, unit)], f"mean over the concepts so far, after each concept ({unit})")
    page.heading("Identification: each concept (row) after each concept (column)")
    for method, runs in by_method.items():
        page.pictures([heat_map(runs, "identification")], f"{method}, mean of {len(runs)} runs")
    page.heading("How it was measured")
    page.table(["setting", "value"], [[k, str(v)] for k, v in result["settings"].items()])
    page.table(
        ["the judge, on unseen things", ""], [[k, f"{v:.3f}" if isinstance(v, float) else str(v)] for k, v in result["judge"].items()]
    )
    return page.save(target)


def _mean(runs: list[dict[str, Any]], name: str) -> np.ndarray:
    return np.mean([np.array(run["matrices"][name], dtype=float) for run in runs], axis=0)


def _figure(width: float, height: float):
    from matplotlib.figure import Figure  # only pages with plots need it

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.add_subplot()


def _image(figure) -> Image.Image:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def curves(by_method: dict[str, list[dict[str, Any]]], name: str, unit: str) -> Image.Image:
    """One line a method over the number of concepts, with the runs' spread as a band."""
    figure, axes = _figure(8, 4)
    for method, runs in by_method.items():
        lines = np.array([matrix.curve(np.array(run["matrices"][name], dtype=float)) for run in runs])
        x = np.arange(1, lines.shape[1] + 1)
        (drawn,) = axes.plot(x, lines.mean(0), marker="o", markersize=3, label=method)
        axes.fill_between(x, lines.min(0), lines.max(0), alpha=0.15, color=drawn.get_color())
    axes.set(xlabel="concepts learnt", ylabel=unit)
    axes.grid(alpha=0.2)
    axes.legend(fontsize=8, ncols=2)
    return _image(figure)


def heat_map(runs: list[dict[str, Any]], name: str) -> Image.Image:
    """The mean matrix M[t, j]: from left to right a concept's own life."""
    m = _mean(runs, name)
    figure, axes = _figure(4.4, 3.6)
    drawn = axes.imshow(m, vmin=0, vmax=1, cmap="viridis")
    axes.set(xlabel="after concept", ylabel="concept", xticks=range(len(m)), yticks=range(len(m)))
    axes.set_xticklabels(range(1, len(m) + 1))
    axes.set_yticklabels(range(1, len(m) + 1))
    figure.colorbar(drawn)
    return _image(figure)
