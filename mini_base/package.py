"""Put the trained parts together as a diffusers folder in fp16, draw random samples, measure, write the model card."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionPipeline, UNet2DConditionModel
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel, CLIPTextModel

from l2dm.concept.words import article
from l2dm.generation import contact_sheet

from . import autoencoder, clip, corpus, decoder, unet
from .corpus import Icon
from .scenes import PLACES, Composer
from .training import Training

#: Settings that suit this base; ``Backbone`` reads them from ``l2dm.json``.
DEFAULTS = {
    "learn": {
        "steps": 350, "batch": 4, "learning_rate": 4e-3, "lr_scheduler": "cosine", "token_learning_rate": 2e-2, "prior_weight": 0.5, "prior_pictures": 24,
        "prior_steps": 8, "distil_weight": 20.0, "rank": 32, "mixes": 4,
    },
    "tuners": {"switched": {"steps": 200, "learning_rate": 5e-4, "lr_scheduler": "constant", "distil_weight": 4.0}},
    "generate": {**unet.DRAWING, "guidance_step": 1.0, "guidance": "collage"},
}  # fmt: skip


def assemble(icons: list[Icon], work: Path) -> StableDiffusionPipeline:
    """The pipeline of whatever training states lie in ``work``."""
    vae, networks = decoder.train(icons, work).eval(), unet.finished(work)
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=networks.text, tokenizer=clip.load_tokenizer(work), unet=networks.unet, scheduler=unet.make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def adopt(work: Path, shipped: Path) -> None:
    """Begin from the shipped weights where ``work`` holds no training state: what was learnt need not be learnt again."""
    facts = json.loads((shipped / "facts.json").read_text())
    pair = clip.Pair(CLIPModel.from_pretrained(shipped / "clip", dtype=torch.float32))
    networks = unet.Denoiser(CLIPTextModel.from_pretrained(shipped / "text_encoder", dtype=torch.float32))
    known = UNet2DConditionModel.from_pretrained(shipped / "unet", dtype=torch.float32).state_dict()
    found = networks.unet.load_state_dict(known, strict=False)
    if found.unexpected_keys or not all(".attentions." in name for name in found.missing_keys):
        raise SystemExit(f"{shipped}: a denoiser of another architecture; go on without --go-on")
    vae = AutoencoderTiny.from_pretrained(shipped / "vae", dtype=torch.float32)
    for name, module in {"autoencoder": vae, "decoder": vae, "clip": pair, "unet": networks}.items():
        vae.encoder.requires_grad_(name != "decoder")
        if not (work / name / "state.json").exists():
            run = Training(work / name, module, 0.0, 0)
            run.step, run.pictures = facts["training_steps"][name], facts["training_pictures"][name]
            run.seconds, run.log = (
                facts["training_seconds"][name],
                facts["unet_loss"] if name == "unet" else [],
            )
            run.save()
    if not (work / "tokenizer").exists():
        shutil.copytree(shipped / "tokenizer", work / "tokenizer")


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
def measure(icons: list[Icon], work: Path, pipe: StableDiffusionPipeline, pair) -> dict:
    """What can be said without a judge: autoencoder PSNR, retrieval of the CLIP pair, sizes, training time."""
    held = corpus.load_icons(work, corpus.HELD_OUT_STYLES)
    composer = Composer(held, seed=4242)
    x = autoencoder.to_model(np.stack([composer.scene(1 + i % 2).pixels for i in range(256)]))
    y = pipe.vae.decode(pipe.vae.encode(x).latents).sample.clamp(-1, 1)
    psnr = float((-10 * ((x - y) / 2).square().mean((1, 2, 3)).log10()).mean())
    composer = Composer(icons, seed=977)
    scenes = [composer.scene(1 + i % 3) for i in range(1000)]
    pixels = autoencoder.to_model(np.stack([s.pixels for s in scenes]))
    image = torch.nn.functional.normalize(pair.get_image_features(pixels).pooler_output, dim=-1)
    ids = clip.tokenize(pipe.tokenizer, [s.caption for s in scenes])
    text = torch.nn.functional.normalize(pair.get_text_features(ids).pooler_output, dim=-1)
    r1 = float(((text @ image.T).argmax(1) == torch.arange(len(scenes))).float().mean())
    states = {
        part: json.loads((work / part / "state.json").read_text())
        for part in ("autoencoder", "decoder", "clip", "unet")
    }
    networks = {"clip": pair, **{name: getattr(pipe, name) for name in ("vae", "text_encoder", "unet")}}
    sizes = {name: sum(p.numel() for p in network.parameters()) for name, network in networks.items()}
    return {
        "nouns": len(corpus.NOUNS), "icons": len(icons), "psnr_unseen_icons_db": round(psnr, 2), "retrieval_r1_of_1000": round(r1, 3),
        **{f"training_{what}": {part: round(state[key]) for part, state in states.items()}
           for what, key in (("steps", "step"), ("pictures", "pictures"), ("seconds", "seconds"))},
        "parameters": sizes, "unet_loss": [entry for entry in states["unet"]["log"] if entry[0] % 500 == 100],
    }  # fmt: skip


def write(icons: list[Icon], work: Path, out: Path) -> None:
    """Write the whole base to ``out`` (replacing it) and its card and sheet into it."""
    pipe = assemble(icons, work)
    pair = clip.train(icons, work)
    facts = measure(icons, work, pipe, pair)
    images = sample(pipe, sheet_prompts())
    pipe.register_modules(tokenizer=clip.load_tokenizer(work))  # the used one would save how it was used
    shutil.rmtree(out, ignore_errors=True)
    pipe.to(torch.float16).save_pretrained(out, safe_serialization=True)
    pair.to(torch.float16).save_pretrained(out / "clip")
    side = unet.build().config.sample_size * 4
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": side},
        crop_size={"height": side, "width": side},
        image_mean=[0.5] * 3,
        image_std=[0.5] * 3,
    )
    processor.save_pretrained(out / "clip")
    pipe.tokenizer.save_pretrained(out / "clip")
    (out / "l2dm.json").write_text(json.dumps({**DEFAULTS, "nouns": list(corpus.NOUNS)}, indent=1) + "\n")
    contact_sheet(images, columns=8, cell=96, gap=2).save(out / "samples.png", optimize=True)
    facts["megabytes"] = round(sum(p.stat().st_size for p in out.rglob("*.safetensors")) / 1e6, 1)
    (out / "facts.json").write_text(json.dumps(facts, indent=1) + "\n")
    (out / "README.md").write_text(card(facts))
    print(json.dumps(facts))


def card(facts: dict) -> str:
    """The model card."""
    styles = "\n".join(
        f"| `@iconify-json/{name}` | {version} | {licence} | {'held out' if name in corpus.HELD_OUT_STYLES else f'training, «{word}»'} |"
        for name, (version, licence, word) in corpus.STYLES.items()
    )
    minutes = {k: round(v / 60) for k, v in facts["training_seconds"].items()}
    return f"""# Model card: the mini base

A Stable-Diffusion-shaped text-to-image model of {facts["megabytes"]} MB (fp16) for 64 px pictures of icons on drawn
backgrounds. It exists so that continual personalization can be tried and measured anywhere, offline, on a CPU.

## Data
Icons of {facts["nouns"]} nouns ({facts["icons"]} drawings), composed one, two or three at a time on seven drawn places and
ten plain colours, with captions that say exactly what is in the picture. Nothing else was shown to the UNet or the CLIP
pair; the autoencoder also saw synthetic textures (dead leaves over coloured noise). No photograph was used.

| npm package | version | licence | use |
|---|---|---|---|
{styles}

The icons' authors: Google (Noto), Twitter and contributors (Twemoji), JoyPixels (EmojiOne 2), Mozilla (FxEmojis),
Microsoft (Fluent Emoji).

Nouns: {", ".join(corpus.NOUNS)}.

## Parts
| part | class | parameters | training |
|---|---|---|---|
| autoencoder | AutoencoderTiny, 64 px to 16 x 16 x 4 | {facts["parameters"]["vae"]:,} | {facts["training_steps"]["autoencoder"]:,} steps, {minutes["autoencoder"]} min; then the decoder alone, half on what the finished denoiser makes of latents, {facts["training_steps"]["decoder"]:,} steps of {decoder.BATCH}, {minutes["decoder"]} min |
| text encoder | CLIPTextModel, 3 layers, 32 tokens | {facts["parameters"]["text_encoder"]:,} | begun as the CLIP pair's, then with the denoiser |
| denoiser | UNet2DConditionModel, pooled text in every block, v-prediction, zero terminal SNR | {facts["parameters"]["unet"]:,} | {facts["training_steps"]["unet"]:,} steps of {unet.BATCH} ({facts["training_pictures"]["unet"]:,} pictures), {minutes["unet"]} min |
| CLIP pair (`clip/`) | CLIPModel, its own text encoder | {facts["parameters"]["clip"]:,} | {facts["training_steps"]["clip"]:,} steps of {clip.BATCH}, {minutes["clip"]} min |

All on two CPU cores (x86-64), shared with other work: in float32, the last {facts["training_steps"]["unet"] - 36000:,} steps of the denoiser
and all that came after in bfloat16 on newer cores; seeds 1 (autoencoder), 2 (CLIP), 3 (UNet), 6 (decoder). Made by `make base`.

## Measured
Autoencoder on scenes of held-out icons: {facts["psnr_unseen_icons_db"]} dB PSNR. CLIP pair: caption-to-picture R@1 among 1,000 unseen
scenes {facts["retrieval_r1_of_1000"]:.1%}. By eye, on `samples.png`
(every noun once, seeds 0 to {facts["nouns"] - 1}, nothing chosen): places, colours, size and layout follow the
prompt, and a person recognises about 50 of the 64 nouns; the others keep their colours and lose their shape. Edges are
soft, and things at half size (two in one picture) are coarse. What the project's judge says is in `results/base.json`, where that exists.

## Limits
It draws emoji-like things, not photographs; 64 px; the nouns above and little else. English captions of at most 30 tokens.
It is not converged: after {facts["training_pictures"]["unet"]:,} pictures the loss was still falling. `python -m mini_base --go-on --steps N` takes
the training up from these very weights. The weights were trained with stops; while they were, the noise levels' share, how
freely the later scenes vary, how many hold two or three things and how large these are were changed (more of them from step
21,000 on, larger ones from 22,600); cross-attention was taught where things are from step 13,000 on and to attend to
them enough from 16,000, is at the finest level too since 28,500, and has done without the pooled text in every other picture since
30,100; the learning rate fell twice, to step 36,000 and to the end; the text encoder left the CLIP pair, and the image encoder was
matched to it until that pair learnt on by itself; the decoder was narrower before its last training, and
3,000 steps that it learnt alone then are in the autoencoder's minutes. `make base` runs the
final recipe from the start, and will not give the same weights.
"""
