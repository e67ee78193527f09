"""Composed scenes as the denoiser learns from them: scaled latents and the tokens of their captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from . import autoencoder, clip, parts
from .composing import SIDE, Shards
from .corpus import Icon
from .scenes import Composer, Scene
from .training import DEVICE, swift

#: The autoencoder as the recipe has trained it, with the record of that: what a base is made of need not be
#: made again.
TRAINED = Path(__file__).parent / "vae"
UNNAMED = 0.1  # share of pictures whose caption is left out: what guidance compares with


def load_autoencoder(icons: list[Icon], work: Path) -> AutoencoderKL:
    """The finished autoencoder, frozen; where it is not in ``work``, the one in TRAINED, and without that it
    is trained (or its training taken up). Its scale makes latents of deviation 1.
    """
    if not parts.settled(work, "vae", "autoencoder"):
        if TRAINED.exists() and not (work / "autoencoder").exists():
            vae, record = (
                AutoencoderKL.from_pretrained(TRAINED),
                json.loads((TRAINED / "training.json").read_text()),
            )
        else:
            vae = autoencoder.train(icons, work / "autoencoder").eval().requires_grad_(False)
            record = parts.record_of(work / "autoencoder") | {"scaling_factor": latent_scale(icons, vae)}
        parts.keep(work, "vae", vae, record)
    vae = autoencoder.build()
    record = parts.load(work, "vae", vae)
    vae.register_to_config(scaling_factor=record["scaling_factor"])
    return vae.to(DEVICE, memory_format=torch.channels_last).eval().requires_grad_(False)


@torch.no_grad()
def encode(vae: AutoencoderKL, pixels: np.ndarray) -> torch.Tensor:
    """(B, side, side, 3) uint8 -> latents (B, C, h, w), not scaled: the posterior's mode."""
    with swift():
        found = [
            vae.encode(autoencoder.to_model(part)).latent_dist.mode().float()
            for part in np.array_split(pixels, -(-len(pixels) // 64))
        ]
    return torch.cat(found)


def latent_scale(icons: list[Icon], vae: AutoencoderKL) -> float:
    """The factor that gives the latents of scenes (256 of them) deviation 1."""
    composer = Composer(icons, side=SIDE, seed=777)
    return round(float(1 / encode(vae, np.stack([composer.scene().pixels for _ in range(256)])).std()), 4)


def seen(scene: Scene) -> tuple[np.ndarray, str]:
    return scene.pixels, scene.caption


def make(shards: Shards, index: int, vae: AutoencoderKL, tokenizer) -> tuple[torch.Tensor, torch.Tensor]:
    """Shard ``index``: scaled latents (N, C, h, w) and token ids (N, length), on the training device."""
    rng, latents, ids = np.random.default_rng([shards.seed, index]), [], []
    for chunk in shards.chunks_of(index):
        pixels, captions = zip(*chunk)
        latents.append(encode(vae, np.stack(pixels)) * vae.config.scaling_factor)
        ids.append(clip.tokenize(tokenizer, ["" if rng.random() < UNNAMED else text for text in captions]))
    return torch.cat(latents), torch.cat(ids)
