"""A picture and where it came from; sheets of pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image, PngImagePlugin

from ..files import write_whole
from .attention_recorder import AttentionSnapshot


@dataclass(frozen=True)
class Picture:
    """A drawn picture. ``provenance`` is written into the PNG as text chunks. ``attention``: the maps that
    were asked for.
    """

    image: Image.Image
    prompt: str
    seed: int
    provenance: dict[str, str]
    attention: tuple[AttentionSnapshot, ...] = field(default=(), repr=False)

    def png(self) -> bytes:
        """A PNG file's content, with the provenance."""
        return _png(self.image, self.provenance)

    def save(self, path: str | Path) -> Path:
        """Write the PNG whole or not at all."""
        return write_whole(Path(path).expanduser(), self.png())


def save_png(image: Image.Image, path: str | Path, told: dict[str, str] | None = None) -> Path:
    """Write a PNG whole or not at all, with ``told`` as its text chunks."""
    return write_whole(Path(path).expanduser(), _png(image, told or {}))


def _png(image: Image.Image, told: dict[str, str]) -> bytes:
    content, info = io.BytesIO(), PngImagePlugin.PngInfo()
    for name, value in told.items():
        info.add_itxt(name, value)
    image.save(content, "PNG", pnginfo=info)
    return content.getvalue()


def contact_sheet(images: list[Image.Image], columns: int = 4, cell: int = 192, gap: int = 6) -> Image.Image:
    """``images`` in rows of ``columns``, each fitted into ``cell`` pixels (enlarged without blur)."""
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (cell + gap) + gap, rows * (cell + gap) + gap), "white")
    for i, image in enumerate(images):
        scale = cell / max(image.size)
        size = [max(1, round(s * scale)) for s in image.size]
        resized = image.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
        sheet.paste(resized, (gap + i % columns * (cell + gap), gap + i // columns * (cell + gap)))
    return sheet
