"""The autoencoder: 64 px pictures to 16 x 16 x 4 latents and back (diffusers' AutoencoderTiny, factor 4).

Its decoder learns on when there is a denoiser (``decoder``)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderTiny

from .corpus import Icon
from .scenes import Composer
from .training import DEVICE, Training, swift

CROP, CROP_STEPS, STEPS = 32, 4000, 7000


def build() -> AutoencoderTiny:
    return AutoencoderTiny(
        latent_channels=4,
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(64, 64, 64),
        num_encoder_blocks=(0, 2, 4),
        num_decoder_blocks=(6, 4, 1),
        upsampling_scaling_factor=2,
    )


def to_model(pixels: np.ndarray) -> torch.Tensor:
    """(B, side, side, 3) uint8 -> (B, 3, side, side) float in [-1, 1], channels last."""
    x = torch.from_numpy(pixels).to(DEVICE).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def shrink(x: torch.Tensor, scale: float) -> torch.Tensor:
    return F.interpolate(x, scale_factor=scale, mode="bilinear", antialias=True)


def likeness(y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return 4 * (y - x).square().mean() + (y - x).abs().mean()


def pictures(composer: Composer, rng: np.random.Generator) -> list[np.ndarray]:
    """A pool of scenes and of textures that stand for photographs."""
    return [
        composer.photo_like() if rng.random() < 0.4 else composer.scene(int(rng.integers(1, 4))).pixels
        for _ in range(2000)
    ]


def train(icons: list[Icon], folder: Path, seed: int = 1) -> AutoencoderTiny:
    """Train (or take up, or just load) the autoencoder.

    A shrunken latent must decode to the shrunken picture (scale equivariance, EQ-VAE, arXiv 2502.09509): latents without
    it hold fine detail that a denoiser is slow to learn.
    """
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    run = Training(folder, model, lr=2e-3, total=STEPS, decay=0.998)
    composer = Composer(icons, seed=seed + run.step)
    rng = np.random.default_rng(seed + run.step)
    pool: list[np.ndarray] = []
    while not run.done:
        crops = run.step < CROP_STEPS
        if run.step % 400 == 0 or not pool:
            pool = pictures(composer, rng)
        picked = [pool[i] for i in rng.integers(len(pool), size=16 if crops else 8)]
        if crops:
            corners = rng.integers(0, 64 - CROP + 1, size=(len(picked), 2))
            picked = [p[y : y + CROP, x : x + CROP] for p, (y, x) in zip(picked, corners)]
        x = to_model(np.stack(picked))
        scale = (0.5, 0.75)[run.step % 2]
        with swift():
            z = model.encode(x).latents.float()
            y, small = (
                model.decode(part).sample.float()
                for part in (z + 0.1 * torch.randn_like(z), shrink(z, scale))
            )
        loss = likeness(y, x) + likeness(small, shrink(x, scale))
        loss = loss + 2e-3 * (z.mean((0, 2, 3)).square().mean() + (z.std((0, 2, 3)) - 1).square().mean())
        run.update(loss, len(picked))
    return run.averaged()
