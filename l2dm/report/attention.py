"""Attention maps laid over the pictures that they belong to: a sheet for a picture, a page for a call."""

from __future__ import annotations

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
    """The picture in grey, under ``map`` (h, w) from transparent at 0 over red to white at ``brightest``; ``side``: its longer side."""
    scale = side / max(image.size)
    size = round(image.width * scale), round(image.height * scale)
    grey = np.asarray(
        image.convert("L").convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32
    )
    shown = Image.fromarray((map / max(brightest, 1e-12)).clip(0, 1).astype(np.float32)).resize(
        size, Image.Resampling.BICUBIC
    )
    heat = np.asarray(shown).clip(0, 1)[..., None]
    colour = (255 * (3 * heat - np.arange(3))).clip(0, 255)
    return Image.fromarray(
        (grey * (1 - 0.8 * heat) + 0.8 * heat * colour).round().clip(0, 255).astype(np.uint8)
    )


def outlined(image: Image.Image, region: np.ndarray | None) -> Image.Image:
    """``image`` with a line along the inner edge of ``region`` (h, w), of bool; None: as it is."""
    if region is None:
        return image
    inside = np.asarray(Image.fromarray(region).resize(image.size, Image.Resampling.NEAREST))
    beyond = np.pad(inside, 1)
    within = beyond[:-2, 1:-1] & beyond[2:, 1:-1] & beyond[1:-1, :-2] & beyond[1:-1, 2:]
    pixels = np.asarray(image).copy()
    pixels[inside & ~within] = EDGE
    return Image.fromarray(pixels)


def overlays(
    image: Image.Image, snapshots: tuple[AttentionSnapshot, ...], side: int = 128
) -> list[list[tuple[str, Image.Image]]]:
    """One row for each thing, in the prompt's order, and in it ``(label, overlay)`` of each step; a thing's brightest cell is white."""
    steps = list(dict.fromkeys(snapshot.step for snapshot in snapshots))
    rows = []
    for i in range(
        len(snapshots) // max(1, len(steps))
    ):  # of each step the things stand in one order; two may share a name
        own = [[g for g in snapshots if g.step == step][i] for step in steps]
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


def write_page(pictures: list[Picture], target: Path) -> Path:
    """The pictures of one prompt, each followed by its things' maps."""
    page = Page("Where it looked", "Cross-attention of each thing named, over the picture; from left to right the sampling's steps, white is "
                "the thing's own brightest cell. A blue line goes round the part of the picture that it was held to in that step.")  # fmt: skip
    for picture in pictures:
        page.heading(f"seed {picture.seed}")
        page.pictures([picture.image], picture.prompt)
        for row in overlays(picture.image, picture.attention):
            page.pictures([shown for _, shown in row], ", ".join(label for label, _ in row))
    return page.save(target)
