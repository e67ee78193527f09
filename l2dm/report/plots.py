"""The plots of a benchmark of sequences, each from its runs' matrices or its methods' summaries."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..evaluation import matrix

if TYPE_CHECKING:
    from matplotlib.figure import Figure

By = dict[str, list[dict[str, Any]]]  # method -> its runs

FEW = 8  # methods that are told apart by colour, each with its spread
#: of more than these: which have a colour, and which; the others are grey
MARKED = {"l2dm": "C3", "sequential": "C0", "custom-diffusion": "C1", "separate": "C2", "gated-kv": "C4"}
GREY = "0.65"
#: cost -> how it is called, and what it is divided by
COSTS = {"seconds_per_concept": ("seconds a concept", 1), "bytes_per_concept": ("MB a concept", 1e6)}
ABREAST = 6  # heat maps in a row


def plot(width: float, height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, Any]:
    """A figure of ``width`` x ``height`` inches, and its axes."""
    from matplotlib.figure import Figure  # only pages with plots need it

    figure = Figure(figsize=(width, height), dpi=110, layout="constrained")
    return figure, figure.subplots(rows, columns)


def image(figure: Figure) -> Image.Image:
    """``figure``, drawn."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return Image.open(buffer).convert("RGB")


def colours(methods: list[str]) -> dict[str, str]:
    """Of each method, the same in every plot."""
    return (
        {m: f"C{k}" for k, m in enumerate(methods)}
        if len(methods) <= FEW
        else {m: MARKED.get(m, GREY) for m in methods}
    )


def apart(values: list[float], gap: float) -> list[float]:
    """``values``, falling, moved as little as need be, so that each is ``gap`` or more below the one before
    it.
    """
    groups: list[
        list[float]
    ] = []  # each stands with its members ``gap`` apart about the mean of their values
    for value in values:
        groups.append([value])
        while len(groups) > 1 and _foot(groups[-2], gap) - _head(groups[-1], gap) < gap:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_head(group, gap) - k * gap for group in groups for k in range(len(group))]


def _head(group: list[float], gap: float) -> float:
    return sum(group) / len(group) + (len(group) - 1) / 2 * gap


def _foot(group: list[float], gap: float) -> float:
    return _head(group, gap) - (len(group) - 1) * gap


def curves(by_method: By, name: str, unit: str) -> Image.Image:
    """One line a method over the number of concepts, its name at its end; of few methods also the runs'
    spread.
    """
    figure, axes = plot(7.4, 4.6)
    lines = {
        method: np.array([matrix.curve(np.array(run["matrices"][name], dtype=float)) for run in runs])
        for method, runs in by_method.items()
    }
    order, colour = sorted(lines, key=lambda method: -lines[method][:, -1].mean()), colours(list(lines))
    for method in order:
        own, marked = lines[method], colour[method] != GREY
        x = np.arange(1, own.shape[1] + 1)
        style = {"marker": "o", "markersize": 3, "linewidth": 2} if marked else {"linewidth": 0.8}
        axes.plot(x, own.mean(0), color=colour[method], zorder=2 + marked, **style)
        if len(lines) <= FEW:
            axes.fill_between(x, own.min(0), own.max(0), alpha=0.12, color=colour[method])
    axes.set(xlabel="concepts learnt", ylabel=unit)
    axes.grid(alpha=0.2)
    low, high = axes.get_ylim()
    ends = [float(lines[method][:, -1].mean()) for method in order]
    for method, end, place in zip(order, ends, apart(ends, (high - low) / 26)):
        text = {
            "color": "0.35" if colour[method] == GREY else colour[method],
            "fontsize": 7,
            "va": "center",
            "annotation_clip": False,
        }
        axes.annotate(
            method,
            (lines[method].shape[1], end),
            (1.04, (place - low) / (high - low)),
            textcoords="axes fraction",
            arrowprops={"arrowstyle": "-", "color": "0.85", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 2},
            **text,
        )
    return image(figure)


def costs(methods: dict[str, Any], name: str, key: str) -> Image.Image:
    """Score ``name`` at the end over cost ``key``, with both spreads."""
    figure, axes = plot(6.4, 4.4)
    (text, unit), colour = COSTS[key], colours(list(methods))
    for method, found in methods.items():
        x, y, own = found[key], found[name], colour[method]
        axes.errorbar(
            x["mean"] / unit,
            y["mean"],
            y["std"],
            x["std"] / unit,
            fmt="o",
            markersize=4,
            capsize=2,
            color=own,
        )
        place = {
            "textcoords": "offset points",
            "xytext": (5, 4),
            "fontsize": 7,
            "color": "0.35" if own == GREY else own,
        }
        axes.annotate(method, (x["mean"] / unit, y["mean"]), **place)
    axes.set(xlabel=text, ylabel=name.replace("_", " "))
    axes.margins(x=0.2)
    values = [found[key]["mean"] for found in methods.values()]
    if max(values) > 50 * min(values) > 0:
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)
    axes.grid(alpha=0.2)
    return image(figure)


def heat_maps(by_method: By, name: str) -> Image.Image:
    """Every method's mean matrix M[t, j], in one scale of colours: left to right is a concept's own life."""
    means = {
        m: np.mean([np.array(run["matrices"][name], dtype=float) for run in runs], axis=0)
        for m, runs in by_method.items()
    }
    low, high = (
        (0, 1)
        if name == "identification"
        else (min(map(np.nanmin, means.values())), max(map(np.nanmax, means.values())))
    )
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
