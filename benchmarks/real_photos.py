"""Real photos on the shipped base: learn dog, duck toy and cat one after another, draw each; the sheet holds no photo.

python -m benchmarks.real_photos FOLDER        (FOLDER has dog/, duck_toy/ and cat/)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.main import ROOT
from l2dm import LearnSettings, World
from l2dm.generation import contact_sheet

CONCEPTS = {"dog": ("<dog1>", "dog"), "duck_toy": ("<duck1>", "duck"), "cat": ("<cat1>", "cat")}
COLUMNS = 8
LEARN = {"steps": 800, "mixes": 0}  # photographs are far from this base's drawings: more steps, and no scenes of two


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path)
    parser.add_argument("--sheet", type=Path, default=ROOT / "docs" / "real-photos.png")
    parser.add_argument("--method", default=LearnSettings.method, help="a row of l2dm/methods.py")
    options = parser.parse_args()
    images = []
    with tempfile.TemporaryDirectory() as place:
        world = World.create(Path(place) / "world")
        for folder, (token, noun) in CONCEPTS.items():
            version = world.learn(options.photos / folder, token=token, noun=noun, method=options.method, previews=0, **LEARN)
            print(json.dumps({"concept": folder, "seconds": version.seconds, "photos": version.photos}), flush=True)
            images += [p.image for p in world.generate(f"a photo of {token} {noun}", n=COLUMNS)]
        for token, noun in CONCEPTS.values():
            images += [p.image for p in world.generate(f"a photo of {token} {noun}", n=COLUMNS, seed=50)]
    contact_sheet(images, columns=COLUMNS, cell=96, gap=3).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
