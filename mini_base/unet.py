"""The denoiser: a UNet2DConditionModel on the latents' 16 x 16 cells, v-prediction, zero terminal SNR.

What a prompt asks for reaches the picture through cross-attention alone, at every level, and nothing is asked
of attention: where a noun lands, and which is neglected, is the denoiser's own doing. The text encoder, begun
from the CLIP pair, learns along, as in the first latent diffusion models (Rombach et al., arXiv 2112.10752).
Widths are multiples of 32 and heads have 32, so that products in bfloat16 fill their tiles; hidden weights
are Muon's (which suits U-Nets, arXiv 2510.19376).

It learns in stages, each a training of its own with a level learning rate and a last fall: what a stage gives
can draw, is kept as a part of the base, and is what the next one begins with.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from l2dm.backbone import fast_layers

from . import clip, latents, parts
from .composing import Shards
from .corpus import Icon
from .training import DEVICE, Training, averaging, side_by_side, swift

CELLS, WIDTHS, HEAD = 16, (64, 128, 192), 32
BATCH = 512 if DEVICE == "cuda" else 64
SHARD, PASSES = (
    (16_384, 4) if DEVICE == "cuda" else (4096, 12)
)  # on a core a shard takes as long as four passes
MUON, ADAM = 2e-3, 1e-3  # learning rates of hidden weights and of all others
COMPILED = DEVICE == "cpu" and any(map(shutil.which, ("g++", "clang++")))  # a quarter less time a step
DRAWING = {"steps": 16, "guidance_scale": 3.0}  # what suits it
LENGTHS = (0.03, 0.05, 0.07, 0.1, 0.14)  # of averages that are tried when training is over
HELD, BINS = 256, 8  # scenes and levels of noise that they are tried on
HELD_SEED = 900_003


@dataclass(frozen=True)
class Stage:
    """One training of the denoiser and the part that it becomes: how many ``pictures`` it learns from, and
    its ``seed``.
    """

    part: str
    pictures: int
    seed: int


STAGES = (Stage("draft", 288_000, 3), Stage("denoiser", 1_600_000, 4))


def build(channels: int) -> UNet2DConditionModel:
    """The denoiser of latents with ``channels``; its attention adds nothing at first."""
    unet = UNet2DConditionModel(
        sample_size=CELLS,
        in_channels=channels,
        out_channels=channels,
        block_out_channels=WIDTHS,
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",)
        * len(WIDTHS),  # at 16 x 16 too: small things are painted there
        up_block_types=("CrossAttnUpBlock2D",) * len(WIDTHS),
        attention_head_dim=tuple(
            width // HEAD for width in WIDTHS
        ),  # diffusers' name for how many heads there are
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        cross_attention_dim=clip.WIDTH,
    )
    for name, module in unet.named_modules():
        if name.endswith("proj_out"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return unet


def make_scheduler() -> DPMSolverMultistepScheduler:
    """DPM-Solver++ (2M): deterministic, so that what is done to a latent half-way stays in the picture."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        final_sigmas_type="zero",
        algorithm_type="dpmsolver++",
    )


class Denoiser(torch.nn.Module):
    """The two networks that learn together: the text encoder reads, the UNet predicts v."""

    def __init__(self, text: CLIPTextModel, channels: int):
        super().__init__()
        self.text, self.unet = text, build(channels).to(memory_format=torch.channels_last)
        if DEVICE == "cpu":
            text.set_attn_implementation("eager")  # the fused one is slow in bfloat16

    def forward(self, noisy: torch.Tensor, t: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        """v (B, C, 16, 16) of ``noisy`` (B, C, 16, 16) at steps ``t`` (B,), prompts ``ids`` (B, length)."""
        return self.unet(noisy, t, self.text(ids)[0], return_dict=False)[0].float()


def text_encoder(pair: CLIPModel) -> CLIPTextModel:
    """The pair's text encoder as a model of its own."""
    text = CLIPTextModel(pair.config.text_config)
    text.load_state_dict(pair.text_model.state_dict())
    return text


class Noising:
    """Noise of the forward process: which level, and what v is then."""

    def __init__(self):
        self.bars = make_scheduler().alphas_cumprod.to(DEVICE)
        self.snr = self.bars / (1 - self.bars)

    def levels(self, count: int, progress: float, generator: torch.Generator) -> torch.Tensor:
        """Steps t (count,): strong noise first, where shapes are decided; then more and more the details'
        turn.
        """
        likely = 1 / (1 + self.snr * (4 - 3.5 * progress))
        return torch.multinomial(likely, count, replacement=True, generator=generator)

    def noisy(
        self, z: torch.Tensor, t: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The noisy latents and v, both like ``z`` (B, C, h, w)."""
        a, s = self.bars[t].sqrt()[:, None, None, None], (1 - self.bars[t]).sqrt()[:, None, None, None]
        return (a * z + s * noise).contiguous(memory_format=torch.channels_last), a * noise - s * z


@torch.no_grad()
def held_out_error(networks: Denoiser, z: torch.Tensor, ids: torch.Tensor) -> list[float]:
    """The mean squared error of v on scenes that were not learnt from, at ``BINS`` levels from little noise
    to much.
    """
    noising, generator = Noising(), torch.Generator(DEVICE).manual_seed(HELD_SEED)
    last, found = len(noising.bars) - 1, []
    for level in range(BINS):
        t = torch.full((len(z),), round((level + 0.5) / BINS * last), device=DEVICE)
        noisy, v = noising.noisy(z, t, torch.randn(z.shape, generator=generator, device=DEVICE))
        with swift():
            said = [networks(*part) for part in zip(noisy.split(64), t.split(64), ids.split(64))]
        found.append(round(float((torch.cat(said) - v).square().mean()), 5))
    return found


def train(icons: list[Icon], work: Path, steps: int | None = None, minutes: float | None = None) -> None:
    """Train (or take up) the denoiser and its text encoder, stage after stage; nothing to do where they came
    finished. Each stage for ``steps`` in all, or until ``minutes`` are over, and what it is then is kept; the
    next begins when it is done.
    """
    for number, stage in enumerate(STAGES):
        total = steps or stage.pictures // BATCH
        if not parts.settled(work, stage.part, stage.part, total):
            latents.load_autoencoder(icons, work)
            clip.train(icons, work)
            side_by_side(learn, icons, work, number, total, minutes)
        if not parts.settled(work, stage.part, stage.part, total):
            return print(f"{stage.part}: not done yet; the same command takes it up again", flush=True)


def load(work: Path, channels: int, part: str = STAGES[-1].part) -> tuple[Denoiser, dict]:
    """The finished networks and the record of their training."""
    networks = Denoiser(text_encoder(clip.build(clip.load_tokenizer(work))), channels)
    record = parts.load(work, part, networks)
    return networks.eval(), record


def begin(icons: list[Icon], work: Path, number: int, channels: int) -> Denoiser:
    """The networks that stage ``number`` begins with: new ones with the CLIP pair's text encoder, or those of
    the stage before.
    """
    torch.manual_seed(STAGES[number].seed)
    if number == 0:
        return Denoiser(text_encoder(clip.train(icons, work)), channels)
    return load(work, channels, STAGES[number - 1].part)[0].train()


def learn(
    rank: int, workers: int, icons: list[Icon], work: Path, number: int, steps: int, minutes: float | None
) -> None:
    """One of the processes that train stage ``number``."""
    stage = STAGES[number]
    vae, tokenizer = latents.load_autoencoder(icons, work), clip.load_tokenizer(work)
    model = begin(icons, work, number, vae.config.latent_channels)
    run = Training(
        work / stage.part,
        model,
        lr=ADAM,
        muon=MUON,
        total=steps,
        warmup=200,
        decay=None,
        save_every=300,
        shape="stable",
        leader=rank == 0,
        minutes=minutes,
    )
    shards = Shards(icons, latents.seen, SHARD, 50_000 + stage.seed, rank=rank, workers=workers)
    if COMPILED:
        model.unet.compile(dynamic=False)
    noising, forward = Noising(), averaging(model, workers)
    per_shard, batch, shard = SHARD * PASSES // BATCH, BATCH // workers, -1
    with fast_layers(model.unet):
        while not run.done:
            if run.step // per_shard != shard:
                shard = run.step // per_shard
                z, ids = latents.make(shards, shard, vae, tokenizer)
            generator = torch.Generator(DEVICE).manual_seed(
                (stage.seed * 1_000_003 + run.step) * workers + rank
            )
            rows = torch.randint(len(z), (batch,), generator=generator, device=DEVICE)
            t = noising.levels(batch, run.step / steps, generator)
            noise = torch.randn((batch, *z.shape[1:]), generator=generator, device=DEVICE)
            noisy, v = noising.noisy(z[rows], t, noise)
            with swift():
                error = (forward(noisy, t, ids[rows]) - v).square().mean()
            run.update(error, BATCH)
    shards.close()
    if rank == 0:
        finish(run, stage, icons, vae, tokenizer, work)


def finish(run: Training, stage: Stage, icons: list[Icon], vae, tokenizer, work: Path) -> None:
    """Keep the average whose length does best on scenes that were not learnt from."""
    held = Shards(icons, latents.seen, HELD, HELD_SEED, processes=0)
    z, ids = latents.make(held, 0, vae, tokenizer)
    tried = {length: held_out_error(run.averaged(length), z, ids) for length in LENGTHS}
    best = min(tried, key=lambda length: sum(tried[length]))
    record = parts.record_of(work / stage.part) | {"total": run.total, "batch": BATCH, "device": DEVICE}
    record |= {"length": best, "held_out_error": {str(length): errors for length, errors in tried.items()}}
    parts.keep(work, stage.part, run.averaged(best), record)
