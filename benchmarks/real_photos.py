"""Real photos on the shipped base: learn dog, duck toy and cat one after another, draw each; the sheet holds
no photo.

python -m benchmarks.real_photos FOLDER        (FOLDER has dog/, duck_toy/ and cat/)
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.main import ROOT
from l2dm import LearnSettings, World
from l2dm.backbone import MINI
from l2dm.generation import contact_sheet

CONCEPTS = {"dog": ("<dog1>", "dog"), "duck_toy": ("<duck1>", "duck"), "cat": ("<cat1>", "cat")}
COLUMNS = 8
#: photographs are far from this base's drawings: more of everything, no scenes of two, and less guidance,
#: which hardens them
LEARN = {"steps": 1500, "batch": 8, "rank": 64, "learning_rate": 1e-3, "lr_scheduler": "cosine", "mixes": 0}
DRAW = {"n": COLUMNS, "guidance_scale": 1.5}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", type=Path)
    parser.add_argument("--sheet", type=Path, default=ROOT / "docs" / "real-photos.png")
    parser.add_argument("--method", default=LearnSettings.method, help="a row of l2dm/methods.py")
    parser.add_argument("--base", default=MINI)
    options = parser.parse_args()
    images = []
    with tempfile.TemporaryDirectory() as place:
        world = World.create(Path(place) / "world", options.base)
        for folder, (token, noun) in CONCEPTS.items():
            version = world.learn(
                options.photos / folder,
                token=token,
                noun=noun,
                method=options.method,
                report_pictures=0,
                **LEARN,
            )
            print(
                json.dumps({"concept": folder, "seconds": version.seconds, "photos": version.photos}),
                flush=True,
            )
            images += [p.image for p in world.generate(f"a photo of {token} {noun}", **DRAW)]
        for token, noun in CONCEPTS.values():
            images += [p.image for p in world.generate(f"a photo of {token} {noun}", seed=50, **DRAW)]
    contact_sheet(images, columns=COLUMNS, cell=96, gap=3).save(options.sheet, optimize=True)


if __name__ == "__main__":
    main()
