"""The forward process: how noise is added while a model learns, and what the denoiser is asked for.

Discrete betas (DDPM, arXiv 2006.11239):   z_t = sqrt(a_t) z + sqrt(1 - a_t) e,    a_t = prod of 1 - beta up
to t Flow matching (SD 3, arXiv 2403.03206):    z_t = (1 - s) z + s e,    s = t / T in (0, 1)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler, SchedulerMixin
from diffusers.configuration_utils import FrozenDict


class Process(Protocol):
    """Latents and noise are (B, C, h, w), timesteps (B,) in the denoiser's own units."""

    def sample_t(self, count: int, generator: torch.Generator) -> torch.Tensor:
        """``count`` timesteps as training draws them, on the CPU: the same on every device."""

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """z_t."""

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """What the denoiser is asked for, given z_t."""


@dataclass(frozen=True)
class DiscreteBetas:
    """Timesteps are whole numbers in [0, T), all equally likely; ``scheduler`` knows the betas and the
    prediction type.
    """

    scheduler: DDPMScheduler

    def sample_t(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(self.scheduler.config.num_train_timesteps, (count,), generator=generator)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return self.scheduler.add_noise(latents, noise, timesteps)

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """epsilon: e.    v_prediction: sqrt(a_t) e - sqrt(1 - a_t) z.    sample: z."""
        kind = self.scheduler.config.prediction_type
        if kind == "epsilon":
            return noise
        if kind == "v_prediction":
            return self.scheduler.get_velocity(latents, noise, timesteps)
        return latents


@dataclass(frozen=True)
class FlowMatching:
    """Straight paths from picture to noise. u = sigmoid(N(mean, std)) (SD 3, Eq. 19) is moved towards noise
    by ``shift`` (Eq. 23):

    s = shift u / (1 + (shift - 1) u),    t = T s
    """

    steps: int = 1000
    shift: float = 1.0
    mean: float = 0.0
    std: float = 1.0

    def sample_t(self, count: int, generator: torch.Generator) -> torch.Tensor:
        u = torch.sigmoid(self.mean + self.std * torch.randn(count, generator=generator))
        return self.steps * self.shift * u / (1 + (self.shift - 1) * u)

    def add_noise(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        s = (timesteps / self.steps).to(latents).view(-1, *[1] * (latents.dim() - 1))
        return (1 - s) * latents + s * noise

    def target(self, latents: torch.Tensor, noise: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        """The velocity dz_t/ds = e - z, the same at every t."""
        return noise - latents


def process_of(scheduler: SchedulerMixin, patches: int | None = None) -> Process:
    """The process a model with this sampler was trained on, told by the sampler's settings. ``patches``: how
    many a picture has, for samplers whose shift depends on it (FLUX.1: mu grows with it in a straight line,
    the shift is e^mu).

    Raises ValueError when such a sampler is not told how many there are.
    """
    config = scheduler.config
    if isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
        return FlowMatching(config.num_train_timesteps, _shift(config, patches))
    if config.get("prediction_type") == "flow_prediction":  # the solvers for betas that were taught flows
        return FlowMatching(config.num_train_timesteps, config.get("flow_shift") or 1.0)
    return DiscreteBetas(DDPMScheduler.from_config(config))


def _shift(config: FrozenDict, patches: int | None) -> float:
    if not config.use_dynamic_shifting:
        return config.shift
    if patches is None:
        raise ValueError("this sampler's shift depends on the picture's size: say how many patches it has")
    mu = dynamic_mu(config, patches)
    return math.exp(mu) if config.time_shift_type == "exponential" else mu


def dynamic_mu(config: FrozenDict, patches: int) -> float:
    """mu of a picture of ``patches``, on the straight line that the sampler's settings give two points of."""
    slope = (config.max_shift - config.base_shift) / (config.max_image_seq_len - config.base_image_seq_len)
    return config.base_shift + slope * (patches - config.base_image_seq_len)
