"""What a concept keeps outside of a world: results/travel.json

python -m benchmarks.travel [--concept dog1] [--pictures 100] [--seeds 0 1 2] [--sheet FOLDER]

A concept of the benchmark is learnt by the shipped base, once a seed, and exported as a LoRA and an
embedding; stock diffusers draws it from the same seeds and prompts as the world. The judge tells of each
picture whether it is that concept or another: one of the nine others, or a look-alike (identification, as the
benchmarks have it). The concept is also moved to a fresh world, which has to draw the same bits.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from benchmarks.main import ROOT, record
from l2dm import World
from l2dm.backbone import MINI, find_base
from l2dm.bench.subjects import Subject, Subjects, pictures
from l2dm.evaluation.shipped_judge import Judge

SEED = 1000  # of each prompt's first picture


def stock(world: World, folder: Path, token: str, prompts: list[str], each: int) -> list[Image.Image]:
    """What diffusers' own pipeline draws with the exported files loaded, and nothing of l2dm's; ``each`` of
    every prompt.
    """
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


def drawn(world: World, prompts: list[str], each: int) -> list[Image.Image]:
    return [picture.image for prompt in prompts for picture in world.generate(prompt, n=each, seed=SEED)]


def once(
    subject: Subject, seed: int, prompts: list[str], each: int
) -> tuple[dict[str, list[Image.Image]], str]:
    """What is drawn by the world, by stock diffusers and by a world that the concept was moved to; and what
    the export says is lost.
    """
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        world = World.create(place / "world")
        world.learn(subject.learn, token=subject.token, noun=subject.noun, report_pictures=0, seed=seed)
        out = world.export(subject.token, out=place / "lora")
        other = World.create(place / "other")
        other.import_concept(world.path, subject.token, report_pictures=0)
        images = {
            "world": drawn(world, prompts, each),
            "stock_diffusers": stock(world, out.folder, subject.token, prompts, each),
            "moved": drawn(other, prompts, each),
        }
    return images, out.loses


def told(
    images: dict[str, list[Image.Image]], identified: Callable[[list[Image.Image]], float]
) -> dict[str, float | bool]:
    """What the judge finds of each way of drawing, and how far the pictures themselves are apart."""
    arrays = {
        name: np.stack([np.asarray(image) for image in several]).astype(float)
        for name, several in images.items()
    }
    found = {name: round(identified(images[name]), 4) for name in ("world", "stock_diffusers")}
    return found | {
        "kept": round(found["stock_diffusers"] / found["world"], 4),
        "mean_pixel_difference": round(float(np.abs(arrays["world"] - arrays["stock_diffusers"]).mean()), 2),
        "moved_bit_identical": bool(np.array_equal(arrays["world"], arrays["moved"])),
    }


def sheet(images: dict[str, list[Image.Image]], each: int) -> Image.Image:
    """The first picture of every prompt, a row for each way of drawing."""
    shown = {name: several[::each] for name, several in images.items()}
    side = shown["world"][0].width
    found = Image.new("RGB", (side * len(shown["world"]), side * len(shown)))
    for y, row in enumerate(shown.values()):
        for x, image in enumerate(row):
            found.paste(image, (x * side, y * side))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--concept", default="dog1")
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="of the lesson")
    parser.add_argument("--sheet", type=Path, help="folder for a sheet of pictures of every seed")
    given = parser.parse_args()
    subjects, judge, began = Subjects.read("shipped"), Judge(), time.monotonic()
    (subject,) = [one for one in subjects.concepts if one.name == given.concept]
    prompts = [text.format(subject.words) for text in subjects.prompts]
    each = given.pictures // len(prompts)
    others = [place for group in subjects.like.values() for place in group]
    prototypes = torch.stack(
        [judge.prototype(pictures(place)) for place in [*(one.unseen for one in subjects.concepts), *others]]
    )
    own, rows = subjects.concepts.index(subject), []
    for seed in given.seeds:
        images, loses = once(subject, seed, prompts, each)
        rows.append(
            {
                "seed": seed,
                **told(
                    images,
                    lambda several: (
                        (judge.likeness(several, prototypes).argmax(1) == own).double().mean().item()
                    ),
                ),
            }
        )
        if given.sheet:
            given.sheet.mkdir(parents=True, exist_ok=True)
            sheet(images, each).save(given.sheet / f"{subject.name}-{seed}.png")
        by_stock, by_world = (sum(row[name] for row in rows) for name in ("stock_diffusers", "world"))
        settings = {
            "concept": subject.name,
            "pictures": each * len(prompts),
            "seeds": [row["seed"] for row in rows],
            "format": "lora",
            "seconds": round(time.monotonic() - began),
            "judge_identity_top1": judge.card()["identity_top1"],
        }
        figures = {
            "rows": rows,
            "kept": round(by_stock / by_world, 4),
            "least_kept": min(row["kept"] for row in rows),
            "lost": loses,
        }
        record(settings, ROOT / "results" / "travel.json", **{subject.name: figures})


if __name__ == "__main__":
    main()
