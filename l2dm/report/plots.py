"""The plots of a benchmark of sequences, each from its runs' matrices or its methods' summaries."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from ..evaluation import matrix

By = dict[str, list[dict[str, Any]]]  # method -> its runs

FEW = 8  # methods that are told apart by colour, each with its spread
STYLES = ("-", "--", ":")
#: cost -> how it is called, and what it is divided by
COSTS = {"seconds_per_concept": ("seconds a concept", 1), "bytes_per_concept": ("MB a concept", 1e6)}
ABREAST = 6  # heat maps in a row


def plot(width: float, height: float, rows: int = 1, columns: int = 1):
    """A figure of ``width`` x ``height`` inches, and its axes."""
    from matplotlib.figure import Figure  # only pages with plots need it

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns)


def image(figure) -> Image.Image:
    """``figure``, drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def curves(by_method: By, name: str, unit: str) -> Image.Image:
    """One line a method over the number of concepts, the best at the end named first; of few methods also the runs' spread."""
    figure, axes = plot(7.4, 4.4)
    lines = {
        method: np.array([matrix.curve(np.array(run["matrices"][name], dtype=float)) for run in runs]) for method, runs in by_method.items()
    }
    for k, method in enumerate(sorted(lines, key=lambda method: -lines[method][:, -1].mean())):
        own = lines[method]
        x = np.arange(1, own.shape[1] + 1)
        (drawn,) = axes.plot(x, own.mean(0), STYLES[k // 10 % len(STYLES)], marker="o", markersize=3, label=method)
        if len(lines) <= FEW:
            axes.fill_between(x, own.min(0), own.max(0), alpha=0.12, color=drawn.get_color())
    axes.set(xlabel="concepts learnt", ylabel=unit)
    axes.grid(alpha=0.2)
    figure.legend(loc="outside right upper", fontsize=7, frameon=False)
    return image(figure)


def costs(methods: dict[str, Any], name: str, key: str) -> Image.Image:
    """Score ``name`` at the end over cost ``key``, with both spreads."""
    figure, axes = plot(6.4, 4.4)
    text, unit = COSTS[key]
    for method, found in methods.items():
        x, y = found[key], found[name]
        axes.errorbar(x["mean"] / unit, y["mean"], y["std"], x["std"] / unit, fmt="o", markersize=4, capsize=2)
        axes.annotate(method, (x["mean"] / unit, y["mean"]), textcoords="offset points", xytext=(5, 4), fontsize=7)
    axes.set(xlabel=text, ylabel=name.replace("_", " "))
    axes.margins(x=0.2)
    axes.set_xlim(left=0)
    axes.grid(alpha=0.2)
    return image(figure)


def heat_maps(by_method: By, name: str) -> Image.Image:
    """Every method's mean matrix M[t, j], in one scale of colours: from left to right a concept's own life."""
    means = {m: np.mean([np.array(run["matrices"][name], dtype=float) for run in runs], axis=0) for m, runs in by_method.items()}
    low, high = (0, 1) if name == "identification" else (min(map(np.nanmin, means.values())), max(map(np.nanmax, means.values())))
    columns = min(ABREAST, len(means))
    rows = -(-len(means) // columns)
    figure, axes = plot(2 * columns + 0.8, 2.2 * rows, rows, columns)
    axes = np.atleast_1d(axes).flatten()
    for place, (method, mean) in zip(axes, means.items()):
        drawn = place.imshow(mean, vmin=low, vmax=high, cmap="viridis")
        place.set_title(method, fontsize=8)
        place.set(xticks=[], yticks=[])
    for place in axes[len(means) :]:
        place.set_axis_off()
    figure.supxlabel("after concept", fontsize=8)
    figure.supylabel("concept", fontsize=8)
    figure.colorbar(drawn, ax=list(axes), shrink=0.8)
    return image(figure)
