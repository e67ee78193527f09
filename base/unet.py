"""The denoiser: a small UNet2DConditionModel on 16 x 16 x 4 latents, v-prediction, zero terminal SNR."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel

from . import autoencoder, clip
from .corpus import Icon
from .scenes import Composer
from .training import DEVICE, Training

BATCH, STEPS, SHARD, PASSES = 8, 21_504, 4096, 3


def build() -> UNet2DConditionModel:
    return UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(48, 96, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=4,
        cross_attention_dim=clip.WIDTH,
        norm_num_groups=8,
    )


def make_scheduler() -> DPMSolverMultistepScheduler:
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", final_sigmas_type="zero",
    )  # fmt: skip


class Shards:
    """Latents and text features of composed scenes, made a shard at a time and gone through ``PASSES`` times."""

    def __init__(self, icons: list[Icon], vae, tokenizer, text_encoder):
        self.icons, self.vae, self.tokenizer, self.text_encoder = icons, vae, tokenizer, text_encoder
        self.offset, self.scale = statistics(icons, vae)
        self.empty = self.read([""])[0]

    @torch.no_grad()
    def read(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(captions, padding="max_length", max_length=clip.LENGTH, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(DEVICE))[0]

    @torch.no_grad()
    def make(self, index: int, shards: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Shard ``index`` of ``shards``: large single objects first, then freer ones, then more pairs and triples."""
        rng = np.random.default_rng(50_000 + index)
        grown = min(1.0, 2 * index / max(1, shards))
        composer = Composer(self.icons, seed=90_000 + index, spread=min(1.0, 2 * grown))
        two, three = 0.35 * grown, 0.08 * grown
        scenes = [composer.scene(int(rng.choice([1, 2, 3], p=[1 - two - three, two, three]))) for _ in range(SHARD)]
        latents, texts = [], []
        for i in range(0, SHARD, 64):
            part = scenes[i : i + 64]
            latents.append((self.vae.encode(autoencoder.to_model(np.stack([s.pixels for s in part]))).latents) * self.scale)
            texts.append(self.read(["" if rng.random() < 0.1 else s.caption for s in part]))
        return torch.cat(latents), torch.cat(texts)


@torch.no_grad()
def statistics(icons: list[Icon], vae) -> tuple[float, float]:
    """Mean of the latents over 512 scenes, and the factor that gives them deviation 1."""
    composer = Composer(icons, seed=777)
    latents = vae.encode(autoencoder.to_model(np.stack([composer.scene(1 + i % 3).pixels for i in range(512)]))).latents
    return float(latents.mean()), round(float(1 / latents.std()), 4)


def train(icons: list[Icon], work: Path, seed: int = 3, steps: int = STEPS) -> UNet2DConditionModel:
    """Train (or take up, or just load) the UNet."""
    vae = autoencoder.train(icons, work / "autoencoder").eval().requires_grad_(False)
    tokenizer, pair = clip.train(icons, work / "clip")
    shards = Shards(icons, vae, tokenizer, pair.text_model.eval().requires_grad_(False))
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    run = Training(work / "unet", model, lr=7e-4, total=steps, warmup=500, decay=0.9995, save_every=300, shape="stable")
    scheduler = make_scheduler()
    bars = scheduler.alphas_cumprod.to(DEVICE)
    snr = bars / (1 - bars)
    likely = 1 / (1 + snr / 5)  # noise so weak that nothing is left to decide is drawn less often
    per_shard = SHARD * PASSES // BATCH
    forward = torch.compile(model, dynamic=False) if DEVICE == "cuda" and not run.done else model
    rng = torch.Generator().manual_seed(seed + run.step)
    shard, latents, texts = -1, None, None
    while not run.done:
        if run.step // per_shard != shard:
            shard, began = run.step // per_shard, time.time()
            latents, texts = shards.make(shard, max(1, steps // per_shard))
            print(f"unet shard {shard}: {time.time() - began:.0f}s", flush=True)
        rows = torch.randint(SHARD, (BATCH,), generator=rng)
        t = torch.multinomial(likely, BATCH, replacement=True, generator=rng if DEVICE == "cpu" else None)
        z, context = latents[rows], texts[rows]
        noise = torch.randn(z.shape, generator=rng).to(DEVICE)
        a, s = bars[t].sqrt()[:, None, None, None], (1 - bars[t]).sqrt()[:, None, None, None]
        noisy = (a * z + s * noise).contiguous(memory_format=torch.channels_last)
        predicted = forward(noisy, t.to(DEVICE), context, return_dict=False)[0]
        run.update((predicted - (a * noise - s * z)).square().mean())
    return run.averaged()
