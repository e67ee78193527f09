"""What a concept keeps outside of a world: results/travel.json

python -m benchmarks.travel [--concept dog1] [--pictures 100] [--world FOLDER]      (one that has learnt it already; else it is taught)

A concept of the benchmark is learnt by the shipped base, exported as a LoRA and an embedding, and drawn by stock diffusers from the same
seeds and prompts as by the world. The judge tells of each picture whether it is that concept or another: one of the nine others, or
a look-alike (identification, as the benchmarks have it).
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from benchmarks.main import ROOT
from l2dm import World
from l2dm.backbone import MINI, find_base
from l2dm.bench.subjects import Subjects, pictures
from l2dm.evaluation.judge import Judge
from l2dm.world import store

SEED = 1000  # of each prompt's first picture


def stock(world: World, folder: Path, token: str, prompts: list[str], each: int) -> list[Image.Image]:
    """What diffusers' own pipeline draws with the exported files loaded, and nothing of l2dm's; ``each`` of every prompt."""
    pipe = DiffusionPipeline.from_pretrained(find_base(MINI).folder, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    name, chosen = token[1:-1], world.settings("generate")
    pipe.load_lora_weights(folder, weight_name=f"{name}.safetensors")
    pipe.load_textual_inversion(folder / f"{name}-embedding.safetensors")
    told = {"num_inference_steps": chosen.steps, "guidance_scale": chosen.guidance_scale}
    images = []
    for prompt in prompts:
        seeds = [torch.Generator().manual_seed(SEED + i) for i in range(each)]
        images += pipe([prompt] * each, generator=seeds, **told).images
    return images


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concept", default="dog1")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--world", type=Path)
    given = parser.parse_args()
    subjects, judge, began = Subjects.read("shipped"), Judge(), time.monotonic()
    (subject,) = [one for one in subjects.concepts if one.name == given.concept]
    prompts, each = (
        [text.format(subject.words) for text in subjects.prompts],
        given.pictures // len(subjects.prompts),
    )
    things = [one.unseen for one in subjects.concepts] + [
        place for group in subjects.like.values() for place in group
    ]
    prototypes = torch.stack([judge.prototype(pictures(place)) for place in things])
    own = subjects.concepts.index(subject)

    def identified(images: list[Image.Image]) -> np.ndarray:
        return (judge.likeness(images, prototypes).argmax(1) == own).numpy()

    with tempfile.TemporaryDirectory() as place:
        if given.world:
            world = World.open(given.world)
        else:
            world = World.create(Path(place) / "world")
            world.learn(subject.learn, token=subject.token, noun=subject.noun, report_pictures=0)
        out = world.export(subject.token, out=Path(place) / "lora")
        drawn = {
            "world": [p.image for prompt in prompts for p in world.generate(prompt, n=each, seed=SEED)],
            "stock_diffusers": stock(world, out.folder, subject.token, prompts, each),
        }
    rows = {name: round(float(identified(images).mean()), 4) for name, images in drawn.items()}
    differ = [
        float(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean()) for a, b in zip(*drawn.values())
    ]
    record = {
        "concept": subject.name, "pictures": each * len(prompts), "method": world.settings("learn").method, "format": "lora",
        "concepts_in_world": len(world.concepts), "base_fingerprint": world.manifest.fingerprint,
        "identification": rows, "kept": round(rows["stock_diffusers"] / rows["world"], 4), "lost": out.loses,
        "mean_pixel_difference": round(float(np.mean(differ)), 2), "judge_identity_top1": judge.card()["identity_top1"],
        "seconds": round(time.monotonic() - began),
    }  # fmt: skip
    store.write_json(ROOT / "results" / "travel.json", record)
    print(record)


if __name__ == "__main__":
    main()
