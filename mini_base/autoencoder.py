"""The autoencoder: 128 px pictures to 16 x 16 x 16 latents and back (diffusers' AutoencoderKL, factor 8).

Widths are small where there are many cells and large where there are few: a step costs half of what even
widths cost.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL

from .corpus import Icon
from .scenes import Composer
from .training import DEVICE, Training, swift

SIDE, CHANNELS, WIDTHS = 128, 16, (16, 32, 128, 192)
#: Crops of 64 px first: four times as many pictures for the same work.
CROP, CROP_STEPS, STEPS = 64, 4200, 5600
CROP_BATCH, BATCH, POOL, PASSES = 16, 8, 700, 7
LEARNING_RATE, MUON = 1.5e-3, 2e-3
NOISE = 0.05  # added to the latents that are decoded; also the posterior's deviation


def build() -> AutoencoderKL:
    """The autoencoder as training begins it."""
    model = AutoencoderKL(
        block_out_channels=WIDTHS,
        layers_per_block=1,
        latent_channels=CHANNELS,
        norm_num_groups=8,
        sample_size=SIDE,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        mid_block_add_attention=False,
        scaling_factor=1.0,
    )
    return spread_evenly(model)


@torch.no_grad()
def spread_evenly(model: AutoencoderKL) -> AutoencoderKL:
    """Make the posterior's deviation NOISE for every picture: ``sample`` then gives what the decoder learnt
    from.
    """
    channels = model.config.latent_channels
    model.quant_conv.weight[channels:] = 0
    model.quant_conv.bias[channels:] = 2 * math.log(NOISE)
    return model


def to_model(pixels: np.ndarray) -> torch.Tensor:
    """(B, side, side, 3) uint8 -> (B, 3, side, side) float in [-1, 1], channels last."""
    x = torch.from_numpy(pixels).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def likeness(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 4 * (y - x).square().mean() + (y - x).abs().mean()


def pictures(composer: Composer, rng: np.random.Generator) -> np.ndarray:
    """(POOL, side, side, 3): scenes, and textures that stand for photographs."""
    return np.stack(
        [
            composer.photo_like()
            if rng.random() < 0.35
            else composer.scene(int(rng.choice([1, 2, 3], p=[0.5, 0.3, 0.2]))).pixels
            for _ in range(POOL)
        ]
    )


def cropped(picked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A square of CROP pixels of each, cut where latent cells begin."""
    places = 8 * rng.integers((picked.shape[1] - CROP) // 8 + 1, size=(len(picked), 2))
    return np.stack([p[y : y + CROP, x : x + CROP] for p, (y, x) in zip(picked, places)])


def train(icons: list[Icon], folder: Path, seed: int = 1) -> AutoencoderKL:
    """Train (or take up, or just load) the autoencoder.

    Latents are not asked to turn and shrink with the picture (EQ-VAE, arXiv 2502.09509): in a trial that cost
    5 dB.
    """
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    run = Training(folder, model, lr=LEARNING_RATE, total=STEPS, decay=0.998, muon=MUON, shape="stable")
    rng = np.random.default_rng(seed + run.step)
    composer = Composer(icons, side=SIDE, seed=seed + run.step)
    pool = None
    while not run.done:
        crops = run.step < CROP_STEPS
        size = CROP_BATCH if crops else BATCH
        if pool is None or run.step % (POOL * PASSES // size) == 0:
            pool = pictures(composer, rng)
        picked = pool[rng.integers(len(pool), size=size)]
        x = to_model(cropped(picked, rng) if crops else picked)
        with swift():
            z = model.encode(x).latent_dist.mean.float()
            y = model.decode(z + NOISE * torch.randn_like(z)).sample.float()
        level = z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean()
        run.update(likeness(y, x) + 2e-3 * level, size)
    return spread_evenly(run.averaged())
