"""Put the trained parts together as a diffusers folder in fp16, draw random samples, measure, write the model
card.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel

from l2dm.concept.words import article
from l2dm.generation import contact_sheet

from . import clip, corpus, latents, parts, unet
from .autoencoder import to_model
from .composing import SIDE
from .corpus import Icon
from .places import PLACES
from .scenes import Composer
from .training import DEVICE

#: Settings that suit this base; ``Backbone`` reads them from ``l2dm.json``.
DEFAULTS = {
    "learn": {
        "steps": 350,
        "batch": 4,
        "learning_rate": 4e-3,
        "lr_scheduler": "cosine",
        "token_learning_rate": 2e-2,
        "prior_weight": 0.5,
        "prior_pictures": 24,
        "prior_steps": 8,
        "distil_weight": 20.0,
        "rank": 32,
        "mixes": 4,
        "threads": 1,  # steps are thousands of small operations: two threads take longer than one
    },
    "tuners": {
        "gated_lora": {"steps": 200, "learning_rate": 5e-4, "lr_scheduler": "constant", "distil_weight": 4.0}
    },
    "generate": {**unet.DRAWING, "guidance_step": 1.0, "composition": "collage"},
}

MEASURED = {"autoencoder": 256, "clip": 1000}  # scenes


def assemble(icons: list[Icon], work: Path) -> tuple[StableDiffusionPipeline, dict]:
    """The pipeline of the finished parts in ``work``, and the record of the denoiser's training."""
    vae = latents.load_autoencoder(icons, work)
    networks, record = unet.load(work, vae.config.latent_channels)
    pipe = StableDiffusionPipeline(
        vae=vae,
        text_encoder=networks.text,
        tokenizer=clip.load_tokenizer(work),
        unet=networks.unet,
        scheduler=unet.make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).to(DEVICE)
    pipe.set_progress_bar_config(disable=True)
    return pipe, record


@torch.no_grad()
def sample(pipe: StableDiffusionPipeline, prompts: list[str], seed: int = 0, **changes) -> list[Image.Image]:
    """One picture a prompt, from seeds in a row."""
    options = {
        "num_inference_steps": DEFAULTS["generate"]["steps"],
        "guidance_scale": DEFAULTS["generate"]["guidance_scale"],
        **changes,
    }
    images = []
    for i in range(0, len(prompts), 16):
        part = prompts[i : i + 16]
        generators = [torch.Generator().manual_seed(seed + i + j) for j in range(len(part))]
        images += pipe(part, generator=generators, **options).images
    return images


def sheet_prompts() -> list[str]:
    """Every noun once, on every place in turn: the card's sheet, nothing chosen."""
    places = ["", *PLACES.values()]
    return [
        f"a photo of {article(noun)} {places[i % len(places)]}".strip() for i, noun in enumerate(corpus.NOUNS)
    ]


@torch.no_grad()
def measure(icons: list[Icon], work: Path, pipe: StableDiffusionPipeline, pair: CLIPModel) -> dict:
    """What can be said without a judge: PSNR of the autoencoder (dB), retrieval of the CLIP pair, sizes."""
    composer = Composer(corpus.load_icons(work, corpus.HELD_OUT_STYLES), side=SIDE, seed=4242)
    found = []
    for _ in range(0, MEASURED["autoencoder"], 16):
        pixels = np.stack([composer.scene().pixels for _ in range(16)])
        y = pipe.vae.decode(latents.encode(pipe.vae, pixels)).sample.float().clamp(-1, 1)
        found.append(-10 * ((to_model(pixels) - y) / 2).square().mean((1, 2, 3)).log10())
    composer, image, text = Composer(icons, side=SIDE, seed=977), [], []
    for _ in range(0, MEASURED["clip"], 50):
        scenes = [composer.scene(1 + i % 3) for i in range(50)]
        image.append(pair.get_image_features(to_model(np.stack([s.pixels for s in scenes]))).pooler_output)
        text.append(
            pair.get_text_features(clip.tokenize(pipe.tokenizer, [s.caption for s in scenes])).pooler_output
        )
    image, text = (torch.nn.functional.normalize(torch.cat(one), dim=-1) for one in (image, text))
    r1 = float(((text @ image.T).argmax(1).cpu() == torch.arange(len(image))).float().mean())
    networks = {"clip": pair, **{name: getattr(pipe, name) for name in ("vae", "text_encoder", "unet")}}
    return {
        "side": SIDE,
        "nouns": len(corpus.NOUNS),
        "icons": len(icons),
        "psnr_unseen_icons_db": round(float(torch.cat(found).mean()), 2),
        "retrieval_r1_of_1000": round(r1, 3),
        "parameters": {name: sum(p.numel() for p in net.parameters()) for name, net in networks.items()},
    }


def write(icons: list[Icon], work: Path, out: Path) -> None:
    """Write the whole base to ``out`` (replacing it) and its card and sheet into it."""
    pipe, record = assemble(icons, work)
    pair = clip.train(icons, work)
    facts = measure(icons, work, pipe, pair)
    files = {"autoencoder": "vae", "clip": "clip", "draft": unet.STAGES[0].part}
    records = {name: parts.record(work, file) for name, file in files.items()} | {"unet": record}
    facts |= {
        f"training_{what}": {part: round(one[key]) for part, one in records.items()}
        for what, key in (("steps", "step"), ("pictures", "pictures"), ("seconds", "seconds"))
    }
    every = max(1, len(record["log"]) // 100)
    facts |= {
        "unet_loss": record["log"][::every],
        **{key: record[key] for key in ("total", "batch", "device", "length", "held_out_error")},
    }
    images = sample(pipe, sheet_prompts())
    pipe.register_modules(tokenizer=clip.load_tokenizer(work))  # the used one would save how it was used
    whole = out.with_name(out.name + ".part")
    shutil.rmtree(whole, ignore_errors=True)
    pipe.to("cpu", torch.float16).save_pretrained(whole, safe_serialization=True)
    pair.cpu().to(torch.float16).save_pretrained(whole / "clip")
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor.save_pretrained(whole / "clip")
    pipe.tokenizer.save_pretrained(whole / "clip")
    (whole / "l2dm.json").write_text(json.dumps({**DEFAULTS, "nouns": list(corpus.NOUNS)}, indent=1) + "\n")
    contact_sheet(images, columns=8, cell=SIDE, gap=2).save(whole / "samples.png", optimize=True)
    facts["megabytes"] = round(sum(p.stat().st_size for p in whole.rglob("*.safetensors")) / 1e6, 1)
    (whole / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    (whole / "README.md").write_text(card(facts))
    shutil.rmtree(out, ignore_errors=True)
    whole.replace(out)
    print(json.dumps({key: value for key, value in facts.items() if key != "unet_loss"}))


def card(facts: dict) -> str:
    """The model card: ``card.md`` with what is known of this base."""
    styles = "\n".join(
        f"| `@iconify-json/{name}` | {version} | {licence} | "
        f"{'held out' if name in corpus.HELD_OUT_STYLES else f'training, «{word}»'} |"
        for name, (version, licence, word) in corpus.STYLES.items()
    )
    minutes = {part: round(seconds / 60) for part, seconds in facts["training_seconds"].items()}
    finished = (
        ""
        if facts["training_steps"]["unet"] >= facts["total"]
        else f" of the {facts['total']:,} that the recipe has: it was stopped"
    )
    return (Path(__file__).with_name("card.md").read_text(encoding="utf-8")).format(
        facts=facts,
        styles=styles,
        nouns=", ".join(corpus.NOUNS),
        last=facts["nouns"] - 1,
        steps=facts["training_steps"],
        pictures=facts["training_pictures"],
        sizes=facts["parameters"],
        minutes=minutes,
        batch=clip.BATCH,
        finished=finished,
    )
