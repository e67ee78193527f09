"""Measure the shipped base with the judge into results/base.json.

python -m benchmarks.base [--pictures 1000] [--photos FOLDER]      (FOLDER: photographs for the autoencoder, searched below)
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

from benchmarks.main import ROOT
from l2dm import GenerateSettings
from l2dm.backbone import MINI, Backbone
from l2dm.concept.words import article
from l2dm.evaluation.judge import Judge
from l2dm.world.store import write_json

BATCH = 16


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
    said = judge.name(draw(backbone, [f"a photo of {article(noun)}" for noun in asked], seed, **changes))
    return [names[0] == noun for names, noun in zip(said, asked)]


def of_pairs(backbone: Backbone, judge: Judge, count: int, seed: int, **changes: Any) -> list[int]:
    """Of ``count`` pictures of two nouns, how many of them are among the two that the judge names first."""
    rng = np.random.default_rng(seed)
    two = [rng.choice(judge.nouns, size=2, replace=False).tolist() for _ in range(count)]
    said = judge.name(
        draw(backbone, [f"a photo of {article(a)} and {article(b)}" for a, b in two], seed, **changes), 2
    )
    return [len({a, b} & set(names)) for (a, b), names in zip(two, said)]


def psnr(backbone: Backbone, images: list[Image.Image]) -> float:
    """Mean over pictures of the autoencoder's peak signal-to-noise ratio, in dB."""
    side, found = backbone.side, []
    for image in images:
        x = np.asarray(ImageOps.fit(image.convert("RGB"), (side, side), Image.LANCZOS))
        z = backbone.encode_pictures(torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() / 127.5 - 1)
        y = np.asarray(backbone.decode_latents(z)[0], dtype=float)
        found.append(10 * np.log10(255**2 / np.mean((x - y) ** 2)))
    return float(np.mean(found))


@torch.no_grad()
def styles(backbone: Backbone, judge: Judge, work: Path, nouns: list[str], seed: int) -> dict[str, int]:
    """Of each noun, how many drawing styles come nearest to at least two of 32 samples."""
    from mini_base.corpus import load_icons
    from mini_base.judge import Desk, prototypes

    found = {}
    for i, noun in enumerate(nouns):
        icons = [icon for icon in load_icons(work) if icon.noun == noun]
        known = prototypes(judge.net, Desk(icons, seed=seed + i))
        nearest = judge.likeness(
            draw(backbone, [f"a photo of {article(noun)}"] * 32, seed + 100 * i), known
        ).argmax(1)
        counts = Counter(icons[k].style for k in nearest.tolist())
        found[noun] = sum(count >= 2 for count in counts.values())
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=1000)
    parser.add_argument("--photos", type=Path)
    parser.add_argument(
        "--work", type=Path, default=Path(".work/base"), help="where the icons lie, or will be fetched to"
    )
    options = parser.parse_args()
    backbone, judge, n = Backbone.load(MINI), Judge(), options.pictures
    facts = json.loads((backbone.folder / "facts.json").read_text())
    from mini_base.scenes import PLACES, PLAIN

    rng, nouns = np.random.default_rng(0), judge.nouns
    phrases = {**PLACES, **{name: f"on {article(name)} background" for name in PLAIN}}
    asked = [nouns[i % len(nouns)] for i in range(n)]
    alone = of_nouns(backbone, judge, n, 10_000)
    places = [str(rng.choice(list(phrases))) for _ in range(n)]
    placed = draw(
        backbone, [f"a photo of {article(noun)} {phrases[p]}" for noun, p in zip(asked, places)], 20_000
    )
    hits = of_pairs(backbone, judge, n, 30_000)
    began = time.monotonic()
    draw(backbone, ["a photo of a dog"] * 4, 0)
    seconds = (time.monotonic() - began) / 4
    card, shown = (
        judge.card(),
        styles(backbone, judge, options.work, nouns[:: max(1, len(nouns) // 12)], 40_000),
    )
    result = {
        "nouns": len(nouns), "noun_accuracy": float(np.mean(alone)),
        "noun_accuracy_with_background": float(np.mean([said[0] == noun for said, noun in zip(judge.name(placed), asked)])),
        "background_accuracy": float(np.mean([said == p for said, p in zip(judge.background(placed), places)])),
        "pair_at_least_one": float(np.mean([h >= 1 for h in hits])), "pair_both": float(np.mean([h == 2 for h in hits])),
        "psnr_icons_db": facts["psnr_unseen_icons_db"], "retrieval_r1": facts["retrieval_r1_of_1000"],
        "judge_identity_top1": card["identity_top1"], "judge_presence_f1": card["presence_f1"], "seconds_per_picture": round(seconds, 3),
        "styles_in_32_samples": {"mean": float(np.mean(list(shown.values()))), "of": 5, "nouns": shown},
        "per_noun": {noun: float(np.mean(alone[i :: len(nouns)])) for i, noun in enumerate(nouns)},
        "training": {"seconds": facts["training_seconds"], "pictures": facts["training_pictures"], "unet_step_loss_seconds": facts["unet_loss"]},
        "settings": {
            "pictures": n, "seeds": [10_000, 20_000, 30_000], **backbone.defaults.get("generate", {}), "guidance": "none", "judge": card,
            "threads": torch.get_num_threads(),
        },
    }  # fmt: skip
    if options.photos:
        files = sorted(p for p in options.photos.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png"))
        result["psnr_photos_db"] = round(psnr(backbone, [Image.open(p) for p in files]), 2)
        result["settings"]["photos"] = len(files)
    write_json(ROOT / "results" / "base.json", result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("settings", "per_noun", "training")}))


if __name__ == "__main__":
    main()
