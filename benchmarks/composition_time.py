"""What each composition costs over plain drawing, on the shipped base: results/composition-time.json

python -m benchmarks.composition_time --work FOLDER [--pairs 7] [--rows confined,l2dm]      (the world of two
concepts is kept in FOLDER)

Paired runs, plain and composed in turn, at the base's default settings and batch, in one thread: the median
of their ratios, in seconds of the processor, which others on the machine do not change as they change the
clock's. Beside it diffusers' own Attend-and-Excite over its own plain pipeline, with its defaults, one
picture at a time, as it draws.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import torch
from diffusers import StableDiffusionAttendAndExcitePipeline, StableDiffusionPipeline

from benchmarks.main import ROOT
from l2dm import World
from l2dm.backbone import Backbone
from l2dm.bench.multi import ROWS
from l2dm.bench.subjects import Subjects
from l2dm.guidance.attention import map_size
from l2dm.world import store

CONCEPTS = ("<dog1>", "<duck1>")
PROMPT = "a photo of <dog1> dog and <duck1> duck in the snow"
PLAIN = "a photo of a dog and a duck in the snow"
STEPS = 10  # of learning: how much an adapter has learnt changes no time
ROWS_TIMED = (
    "confined",
    "artists",
    "l2dm",
    "caa",
    "oaa",
    "attend-and-excite",
    "self-cross",
    "structure",
    "collage",
    "collage-confined",
    "mudi",
)


def world_of(place: Path) -> World:
    world = World.open(place) if place.exists() else World.create(place)
    for subject in Subjects.read("shipped").concepts:
        if subject.token in CONCEPTS and subject.token not in world.concepts:
            world.learn(
                subject.learn,
                token=subject.token,
                noun=subject.noun,
                steps=STEPS,
                report_pictures=0,
                threads=1,
            )
    return world


def ratio(plain: Callable[[int], Any], composed: Callable[[int], Any], pairs: int) -> dict[str, Any]:
    """The median of ``pairs`` ratios; the first pair warms up and is not counted."""
    seconds: list[list[float]] = [[], []]
    for k in range(-1, pairs):
        for which in (0, 1)[:: 1 if k % 2 else -1]:
            began = time.process_time()
            (plain, composed)[which](k)
            if k >= 0:
                seconds[which].append(time.process_time() - began)
    ratios = [round(b / a, 4) for a, b in zip(*seconds)]
    return {
        "time_over_plain": round(median(ratios), 3),
        "ratios": ratios,
        "plain_seconds": round(median(seconds[0]), 3),
    }


def of_row(world: World, changes: dict[str, Any], pairs: int) -> dict[str, Any]:
    def drawn(given: dict[str, Any]) -> Callable[[int], Any]:
        return lambda k: world.generate(PROMPT, seed=k + 1, threads=1, **given)

    return ratio(drawn({"composition": "none"}), drawn(changes), pairs)


def of_diffusers(pairs: int) -> dict[str, Any]:
    """Its Attend-and-Excite of the two nouns, over its plain pipeline."""
    backbone = Backbone.load()
    pipe = backbone.pipeline()
    parts = [pipe.vae, pipe.text_encoder, pipe.tokenizer, pipe.unet, pipe.scheduler]
    common = dict(safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    plain, theirs = (
        kind(*parts, **common) for kind in (StableDiffusionPipeline, StableDiffusionAttendAndExcitePipeline)
    )
    own, cells = dict(backbone.unet.attn_processors), backbone.side // backbone.factor
    steps, scale = backbone.defaults["generate"]["steps"], backbone.defaults["generate"]["guidance_scale"]
    for one in (plain, theirs):
        one.set_progress_bar_config(disable=True)
    words = [
        backbone.places(PLAIN, (PLAIN.index(noun), PLAIN.index(noun) + len(noun)))[0]
        for noun in ("dog", "duck")
    ]
    call = {
        "num_inference_steps": steps,
        "guidance_scale": scale,
        "height": backbone.side,
        "width": backbone.side,
    }

    def without(k: int) -> None:
        backbone.unet.set_attn_processor(dict(own))
        plain(PLAIN, generator=torch.Generator().manual_seed(k + 1), **call)

    def with_(k: int) -> None:
        theirs(
            PLAIN,
            token_indices=words,
            generator=torch.Generator().manual_seed(k + 1),
            attn_res=map_size(backbone.unet, cells, cells),
            max_iter_to_alter=steps // 2,
            thresholds={0: 0.05, round(0.2 * steps): 0.5, round(0.4 * steps): 0.8},
            **call,
        )

    return ratio(without, with_, pairs)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--rows", default=",".join((*ROWS_TIMED, "diffusers")))
    options = parser.parse_args()
    torch.set_num_threads(1)
    place = ROOT / "results" / "composition-time.json"
    found = json.loads(place.read_text()) if place.exists() else {"rows": {}}
    world = world_of(options.work)
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    for name in options.rows.split(","):
        row = of_diffusers(options.pairs) if name == "diffusers" else of_row(world, ROWS[name], options.pairs)
        found["rows"][name] = {**row, "code": head}
        print(name, row["time_over_plain"], row["plain_seconds"], flush=True)
        found["settings"] = world.settings("generate").as_dict() | {"threads": 1}
        store.write_json(place, found)


if __name__ == "__main__":
    main()
