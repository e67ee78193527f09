"""The denoiser: a small UNet2DConditionModel on 16 x 16 x 4 latents, v-prediction, zero terminal SNR.

Shapes come from text through two doors: cross-attention, and the pooled text that scales and shifts every residual block
(as in DeepFloyd IF). The text encoder, begun from the CLIP pair, learns along, as in the first latent diffusion models
(Rombach et al., arXiv 2112.10752): frozen, a network this small paints the noun's colour and never its shape.

With two doors cross-attention need not say where a noun is. A second term teaches it, from the boxes that a composed scene
knows (as TokenCompose does from segmentations, arXiv 2312.03626): the share of a noun's attention outside its box, and how
little of the attention inside goes to the noun. It counts by the share of signal in the noisy latents, since in pure noise
there is no place yet. And for every other picture the pooled door reads the empty prompt: what a thing looks like must come
through cross-attention too, which alone can say it of two things in two places.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel

from l2dm.backbone import fast_layers
from l2dm.guidance.attention import AttentionMaps, watched, without_start

from . import autoencoder, clip
from .corpus import Icon
from .scenes import Composer, Scene
from .training import DEVICE, Training, averaging, side_by_side, swift

BATCH, STEPS, SHARD, PASSES = 24, 47_000, 4096, 4
PLACED, FELT, ENOUGH = (
    0.1,
    0.03,
    0.4,
)  # weights of where attention is and of how much; how much of it is enough
MAP_SIDE, MOST_THINGS = 8, 3
DRAWING = {"steps": 8, "guidance_scale": 3.0}  # what suits it
CLOSED = 0.5  # share of pictures whose pooled text is that of the empty prompt


def build() -> UNet2DConditionModel:
    """The denoiser; its attention adds nothing at first, so that weights from before a level had any can be taken up."""
    unet = UNet2DConditionModel(
        sample_size=16,
        block_out_channels=(48, 96, 192),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D",) * 3,  # at 16 x 16 too: half-size things are painted there
        up_block_types=("CrossAttnUpBlock2D",) * 3,
        attention_head_dim=4,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
        cross_attention_dim=clip.WIDTH,
        norm_num_groups=8,
    )
    for name, module in unet.named_modules():
        if name.endswith("proj_out"):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return unet


def make_scheduler() -> DPMSolverMultistepScheduler:
    """The stochastic solver: fresh noise at every step washes out a small denoiser's errors."""
    return DPMSolverMultistepScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", prediction_type="v_prediction",
        rescale_betas_zero_snr=True, timestep_spacing="trailing", final_sigmas_type="zero", algorithm_type="sde-dpmsolver++",
    )  # fmt: skip


class Denoiser(torch.nn.Module):
    """The two networks that learn together: the text encoder reads, the UNet predicts v."""

    def __init__(self, text: CLIPTextModel):
        super().__init__()
        self.text, self.unet = text, build().to(memory_format=torch.channels_last)

    def forward(
        self, noisy: torch.Tensor, t: torch.Tensor, ids: torch.Tensor, pooled: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """v ``(B, 4, 16, 16)`` and the tokens' attention maps ``(B, LENGTH, 8, 8)`` of prompts ``ids`` (B or more, LENGTH).

        ``pooled`` (B,): of each picture, which of the prompts the pooled door reads."""
        maps, texts = AttentionMaps((MAP_SIDE, MAP_SIDE)), self.text(ids)[0]
        door = self.unet.add_embedding.register_forward_pre_hook(lambda module, args: (texts[pooled],))
        try:
            with fast_layers(self.unet), watched(self.unet, maps):
                v = self.unet(noisy, t, texts[: len(noisy)], return_dict=False)[0]
                return v.float(), without_start(maps.probabilities())
        finally:
            door.remove()


def text_encoder(pair: CLIPModel) -> CLIPTextModel:
    """The pair's text encoder as a model of its own."""
    text = CLIPTextModel(pair.config.text_config)
    text.load_state_dict(pair.text_model.state_dict())
    return text


def whereabouts(tokenizer, scene: Scene, caption: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Of up to three things: which tokens of ``caption`` name each ``(3, LENGTH)``, and the cells its box covers ``(3, 8, 8)``."""
    tokens, cells = torch.zeros(MOST_THINGS, clip.LENGTH), torch.zeros(MOST_THINGS, MAP_SIDE, MAP_SIDE)
    offsets = tokenizer(caption, return_offsets_mapping=True)["offset_mapping"]
    taken: set[int] = set()
    for i, item in sorted(
        enumerate(scene.items), key=lambda pair: -len(pair[1].icon.noun)
    ):  # "teddy bear" before "bear"
        for found in re.finditer(rf"\b{re.escape(item.icon.noun)}\b", caption):
            if taken & set(range(*found.span())):
                continue
            taken.update(range(*found.span()))
            named = [
                k
                for k, (low, high) in enumerate(offsets)
                if low < high and low < found.end() and high > found.start()
            ]
            tokens[i, [k for k in named if k < clip.LENGTH]] = 1
            cells[i] = torch.from_numpy(item.cells(len(scene.pixels), MAP_SIDE))
            break
    return tokens, cells


def misplaced(
    maps: torch.Tensor, tokens: torch.Tensor, cells: torch.Tensor, weights: torch.Tensor
) -> torch.Tensor:
    """``PLACED`` times the share of the things' attention that is outside their boxes, and ``FELT`` times log(ENOUGH / mean
    attention inside) where that is short of ``ENOUGH``: means over things, pictures weighted by ``weights`` (B,).

    ``maps`` (B, LENGTH, 8, 8); ``tokens`` and ``cells`` as ``whereabouts`` gives them, (B, 3, ...).
    """
    own = torch.einsum("bnl,blhw->bnhw", tokens, maps)
    inside = (own * cells).sum((2, 3))
    share = 1 - inside / own.sum((2, 3)).clamp(min=1e-8)
    short = (ENOUGH / (inside / cells.sum((2, 3)).clamp(min=1e-8)).clamp(min=1e-6)).log().clamp(min=0)
    counted = tokens.any(2) * weights[:, None]
    return ((PLACED * share + FELT * short) * counted).sum() / counted.sum().clamp(min=1e-8)


class Shards:
    """Composed scenes made a shard at a time and gone through ``PASSES`` times: latents, token ids, what is where."""

    def __init__(self, icons: list[Icon], vae, tokenizer):
        self.icons, self.vae, self.tokenizer = icons, vae, tokenizer
        self.scale = latent_scale(icons, vae)

    @torch.no_grad()
    def make(self, index: int, rank: int, size: int, shards: int) -> tuple[torch.Tensor, ...]:
        """Shard ``index`` of ``shards``: large single objects of named style first, then freer ones, and mostly pairs and triples:
        things at half their size are learnt anew."""
        rng = np.random.default_rng([50_000, index, rank])
        grown = min(1.0, max(0.0, index / max(1, shards) - 0.4) / 0.2)
        composer = Composer(self.icons, seed=90_000 + index + 10_000 * rank, spread=0.15 + 0.2 * grown)
        two, three = 0.1 + 0.4 * grown, 0.15 * grown
        scenes = [
            composer.scene(int(rng.choice([1, 2, 3], p=[1 - two - three, two, three]))) for _ in range(size)
        ]
        latents, texts, things = [], [], []
        for i in range(0, size, 64):
            part = scenes[i : i + 64]
            latents.append(
                (self.vae.encode(autoencoder.to_model(np.stack([s.pixels for s in part]))).latents)
                * self.scale
            )
            captions = ["" if rng.random() < 0.1 else s.caption for s in part]
            texts.append(clip.tokenize(self.tokenizer, captions))
            things += [whereabouts(self.tokenizer, scene, caption) for scene, caption in zip(part, captions)]
        return (
            torch.cat(latents),
            torch.cat(texts),
            *(torch.stack(parts).to(DEVICE) for parts in zip(*things)),
        )


@torch.no_grad()
def latent_scale(icons: list[Icon], vae) -> float:
    """The factor that gives the latents of scenes (512 of them) deviation 1."""
    composer = Composer(icons, seed=777)
    latents = vae.encode(
        autoencoder.to_model(np.stack([composer.scene(1 + i % 3).pixels for i in range(512)]))
    ).latents
    return round(float(1 / latents.std()), 4)


def finished(work: Path) -> Denoiser:
    """The averaged networks of whatever training state lies in ``work``."""
    return Training(
        work / "unet", Denoiser(text_encoder(clip.build(clip.load_tokenizer(work)))), 0.0, 0
    ).averaged()


def train(icons: list[Icon], work: Path, seed: int = 3, steps: int = STEPS) -> None:
    """Train (or take up) the UNet and its text encoder."""
    autoencoder.train(icons, work / "autoencoder")
    clip.train(icons, work)
    side_by_side(_work, icons, work, seed, steps)


def _work(rank: int, workers: int, icons: list[Icon], work: Path, seed: int, steps: int) -> None:
    """One of the training processes."""
    vae = autoencoder.train(icons, work / "autoencoder").eval().requires_grad_(False)
    shards = Shards(icons, vae, clip.load_tokenizer(work))
    torch.manual_seed(seed)
    model = Denoiser(text_encoder(clip.train(icons, work)))
    run = Training(
        work / "unet",
        model,
        lr=1.2e-3,
        total=steps,
        warmup=200,
        decay=0.998,
        save_every=300,
        shape="stable",
        leader=rank == 0,
    )
    scheduler = make_scheduler()
    bars = scheduler.alphas_cumprod.to(DEVICE)
    snr = (bars / (1 - bars)).cpu()
    size, batch, per_shard = SHARD // workers, BATCH // workers, SHARD * PASSES // BATCH
    forward, nothing = averaging(model, workers), clip.tokenize(shards.tokenizer, [""])
    rng = torch.Generator().manual_seed(seed + run.step * workers + rank)
    shard, made = -1, ()
    while not run.done:
        if run.step // per_shard != shard:
            shard = run.step // per_shard
            made = shards.make(shard, rank, size, max(1, steps // per_shard))
        rows = torch.randint(size, (batch,), generator=rng)
        # strong noise first, where shapes are decided; then, in two steps, the details' turn
        likely = 1 / (1 + snr * (4 if run.step < 0.5 * steps else 1.5 if run.step < 0.75 * steps else 0.5))
        t = torch.multinomial(likely, batch, replacement=True, generator=rng).to(DEVICE)
        z, ids, tokens, cells = (part[rows] for part in made)
        noise = torch.randn(z.shape, generator=rng).to(DEVICE)
        a, s = bars[t].sqrt()[:, None, None, None], (1 - bars[t]).sqrt()[:, None, None, None]
        noisy = (a * z + s * noise).contiguous(memory_format=torch.channels_last)
        closed = torch.rand(batch, generator=rng) < CLOSED
        pooled = torch.where(closed, batch, torch.arange(batch)).to(DEVICE)
        with swift():
            predicted, maps = forward(noisy, t, torch.cat([ids, nothing]), pooled)
        error = (predicted - (a * noise - s * z)).square().mean()
        run.update(error + misplaced(maps, tokens, cells, bars[t]), BATCH, told=error)
