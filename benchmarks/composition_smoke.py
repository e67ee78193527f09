"""That every composition draws on families beside the shipped base's: results/composition-smoke.json

python -m benchmarks.composition_smoke --work FOLDER

Tiny bases of random weights, SDXL's two text encoders and SD 3's joint attention, in which two concepts have
been learnt for two steps: machinery only, nothing is judged. Of each row: that its pictures differ from plain
ones, that the same call draws the same bits, and what it says of itself.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from benchmarks.main import ROOT
from benchmarks.tiny import LITTLE, tiny_clip
from l2dm import World
from l2dm.bench.multi import ROWS
from l2dm.bench.subjects import Subjects
from l2dm.errors import SettingsError
from l2dm.world import store
from tests.families.folders import tiny_folder

BASES = {"sdxl": "SDXL-shaped", "sd3": "joint attention (SD 3)"}
CONCEPTS = ("<dog1>", "<duck1>")
PROMPT = "<dog1> dog and <duck1> duck in the snow"


def world_of(name: str, work: Path) -> World:
    folder, place = work / name, work / f"{name}-world"
    if place.exists():
        return World.open(place)
    world = World.create(place, tiny_folder(name, folder), clip=tiny_clip(work / "clip"))
    for subject in Subjects.read("shipped").concepts:
        if subject.token in CONCEPTS:
            few = LITTLE | {"rank": 2, "precision": "float32", "report_pictures": 0}
            world.learn(subject.learn, token=subject.token, noun=subject.noun, **few)
    return world


def smoke(world: World) -> dict[str, dict]:
    """Row -> what was seen; of one that the family cannot have, why."""

    def drawn(**changes) -> tuple[np.ndarray, str]:
        pictures = world.generate(
            PROMPT, **{"n": 2, "batch": 2, "steps": 4, "guidance_scale": 3.0, "threads": 1, **changes}
        )
        return np.stack([np.asarray(p.image) for p in pictures]), pictures[0].provenance["composition"]

    plain, found = drawn(composition="none")[0], {}
    for name, row in ROWS.items():
        try:
            (first, said), (again, _) = drawn(**row), drawn(**row)
            found[name] = {
                "differs_from_plain": not np.array_equal(first, plain),
                "same_again": np.array_equal(first, again),
                "composition": said,
            }
        except SettingsError as error:
            found[name] = {"refused": str(error)}
        print(name, found[name], flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    work = parser.parse_args().work
    work.mkdir(parents=True, exist_ok=True)
    rows = {said: smoke(world_of(name, work)) for name, said in BASES.items()}
    about = "Machinery only: tiny bases of random weights, two pictures a row, nothing judged."
    store.write_json(ROOT / "results" / "composition-smoke.json", {"about": about, "bases": rows})


if __name__ == "__main__":
    main()
