"""Measure a base with the judges into results/base.json.

python -m benchmarks.base [--base FOLDER] [--out FILE] [--pictures 1000] [--photos FOLDER] [--concepts FOLDER]

``--photos``: photographs for the autoencoder, searched below. ``--concepts``: where the ten concepts are
learnt for the ImageNet network's figure (minutes; it resumes).
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from benchmarks import imagenet, oracle
from benchmarks.main import ROOT
from l2dm import GenerateSettings
from l2dm.backbone import MINI, Backbone
from l2dm.bench.multi_judging import judge_nouns
from l2dm.bench.subjects import Subject
from l2dm.concept.words import article
from l2dm.evaluation.shipped_judge import Judge

BATCH = 16
#: what -> the seed of its first picture
SEEDS = {
    "nouns": 10_000,
    "backgrounds": 20_000,
    "pairs": 30_000,
    "layouts": 60_000,
    "styles": 40_000,
    "small": 50_000,
}


def draw(backbone: Backbone, prompts: list[str], seed: int, **changes: Any) -> list[Image.Image]:
    """One picture a prompt at the base's own settings or with ``changes`` of them, from seeds in a row."""
    settings = GenerateSettings.of(backbone.defaults.get("generate", {}), changes)
    images = []
    for first in range(0, len(prompts), BATCH):
        part = prompts[first : first + BATCH]
        latents = backbone.draw_latents(
            part, settings.steps, settings.guidance_scale, seed + first, batch=BATCH
        )
        images += backbone.decode_latents(latents)
    return images


def of_nouns(backbone: Backbone, judge: Judge, count: int, seed: int, **changes: Any) -> list[bool]:
    """Of ``count`` pictures, every noun in turn, whether the judge names it."""
    asked = [judge.nouns[i % len(judge.nouns)] for i in range(count)]
    return named(
        judge, draw(backbone, [f"a photo of {article(noun)}" for noun in asked], seed, **changes), asked
    )


def of_pairs(backbone: Backbone, judge: Judge, count: int, seed: int, **changes: Any) -> list[int]:
    """Of ``count`` pictures of two nouns, how many of them are among the two that the judge names first."""
    rng = np.random.default_rng(seed)
    two = [rng.choice(judge.nouns, size=2, replace=False).tolist() for _ in range(count)]
    said = judge.name(
        draw(backbone, [f"a photo of {article(a)} and {article(b)}" for a, b in two], seed, **changes), 2
    )
    return [len({a, b} & set(names)) for (a, b), names in zip(two, said)]


def named(judge: Judge, images: list[Image.Image], asked: list[str]) -> list[bool]:
    """Of each picture, whether what the judge names first is what was asked for."""
    return [names[0] == noun for names, noun in zip(judge.name(images), asked)]


def both_there(judge: Judge, image: Image.Image, pair: tuple[str, str]) -> bool:
    """The verdict on a picture of two nouns: the judge finds either with a probability of 1/2 or more."""
    group = tuple(Subject(noun, "", noun, Path(), Path()) for noun in pair)
    return judge_nouns(judge, [image], group)[0]["success"]


def of_layouts(backbone: Backbone, judge: Judge, count: int, seed: int) -> dict[str, Any]:
    """Of ``count`` pictures of two nouns each: the share with both there, plainly and with the layout given
    by hand.
    """
    rng = np.random.default_rng(seed)
    pairs = [tuple(rng.choice(judge.nouns, size=2, replace=False).tolist()) for _ in range(count)]
    settings = GenerateSettings.of(backbone.defaults.get("generate", {}), {})
    found: dict[str, list[bool]] = {kind: [] for kind in oracle.KINDS}
    for kind, said in found.items():
        for first in range(0, count, BATCH):
            part = pairs[first : first + BATCH]
            images = oracle.draw(backbone, part, kind, settings.steps, settings.guidance_scale, seed + first)
            said += [both_there(judge, image, pair) for image, pair in zip(images, part)]
    share = {kind: float(np.mean(said)) for kind, said in found.items()}
    return {
        "pair_plain": share["plain"],
        "pair_oracle": max(share["confined"], share["regional"]),
        "pair_oracle_of": {kind: share[kind] for kind in ("confined", "regional")},
    }


def psnr(backbone: Backbone, images: list[Image.Image]) -> float:
    """Mean over pictures of the autoencoder's peak signal-to-noise ratio, in dB."""
    side, found = backbone.side, []
    for image in images:
        x = np.asarray(ImageOps.fit(image.convert("RGB"), (side, side), Image.Resampling.LANCZOS))
        z = backbone.encode_pictures(torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1)
        y = np.asarray(backbone.decode_latents(z)[0], dtype=float)
        found.append(10 * np.log10(255**2 / np.mean((x - y) ** 2)))
    return float(np.mean(found))


@torch.no_grad()
def styles(backbone: Backbone, judge: Judge, work: Path, nouns: list[str], seed: int) -> dict[str, int]:
    """Of each noun, how many drawing styles come nearest to at least two of 32 samples."""
    from mini_base.corpus import load_icons
    from mini_base.judge_episodes import EpisodeSampler
    from mini_base.judge_measures import prototypes

    found, drawings = {}, load_icons(work)
    for i, noun in enumerate(nouns):
        icons = [icon for icon in drawings if icon.noun == noun]
        known = prototypes(judge.net, EpisodeSampler(icons, seed=seed + i))
        nearest = judge.likeness(
            draw(backbone, [f"a photo of {article(noun)}"] * 32, seed + 100 * i), known
        ).argmax(1)
        counts = Counter(icons[k].style for k in nearest.tolist())
        found[noun] = sum(count >= 2 for count in counts.values())
    return found


def of_backgrounds(
    backbone: Backbone, judge: Judge, asked: list[str], rng: np.random.Generator
) -> dict[str, float]:
    """Of pictures of the nouns ``asked`` with a background phrase each, the share with the right noun, and
    with the right background.
    """
    from mini_base.places import PLACES, PLAIN

    phrases = {**PLACES, **{name: f"on {article(name)} background" for name in PLAIN}}
    places = [str(rng.choice(list(phrases))) for _ in asked]
    prompts = [f"a photo of {article(noun)} {phrases[p]}" for noun, p in zip(asked, places)]
    images = draw(backbone, prompts, SEEDS["backgrounds"])
    right = [said == place for said, place in zip(judge.background(images), places)]
    return {
        "noun_accuracy_with_background": float(np.mean(named(judge, images, asked))),
        "background_accuracy": float(np.mean(right)),
    }


def seconds_a_picture(backbone: Backbone) -> float:
    """Mean of four pictures, each drawn by itself."""
    began = time.monotonic()
    for seed in range(4):
        draw(backbone, ["a photo of a dog"], seed)
    return (time.monotonic() - began) / 4


def measure(backbone: Backbone, judge: Judge, n: int, work: Path) -> dict[str, Any]:
    """All figures that need no other data, of ``n`` pictures each; ``work``: where the icons lie."""
    from mini_base.corpus import TRAIN_STYLES

    facts, card = json.loads((backbone.folder / "facts.json").read_text()), judge.card()
    rng, nouns = np.random.default_rng(0), judge.nouns
    asked = [nouns[i % len(nouns)] for i in range(n)]
    alone = of_nouns(backbone, judge, n, SEEDS["nouns"])
    hits = of_pairs(backbone, judge, n, SEEDS["pairs"])
    sides = [str(rng.choice(["left", "right"])) for _ in range(n)]
    prompts = [f"a small {noun} on the {side}" for noun, side in zip(asked, sides)]
    small = draw(backbone, prompts, SEEDS["small"])
    backgrounds, seconds = of_backgrounds(backbone, judge, asked, rng), seconds_a_picture(backbone)
    shown = styles(backbone, judge, work, nouns[:: max(1, len(nouns) // 12)], SEEDS["styles"])
    per_noun = {noun: float(np.mean(alone[i :: len(nouns)])) for i, noun in enumerate(nouns[:n])}
    return {
        "side": backbone.side,
        "nouns": len(nouns),
        "noun_accuracy": float(np.mean(alone)),
        "noun_accuracy_worst": min(per_noun.values()),
        "half_size_accuracy": float(np.mean(named(judge, small, asked))),
        **backgrounds,
        "pair_at_least_one": float(np.mean([h >= 1 for h in hits])),
        "pair_both": float(np.mean([h == 2 for h in hits])),
        **of_layouts(backbone, judge, n, SEEDS["layouts"]),
        "psnr_icons_db": facts["psnr_unseen_icons_db"],
        "retrieval_r1": facts["retrieval_r1_of_1000"],
        "judge_identity_top1": card["identity_top1"],
        "judge_presence_f1": card["presence_f1"],
        "seconds_per_picture": round(seconds, 3),
        "styles_in_32_samples": {
            "mean": float(np.mean(list(shown.values()))),
            "of": len(TRAIN_STYLES),
            "nouns": shown,
        },
        "per_noun": per_noun,
        "training": {
            "seconds": facts["training_seconds"],
            "pictures": facts["training_pictures"],
            "unet_step_loss_seconds": facts["unet_loss"],
        },
        "settings": {
            "base": backbone.name,
            "pictures": n,
            "seeds": SEEDS,
            **backbone.defaults.get("generate", {}),
            "composition": "none",
            "judge": card,
            "threads": torch.get_num_threads(),
        },
    }


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=MINI, help="the shipped one, or a folder")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "base.json")
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--concepts", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path(".work/base"), help="where the icons lie, or will be fetched to"
    )
    options = parser.parse_args(arguments)
    backbone, judge = Backbone.load(options.base), Judge()
    result = measure(backbone, judge, options.pictures, options.work)
    if options.photos:
        files = sorted(p for p in options.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        result["psnr_photos_db"] = round(psnr(backbone, [Image.open(p) for p in files]), 2)
        result["settings"]["photos"] = len(files)
    if options.concepts:
        result["imagenet_identification"] = imagenet.identification(options.base, options.concepts)
    options.out.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps({k: v for k, v in result.items() if k not in ("settings", "per_noun", "training")}))


if __name__ == "__main__":
    main()
