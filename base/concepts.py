"""The shipped personal concepts: a few pictures each of icons from the held-out styles, as a user's photos would be.

python -m base.concepts      (writes demo/photos and demo/concepts.json)
"""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from .corpus import load_icons
from .scenes import Composer

#: folder -> (noun, style, icon); the photos' places are never the places of the demo's prompts
CONCEPTS = {
    "rex": ("dog", "fluent-emoji", "dog-face"),
    "pip": ("penguin", "fluent-emoji", "penguin"),
    "packy": ("backpack", "fluent-emoji", "backpack"),
}
PLACES = ("white", "wood", "gray", "brick", "yellow")


def main(out: Path = Path("demo/photos"), work: Path = Path(".work/base")) -> None:
    for seed, (name, (noun, style, icon)) in enumerate(CONCEPTS.items()):
        icons = load_icons(work, (style,), {noun: [icon]})
        composer = Composer(icons, side=128, seed=600 + seed)
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        for i, place in enumerate(PLACES):
            scene = composer.scene(background=place, icons=icons)
            Image.fromarray(scene.pixels).save(folder / f"{i:02d}.png", optimize=True)
    about = {name: {"token": f"<{name}>", "noun": noun} for name, (noun, _, _) in CONCEPTS.items()}
    (out.parent / "concepts.json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
