"""Attention maps laid over the pictures that they belong to: a sheet for a picture, a page for a call."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw

from .page import Page

if TYPE_CHECKING:
    from ..generation import AttentionSnapshot, Picture

LABEL = 16  # pixels above each overlay for its words
EDGE = (0, 190, 255)  # of the part of the picture that a thing is held to


def overlay(image: Image.Image, map: np.ndarray, brightest: float, side: int = 128) -> Image.Image:
    """The picture in grey, under ``map`` (h, w) from transparent at 0 over red to white at ``brightest``;
    ``side``: its longer side.
    """
    size = _fitted(image, side)
    grey = np.asarray(
        image.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32
    )
    heat, colour = _glow(map / max(brightest, 1e-12), size)
    return Image.fromarray(
        (grey * (1 - 0.8 * heat) + 0.8 * heat * colour).round().clip(0, 255).astype(np.uint8)
    )


def outlined(image: Image.Image, region: np.ndarray | None) -> Image.Image:
    """``image``, in RGB or RGBA, with a line along the inner edge of ``region`` (h, w), of bool; None: as it
    is.
    """
    if region is None:
        return image
    inside = np.asarray(Image.fromarray(region).resize(image.size, Image.Resampling.NEAREST))
    beyond = np.pad(inside, 1)
    within = beyond[:-2, 1:-1] & beyond[2:, 1:-1] & beyond[1:-1, :-2] & beyond[1:-1, 2:]
    pixels = np.asarray(image).copy()
    pixels[inside & ~within] = (*EDGE, 255)[: pixels.shape[-1]]
    return Image.fromarray(pixels)


def veils(
    image: Image.Image, snapshots: tuple[AttentionSnapshot, ...], side: int = 256
) -> list[tuple[str, Image.Image]]:
    """Of each thing, in the prompt's order, its name and the mean of its maps over the steps, in RGBA, to be
    laid over the picture itself; with a line around the part that it is held to, where there is one."""
    size, found = _fitted(image, side), []
    for own in _by_thing(snapshots):
        mean = np.mean([snapshot.map for snapshot in own], axis=0)
        heat, colour = _glow(mean / max(float(mean.max()), 1e-12), size)
        rgba = np.concatenate([colour, 255 * 0.8 * heat], axis=-1)
        veil = Image.fromarray(rgba.round().clip(0, 255).astype(np.uint8))
        found.append((own[0].name, outlined(veil, own[-1].region)))
    return found


def _fitted(image: Image.Image, side: int) -> tuple[int, int]:
    scale = side / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _glow(map: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """``map`` in [0, 1] at ``size``: how much it hides (h, w, 1), and its colours (h, w, 3) from black over
    red to white.
    """
    shown = Image.fromarray(map.clip(0, 1).astype(np.float32)).resize(size, Image.Resampling.BICUBIC)
    heat = np.asarray(shown).clip(0, 1)[..., None]
    return heat, (255 * (3 * heat - np.arange(3))).clip(0, 255)


def _by_thing(snapshots: tuple[AttentionSnapshot, ...]) -> list[list[AttentionSnapshot]]:
    """Of each thing its snapshots. In each step the things stand in one order; two may share a name."""
    steps = list(dict.fromkeys(snapshot.step for snapshot in snapshots))
    things = len(snapshots) // max(1, len(steps))
    return [[[g for g in snapshots if g.step == step][i] for step in steps] for i in range(things)]


def overlays(
    image: Image.Image, snapshots: tuple[AttentionSnapshot, ...], side: int = 128
) -> list[list[tuple[str, Image.Image]]]:
    """One row for each thing, in the prompt's order, and in it ``(label, overlay)`` of each step; a thing's
    brightest cell is white.
    """
    rows = []
    for own in _by_thing(snapshots):
        brightest = max(float(g.map.max()) for g in own)
        shown = [outlined(overlay(image, g.map, brightest, side), g.region) for g in own]
        rows.append([(f"{g.name} step {g.step}", one) for g, one in zip(own, shown)])
    return rows


def sheet(image: Image.Image, snapshots: tuple[AttentionSnapshot, ...], side: int = 128) -> Image.Image:
    """A row for each thing, a column for each step, with words above each overlay."""
    rows = overlays(image, snapshots, side)
    width, height = rows[0][0][1].size
    out = Image.new("RGB", (len(rows[0]) * width, len(rows) * (height + LABEL)), "white")
    draw = ImageDraw.Draw(out)
    for y, row in enumerate(rows):
        for x, (label, shown) in enumerate(row):
            draw.text((x * width + 3, y * (height + LABEL) + 2), label, fill="black")
            out.paste(shown, (x * width, y * (height + LABEL) + LABEL))
    return out


def labelled(pictures: list[tuple[str, Image.Image]], columns: int = 5, side: int = 192) -> Image.Image:
    """``pictures`` in rows, each under its words, which may take two lines."""
    rows, high = -(-len(pictures) // columns), side + 2 * LABEL
    out = Image.new("RGB", (columns * side, rows * high), "white")
    draw = ImageDraw.Draw(out)
    for i, (words, image) in enumerate(pictures):
        x, y = i % columns * side, i // columns * high
        draw.text((x + 3, y + 2), "\n".join(textwrap.wrap(words, 30)[:2]), fill="black")
        out.paste(image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC), (x, y + 2 * LABEL))
    return out


def write_page(pictures: list[Picture], target: Path) -> Path:
    """The pictures of one prompt, each followed by its things' maps."""
    page = Page(
        "Where it looked",
        "Cross-attention of each thing named, over the picture; from left to right the sampling's steps, "
        "white is "
        "the thing's own brightest cell. A blue line goes round the part of the picture that it was held to "
        "in that step.",
    )
    for picture in pictures:
        page.heading(f"seed {picture.seed}")
        page.pictures([picture.image], picture.prompt)
        for row in overlays(picture.image, picture.attention):
            page.pictures([shown for _, shown in row], ", ".join(label for label, _ in row))
    return page.save(target)
