"""The decoder that is shipped: it learns on from the encoder's latents and from what the denoiser makes of them.

What a small denoiser paints is right at large and blotched at small: its latents are not those that the encoder gives, and a decoder
that has only seen the encoder's shows every flaw. So half of the latents that it learns from here were noised and drawn to
their end by the denoiser, as in drawing (prompt, sampler, guidance); beside them is the picture that was meant. Many are of things that
the base cannot name, drawn from less noise: what is learnt is how pictures are drawn, not which there are. The others are the
encoder's own, some of textures that stand for photographs: what comes in whole must come out whole. The encoder stays as it is, so
what the denoiser has learnt of latents stays true.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline

from l2dm.backbone import fast_layers

from . import autoencoder, clip, unet
from .autoencoder import likeness, to_model
from .corpus import TRAIN_STYLES, Icon, load_things
from .scenes import Composer
from .training import Training, swift

BATCH, STEPS, POOL, PASSES = 16, 4000, 1536, 6
KNOWN, ANY, TEXTURES = 0.45, 0.4, 0.15  # of a pool: scenes of the base's nouns, of any thing, textures
# of a pool: what the denoiser draws; how many of its sampler's steps, from as much noise as there is before them
KNOWN_DRAWN, KNOWN_LAST = 0.3, (1, 2, 3, 4)
ANY_DRAWN, ANY_LAST = 0.2, (1, 2)


def redrawn(
    pipe: StableDiffusionImg2ImgPipeline, captions: list[str], latents: torch.Tensor, last: int, seed: int
) -> torch.Tensor:
    """Scaled ``latents`` (B, 4, 16, 16) after noise and the ``last`` steps of drawing with their ``captions``."""
    steps, scale = (unet.DRAWING[name] for name in ("steps", "guidance_scale"))
    with swift(), fast_layers(pipe.unet):
        return pipe(
            captions, image=latents, strength=(last + 0.5) / steps, num_inference_steps=steps, guidance_scale=scale,
            generator=torch.Generator().manual_seed(seed), output_type="latent",
        ).images.float()  # fmt: skip


class Pools:
    """Latents as a decoder gets them, and the pictures that were meant."""

    def __init__(
        self, icons: list[Icon], things: list[Icon], pipe: StableDiffusionImg2ImgPipeline, seed: int
    ):
        self.known, self.any = (
            Composer(icons, seed=seed, spread=0.35),
            Composer(things, seed=seed + 1, spread=0.7),
        )
        self.pipe, self.rng = pipe, np.random.default_rng(seed)

    @torch.no_grad()
    def make(self, size: int = POOL) -> tuple[torch.Tensor, torch.Tensor]:
        """Latents (size, 4, 16, 16), not scaled, and pixels (size, 3, 64, 64) in [-1, 1]."""
        known, free, textures = (round(share * size) for share in (KNOWN, ANY, TEXTURES))
        scenes = [
            self.known.scene(int(self.rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))) for _ in range(known)
        ]
        scenes += [self.any.scene(int(self.rng.integers(1, 4))) for _ in range(free)]
        x = to_model(np.stack([s.pixels for s in scenes] + [self.any.photo_like() for _ in range(textures)]))
        vae = self.pipe.vae
        factor, z = vae.config.scaling_factor, torch.cat([vae.encode(part).latents for part in x.split(64)])
        for begin, share, last in ((0, KNOWN_DRAWN, KNOWN_LAST), (known, ANY_DRAWN, ANY_LAST)):
            end = begin + round(share * size)
            for first in range(begin, end, 32):
                rows = slice(first, min(first + 32, end))
                steps, seed = int(self.rng.choice(last)), int(self.rng.integers(2**31))
                z[rows] = (
                    redrawn(self.pipe, [s.caption for s in scenes[rows]], z[rows] * factor, steps, seed)
                    / factor
                )
        return z, x


def train(icons: list[Icon], work: Path, seed: int = 6) -> AutoencoderTiny:
    """Train (or take up, or just load) the decoder of the finished autoencoder, beside the finished denoiser."""
    model = autoencoder.train(icons, work / "autoencoder").train()
    model.encoder.requires_grad_(False)
    model.register_to_config(scaling_factor=unet.latent_scale(icons, model))
    run = Training(work / "decoder", model, lr=1e-3, total=STEPS, decay=0.998, warmup=100)
    if run.done:
        return run.averaged()
    networks = unet.finished(work)
    pipe = StableDiffusionImg2ImgPipeline(
        vae=model, text_encoder=networks.text, tokenizer=clip.load_tokenizer(work), unet=networks.unet, scheduler=unet.make_scheduler(),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    pools, rng = (
        Pools(icons, load_things(work, TRAIN_STYLES), pipe, seed + run.step),
        np.random.default_rng(seed + run.step),
    )
    torch.manual_seed(seed + run.step)
    latents = torch.empty(0)
    while not run.done:
        if run.step % (POOL * PASSES // BATCH) == 0 or not len(latents):
            latents, pixels = pools.make()
        rows = torch.from_numpy(rng.integers(len(latents), size=BATCH))
        z, x = latents[rows], pixels[rows]
        with swift():
            y = model.decode(z + 0.03 * torch.randn_like(z)).sample
        run.update(likeness(y.float(), x), BATCH)
    return run.averaged()
