"""Samplers that keep a latent which was moved between two of their steps, in place of those that forget it.

A stochastic solver draws its next latents mostly from the predicted picture and fresh noise: of what is moved
before each of the shipped base's first three steps of eight, its SDE-DPM-Solver++ keeps .003, .39, .52 over
that step, the deterministic one .997, .99, .96. UniPC's corrector makes every step again from the latents
before the move.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import diffusers
import torch
from diffusers.utils.torch_utils import randn_tensor

#: stochastic sampler -> the deterministic one over the same noise levels
_WITHOUT_NOISE = {
    "DDPMScheduler": "DDIMScheduler",
    "DDPMParallelScheduler": "DDIMScheduler",
    "EulerAncestralDiscreteScheduler": "EulerDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler": "KDPM2DiscreteScheduler",
    "DPMSolverSDEScheduler": "DPMSolverMultistepScheduler",
    "SASolverScheduler": "DPMSolverMultistepScheduler",
}
#: of models distilled for them: no other sampler will do
_FORGETFUL = ("LCMScheduler", "TCDScheduler")


def deterministic(scheduler) -> tuple[object, str]:
    """A sampler as ``scheduler`` that keeps what is moved between its steps, and what was changed for that
    ("" where nothing).
    """
    name = type(scheduler).__name__
    if name in _WITHOUT_NOISE:
        other = _WITHOUT_NOISE[name]
        changes = {"algorithm_type": "dpmsolver++"} if other.startswith("DPMSolver") else {}
        if "learned" in str(
            scheduler.config.get("variance_type")
        ):  # which a sampler without noise has no use for
            changes["variance_type"] = None
        changed = getattr(diffusers, other).from_config({**scheduler.config, **changes})
        return changed, f"{other} in place of {name}"
    if name in _FORGETFUL:
        return scheduler, f"{name} forgets most of what guidance moves"
    kind = scheduler.config.get("algorithm_type", "")
    if name.startswith("DPMSolver") and kind.startswith("sde-"):
        changes = {"algorithm_type": kind.removeprefix("sde-")}
        changed = type(scheduler).from_config(scheduler.config, **changes)
        return changed, f"{changes['algorithm_type']} in place of {kind}"
    if name == "UniPCMultistepScheduler" and not scheduler.config.disable_corrector:
        every = list(range(scheduler.config.num_train_timesteps))
        changed = type(scheduler).from_config(scheduler.config, disable_corrector=every)
        return changed, f"{name} without its corrector"
    return scheduler, ""


def begin_later(scheduler, steps: int) -> None:
    """From now on the schedules of ``scheduler`` leave out their first ``steps``, as those of pipelines that
    begin from pictures.
    """
    whole, first = scheduler.set_timesteps, steps * scheduler.order

    @functools.wraps(whole)
    def set_timesteps(*args, **kwargs) -> None:
        whole(*args, **kwargs)
        count = len(scheduler.timesteps)
        for name in ("timesteps", "sigmas", "sigmas_interpol"):
            found = getattr(scheduler, name, None)
            if found is not None and len(found) in (count, count + 1):  # else all those of its training
                setattr(scheduler, name, found[first:])

    scheduler.set_timesteps = set_timesteps


def noise_of(
    shape: tuple[int, ...], generators: Sequence[torch.Generator], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """(B, *shape): what the pipelines draw of ``generators``, one for each picture."""
    return randn_tensor((len(generators), *shape), generator=list(generators), device=device, dtype=dtype)
