"""Z-Image (arXiv 2511.22699): picture and Qwen3's text in one stream, no padding between them; flows, whose
time it is told the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.nn.functional as F
from diffusers import SchedulerMixin
from transformers import PreTrainedTokenizerBase

from ...errors import BaseModelError
from ..conditioning import Conditioning
from ..process import dynamic_mu
from ..sites import patch
from .family import Family, Reads, check_fit, in_chat

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source


class ZImage(Family):
    name = "Z-Image"
    pipeline = "ZImagePipeline"
    parts = {
        "transformer": ("ZImageTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("Qwen3Model", "Qwen3ForCausalLM"),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(length=512),)
    flow, negatives_first = True, False
    noise_dtype = torch.float32
    dtype = torch.bfloat16  # 10 B weights, published in bfloat16
    #: Cells of a latent's side, which no configuration tells: 1024 pixels.
    cells: ClassVar[int] = 128
    defaults = {
        "learn": {"steps": 500, "batch": 1},
        "generate": {"steps": 50, "guidance_scale": 5.0, "batch": 1},
    }
    defaults_from = (
        "diffusers' examples/dreambooth/README_z_image.md (adapters at 1e-4, 500 steps at 1024 px, "
        "there of 4 accumulated photos; drawn in 50 steps at guidance 5). Untuned: nobody here could "
        "run it"
    )

    def check(self, source: Source) -> None:
        transformer, qwen = source.settings_of("transformer"), source.settings_of("text_encoder")
        if transformer.get("siglip_feat_dim"):
            raise BaseModelError(
                f"{source.said}: its denoiser reads pictures too, as Z-Image-Omni does; l2dm needs the "
                "text-to-image model"
            )
        told = {
            "channels": (
                transformer.get("in_channels", 16),
                source.settings_of("vae").get("latent_channels", 4),
            ),
            "numbers a token": (transformer.get("cap_feat_dim", 2560), qwen.get("hidden_size", 4096)),
        }
        check_fit(source, told, "they are of different models")

    def side(self, backbone: Backbone) -> int:
        return self.cells * backbone.factor

    def set_timesteps(
        self, backbone: Backbone, scheduler: SchedulerMixin, steps: int, height: int, width: int
    ) -> None:
        cells = patch(backbone.denoiser)
        mu = dynamic_mu(scheduler.config, (height // cells) * (width // cells))
        sigmas = torch.linspace(1.0, 1 / steps, steps).tolist()
        scheduler.set_timesteps(sigmas=sigmas, mu=mu, device=backbone.device)

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        return in_chat(tokenizer, prompt, enable_thinking=True)

    def told(self, output: tuple, mark: str = "") -> Conditioning:
        """The pipeline has a list of the tokens that are read, as many as each prompt has; here they are
        padded, and ``mask`` tells them.
        """
        listed = output[1 if mark else 0]
        features = torch.stack([F.pad(one, (0, 0, 0, self.most_tokens - len(one))) for one in listed])
        lengths = torch.tensor([[len(one)] for one in listed], device=features.device)
        return Conditioning(features, mask=torch.arange(self.most_tokens, device=features.device) < lengths)

    def untold(self, output: tuple, told: Conditioning, beside: Conditioning | None) -> tuple:
        return _listed(told), output[1] if beside is None else _listed(beside)

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        steps = backbone.scheduler.config.num_train_timesteps
        times = (steps - timesteps.expand(len(noisy))) / steps
        frames = list(noisy.unsqueeze(2).unbind())
        predicted = backbone.denoiser(frames, times, _listed(conditioning), return_dict=False)[0]
        return -torch.stack(predicted).squeeze(2)

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """Its number is the pipeline's own, which goes on guiding below 1; here 1 is none, as everywhere."""
        return super().call(guidance_scale if guidance_scale > 1 else 0.0, negative_prompt)


def _listed(told: Conditioning) -> list[torch.Tensor]:
    """The features of the tokens that are read, (tokens, width) for each row."""
    return [features[mask] for features, mask in zip(told.features, told.mask)]
