"""Icons: fetched from the npm registry by name and version, rendered with resvg, kept as RGBA arrays.

Eight emoji sets under permissive licences. Six drawing styles (``TRAIN_STYLES``) teach the base; the two
``HELD_OUT_STYLES`` are never seen by any part of it: their icons are the personal concepts of demo and
benchmarks.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

ICON_SIDE = 224  # pixels: more than a thing has in a picture of 128, so that pictures are sharp

#: package -> (version, licence, the caption's word for its drawing style)
STYLES = {
    "noto": ("1.2.9", "Apache-2.0", "soft"),
    "noto-v1": ("1.2.5", "Apache-2.0", "glossy"),
    "twemoji": ("1.2.5", "CC-BY-4.0", "flat"),
    "emojione": ("1.2.3", "CC-BY-4.0", "bold"),
    "fxemoji": ("1.2.2", "Apache-2.0", "pale"),
    "streamline-emojis": ("1.2.4", "CC-BY-4.0", "outlined"),
    "fluent-emoji": ("1.2.7", "MIT", ""),
    "fluent-emoji-flat": ("1.2.6", "MIT", ""),
}
TRAIN_STYLES = ("noto", "noto-v1", "twemoji", "emojione", "fxemoji", "streamline-emojis")
HELD_OUT_STYLES = ("fluent-emoji", "fluent-emoji-flat")

NOUNS: dict[str, list[str]] = json.loads((Path(__file__).parent / "nouns.json").read_text())


@dataclass(frozen=True)
class Icon:
    """One drawing of one thing: straight (not premultiplied) RGBA, ``(side, side, 4)`` uint8, cropped to its
    ink.
    """

    noun: str
    style: str
    name: str
    rgba: np.ndarray


def fetch(package: str, work: Path, member: str = "icons") -> dict:
    """The iconify JSON of one package (``icons`` or ``metadata``), downloaded once into ``work`` with npm."""
    version = STYLES[package][0]
    tgz = work / f"iconify-json-{package}-{version}.tgz"
    if not tgz.exists():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "pack", "--silent", f"@iconify-json/{package}@{version}"], cwd=work, check=True
        )
    with tarfile.open(tgz) as tar:
        return json.load(tar.extractfile(f"package/{member}.json"))


def render(icons: dict, name: str, side: int = ICON_SIDE) -> np.ndarray | None:
    """Icon ``name`` of an iconify set, cropped to its ink, the longer side filling ``side`` pixels."""
    import resvg_py  # only here: composing scenes does not need it

    entry = icons["icons"].get(name) or icons["icons"].get(
        icons.get("aliases", {}).get(name, {}).get("parent")
    )
    if entry is None:
        return None
    width = entry.get("width", icons.get("width", 16))
    height = entry.get("height", icons.get("height", 16))
    left, top = entry.get("left", 0), entry.get("top", 0)
    canvas = max(256, side * 3 // 2)  # room for what the crop takes away
    svg = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{canvas}" height="{canvas}">{entry["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    image = Image.open(io.BytesIO(png)).convert("RGBA")
    box = image.getchannel("A").point(lambda a: 255 if a > 16 else 0).getbbox()
    if box is None:
        return None
    image = image.crop(box)
    scale = side / max(image.size)
    size = [max(1, round(s * scale)) for s in image.size]
    square = Image.new("RGBA", (side, side))
    square.paste(image.resize(size, Image.Resampling.LANCZOS), ((side - size[0]) // 2, (side - size[1]) // 2))
    return np.asarray(square)


def sheet(work: Path, style: str, side: int = ICON_SIDE) -> Path:
    """Where the rendered icons of ``style`` are kept."""
    return work / f"icons-{style}-{STYLES[style][0]}-{side}.npz"


def load_icons(
    work: Path, styles: tuple[str, ...] = TRAIN_STYLES, nouns: dict | None = None, side: int = ICON_SIDE
) -> list[Icon]:
    """Every icon of ``styles`` for ``nouns`` (default: the base's own), ``side`` pixels, rendered once and
    cached in ``work``.

    Of names that a set draws alike (its aliases) a noun has the first.
    """
    nouns = NOUNS if nouns is None else nouns
    found = []
    for style in styles:
        place = sheet(work, style, side)
        cached = dict(np.load(place)) if place.exists() else {}
        wanted = [name for names in nouns.values() for name in names]
        if any(name not in cached for name in wanted):
            icons = fetch(style, work)
            for name in wanted:
                if name not in cached:
                    rgba = render(icons, name, side)
                    cached[name] = np.zeros((0, 0, 4), np.uint8) if rgba is None else rgba
            np.savez_compressed(place.with_suffix(".part.npz"), **cached)
            place.with_suffix(".part.npz").replace(place)
        for noun, names in nouns.items():
            drawn = {cached[name].tobytes(): name for name in reversed(names) if cached[name].size}
            found += [Icon(noun, style, name, cached[name]) for name in names if name in drawn.values()]
    return found


#: iconify's categories that hold things, as opposed to faces, people, flags and signs
THINGS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")


def load_things(work: Path, styles: tuple[str, ...], side: int = ICON_SIDE) -> list[Icon]:
    """Every icon of a thing in ``styles``, ``side`` pixels; those of the base's nouns under their noun, all
    others under their own name.
    """
    ours = {name: noun for noun, names in NOUNS.items() for name in names}
    found = []
    for style in styles:
        categories = fetch(style, work, "metadata").get("categories", {})
        names = dict.fromkeys([*ours, *(name for c in THINGS for name in categories.get(c, []))])
        found += load_icons(work, (style,), {name: [name] for name in names}, side)
    return [Icon(ours.get(icon.name, icon.name), icon.style, icon.name, icon.rgba) for icon in found]
