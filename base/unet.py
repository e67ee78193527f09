"""The denoiser: a small UNet2DConditionModel on 16 x 16 x 4 latents, v-prediction, zero terminal SNR."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel

from . import autoencoder, clip
from .corpus import Icon
from .scenes import Composer
from .training import DEVICE, Training

BATCH, STEPS, SHARD, PASSES = 12, 9_216, 4096, 3


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
        self.scale = latent_scale(icons, vae)

    @torch.no_grad()
    def read(self, captions: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(captions, padding="max_length", max_length=clip.LENGTH, truncation=True, return_tensors="pt")
        return self.text_encoder(tokens.input_ids.to(DEVICE))[0]

    @torch.no_grad()
    def make(self, index: int, rank: int, size: int, shards: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Shard ``index`` of ``shards``: large single objects of named style first, then freer ones, pairs and triples."""
        rng = np.random.default_rng([50_000, index, rank])
        grown = min(1.0, max(0.0, index / max(1, shards) - 0.7) / 0.2)
        composer = Composer(self.icons, seed=90_000 + index + 10_000 * rank, spread=0.15 + 0.85 * grown)
        two, three = 0.1 + 0.25 * grown, 0.08 * grown
        scenes = [composer.scene(int(rng.choice([1, 2, 3], p=[1 - two - three, two, three]))) for _ in range(size)]
        latents, texts = [], []
        for i in range(0, size, 64):
            part = scenes[i : i + 64]
            latents.append((self.vae.encode(autoencoder.to_model(np.stack([s.pixels for s in part]))).latents) * self.scale)
            texts.append(self.read(["" if rng.random() < 0.1 else s.caption for s in part]))
        return torch.cat(latents), torch.cat(texts)


@torch.no_grad()
def latent_scale(icons: list[Icon], vae) -> float:
    """The factor that gives the latents of scenes (512 of them) deviation 1."""
    composer = Composer(icons, seed=777)
    latents = vae.encode(autoencoder.to_model(np.stack([composer.scene(1 + i % 3).pixels for i in range(512)]))).latents
    return round(float(1 / latents.std()), 4)


def train(icons: list[Icon], work: Path, seed: int = 3, steps: int = STEPS) -> None:
    """Train (or take up) the UNet: on a GPU in this process, on a CPU in one single-threaded process a core.

    Small matrix products gain little from a second thread; processes that average their gradients gain more.
    """
    autoencoder.train(icons, work / "autoencoder")
    clip.train(icons, work / "clip")
    workers = 1 if DEVICE == "cuda" else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as meeting:
        address = f"file://{meeting}/meeting"
        torch.multiprocessing.start_processes(_work, (workers, address, icons, work, seed, steps), nprocs=workers, start_method="spawn")


def _work(rank: int, workers: int, address: str, icons: list[Icon], work: Path, seed: int, steps: int) -> None:
    """One of the training processes."""
    if workers > 1:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=workers)
    vae = autoencoder.train(icons, work / "autoencoder").eval().requires_grad_(False)
    tokenizer, pair = clip.train(icons, work / "clip")
    shards = Shards(icons, vae, tokenizer, pair.text_model.eval().requires_grad_(False))
    torch.manual_seed(seed)
    model = build().to(memory_format=torch.channels_last)
    run = Training(work / "unet", model, lr=1.4e-3, total=steps, warmup=500, decay=0.998, save_every=300, shape="stable", leader=rank == 0)
    scheduler = make_scheduler()
    bars = scheduler.alphas_cumprod.to(DEVICE)
    snr = (bars / (1 - bars)).cpu()
    size, batch, per_shard = SHARD // workers, BATCH // workers, SHARD * PASSES // BATCH
    forward = torch.nn.parallel.DistributedDataParallel(model, gradient_as_bucket_view=True) if workers > 1 else torch.compile(model)
    rng = torch.Generator().manual_seed(seed + run.step * workers + rank)
    shard, latents, texts = -1, None, None
    while not run.done:
        if run.step // per_shard != shard:
            shard = run.step // per_shard
            latents, texts = shards.make(shard, rank, size, max(1, steps // per_shard))
        rows = torch.randint(size, (batch,), generator=rng)
        # noise so weak that nothing is left to decide is drawn less often, above all before the details' turn comes
        likely = 1 / (1 + snr * (2 if run.step < 0.7 * steps else 0.3))
        t = torch.multinomial(likely, batch, replacement=True, generator=rng).to(DEVICE)
        z, context = latents[rows], texts[rows]
        noise = torch.randn(z.shape, generator=rng).to(DEVICE)
        a, s = bars[t].sqrt()[:, None, None, None], (1 - bars[t]).sqrt()[:, None, None, None]
        noisy = (a * z + s * noise).contiguous(memory_format=torch.channels_last)
        predicted = forward(noisy, t, context, return_dict=False)[0]
        run.update((predicted - (a * noise - s * z)).square().mean(), BATCH)
