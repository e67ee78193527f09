"""A plain Custom Diffusion loop (arXiv 2212.04488): what diffusers' example script does in each step, and
nothing cleverer.

Every step opens its photos and its pictures of the class, encodes them, encodes the prompt of every row, and
trains the cross-attention's key and value projections and the token on both. The script lays photos and class
pictures into one batch, one forward; ``forwards=2`` takes them one after another, as loops without that care
do. Float32, which is the script's default, unless told otherwise. Kinder to the loop than the script is: no
loader processes to start, no mask, only the token's own vector in the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps

from l2dm.backbone import Backbone


class Plain:
    """Photos in ``photos``, class pictures in ``others``; ``batch`` of each in a step."""

    def __init__(
        self,
        backbone: Backbone,
        photos: Path,
        others: Path,
        token: str,
        noun: str,
        batch: int,
        rate: float,
        forwards: int = 1,
        precision: str = "float32",
    ):
        self.backbone, self.batch, self.forwards, self.precision = backbone, batch, forwards, precision
        self.sources = [
            (sorted(photos.iterdir()), f"a photo of {token} {noun}"),
            (sorted(others.iterdir()), f"a photo of a {noun}"),
        ]
        vector = backbone.add_token(token, backbone.word_vector(noun))
        tuned = [
            p
            for name, p in backbone.unet.named_parameters()
            if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
        ]
        self.parameters = [p.requires_grad_(True) for p in [*tuned, vector]]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=rate, weight_decay=1e-2)
        self.generator = torch.Generator().manual_seed(0)

    def run(self) -> Iterator[float]:
        """The loss of one step after another, for ever."""
        while True:
            parts = [self._rows(*source) for source in self.sources]
            if self.forwards == 1:
                loss = self._loss(*(torch.cat(both) for both in zip(*parts)))
            else:
                loss = sum(self._loss(*part) for part in parts)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            yield float(loss.detach())

    def _rows(self, files: list[Path], prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels ``(batch, 3, side, side)`` in [-1, 1], and the ids of their prompts."""
        chosen = torch.randint(len(files), (self.batch,), generator=self.generator).tolist()
        pixels, ids = [], []
        for i in chosen:
            image = ImageOps.fit(
                Image.open(files[i]).convert("RGB"), (self.backbone.side,) * 2, Image.Resampling.BILINEAR
            )
            if torch.rand((), generator=self.generator) < 0.5:
                image = ImageOps.mirror(image)
            pixels.append(torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 127.5 - 1)
            length = self.backbone.longest_prompt + 2
            tokenized = self.backbone.tokenizer(
                prompt, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
            )
            ids.append(tokenized.input_ids)
        return torch.stack(pixels), torch.cat(ids)

    def _loss(self, pixels: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        backbone = self.backbone
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            latents = backbone.encode_pictures(pixels)
            noise = torch.randn(latents.shape, generator=self.generator).to(latents)
            timesteps = backbone.process.sample_t(len(latents), self.generator)
            timesteps = timesteps.to(latents.device)
            noisy = backbone.process.add_noise(latents, noise, timesteps)
            context = backbone.text_encoder(ids.to(backbone.device))[0]
            predicted = backbone.predict(noisy, timesteps, context)
        target = backbone.process.target(latents, noise, timesteps)
        if self.forwards == 2:
            return F.mse_loss(predicted.float(), target)
        return sum(F.mse_loss(a.float(), b) for a, b in zip(predicted.chunk(2), target.chunk(2)))
