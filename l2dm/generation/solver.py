"""What guidance must know of a sampler: where its steps begin, how it scales its latents, how much signal is
in them.

Samplers differ in what they call a step. Heun's and KDPM2's call the denoiser twice a step, PNDM's lists a
timestep twice, a single-step DPM-Solver goes back to where its step began: what is moved within such a step
is forgotten.
"""

from __future__ import annotations

import math

import torch

#: Least share of signal at which regions are chosen. In noise alone they agree with the later ones in .58 of
#: the cells, by chance; from here on in .83 to .92 (the shipped base, 24 pictures, 8 and 25 steps).
REGION_SIGNAL = 0.15


def step_starts(scheduler) -> list[int]:
    """Indices into ``scheduler.timesteps`` (after ``set_timesteps``) at which a step begins; as many as there
    are steps.
    """
    timesteps = [float(t) for t in scheduler.timesteps]
    if getattr(scheduler, "order", 1) > 1:
        return list(range(0, len(timesteps), scheduler.order))
    if orders := getattr(
        scheduler, "order_list", None
    ):  # single-step: a step of order 2 is calls of order 1 and 2
        return [i for i, order in enumerate(orders[: len(timesteps)]) if order == 1]
    begun = 0
    if getattr(scheduler, "prk_timesteps", None) is not None and not scheduler.config.skip_prk_steps:
        begun = len(scheduler.prk_timesteps)  # PNDM's Runge-Kutta steps, of four calls each
    later = [i for i in range(begun, len(timesteps)) if timesteps[i] not in timesteps[i + 1 :]]
    return [*range(0, begun, 4), *later]


def latents_scale(scheduler, timestep: torch.Tensor) -> float:
    """The sampler's latents divided by what the denoiser is given: 1 where variance is preserved and in flow
    matching, sqrt(sigma^2 + 1) where noise is added to the latents as they are (Euler, Heun)."""
    return 1 / float(model_input(scheduler, torch.ones(1, dtype=torch.float64), timestep))


def model_input(scheduler, latents: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
    """What the denoiser is given for ``latents``; samplers of flow matching have no scale."""
    scale = getattr(scheduler, "scale_model_input", None)
    return scale(latents, timestep) if scale else latents


def signal_share(scheduler, timestep: torch.Tensor) -> float:
    """sqrt(alpha_bar), in [0, 1]: the share of the picture itself in what the denoiser is given at
    ``timestep``; in flow matching (1 - s) / sqrt((1 - s)^2 + s^2), which is the same of latents whose
    variance is 1.
    """
    alphas = getattr(scheduler, "alphas_cumprod", None)  # solvers that were taught flows have them too
    if alphas is None or scheduler.config.get("use_flow_sigmas"):
        s = float(timestep) / scheduler.config.num_train_timesteps
        return (1 - s) / math.hypot(1 - s, s)
    return float(alphas[min(len(alphas) - 1, max(0, round(float(timestep))))]) ** 0.5
