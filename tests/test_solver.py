"""What guidance knows of samplers: the same move in each, made where a step begins and kept; regions where
there is signal.
"""

from __future__ import annotations

import dataclasses

import diffusers
import numpy as np
import pytest
import torch

from l2dm.backbone.samplers import deterministic
from l2dm.generation import draw, mentions
from l2dm.generation.guided import REGION_SIGNAL, Guide
from l2dm.generation.solver import latents_scale, signal_share, step_starts
from l2dm.settings import GenerateSettings

BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
PROMPT = "a dog and a cat"


def sampler(name: str, steps: int = 8, **config):
    made = getattr(diffusers, f"{name}Scheduler")(**BETAS, **config)
    made.set_timesteps(steps)
    return made


@pytest.mark.parametrize(
    "name, config, starts",
    [
        ("DDIM", {}, range(8)),
        ("PNDM", {}, [0, 4, 8, *range(12, 17)]),
        ("PNDM", {"skip_prk_steps": True}, [0, *range(2, 9)]),
        ("EulerDiscrete", {}, range(8)),
        ("HeunDiscrete", {}, range(0, 15, 2)),
        ("KDPM2Discrete", {}, range(0, 15, 2)),
        ("DPMSolverMultistep", {}, range(8)),
        ("DPMSolverSinglestep", {"lower_order_final": True}, [0, 2, 4, 6, 7]),
    ],
)
def test_where_steps_begin(name, config, starts):
    assert step_starts(sampler(name, **config)) == list(starts)


@pytest.mark.parametrize("name", ["DDIM", "DPMSolverMultistep", "EulerDiscrete", "HeunDiscrete"])
def test_the_same_move_in_every_sampler(backbone, name):
    """Of what the denoiser is given, at one timestep."""
    config = {"trained_betas": None} if name == "HeunDiscrete" else {"timestep_spacing": "trailing"}
    scheduler = sampler(name, 4, **config)
    scheduler.timesteps[0] = 999  # all begin there; the samplers differ in nothing else
    torch.manual_seed(0)
    z, context = torch.randn(2, 4, 16, 16), backbone.encode_text([PROMPT] * 2)
    settings = GenerateSettings(composition="l2dm", guidance_step=1.0, steps=4)
    guide = Guide(backbone, mentions(PROMPT, {}, backbone, ("dog", "cat")), range(1, 6), settings, (16, 16))
    scale = latents_scale(scheduler, scheduler.timesteps[0])
    assert scale == pytest.approx(1.0 if name in ("DDIM", "DPMSolverMultistep") else 14.65, rel=1e-2)
    moved = guide.move(scheduler, 0, z * scale, context) / scale - z
    plain = sampler("DDIM", 4, timestep_spacing="trailing")
    other = Guide(backbone, guide.mentions, range(1, 6), settings, (16, 16))
    expected = other.move(plain, 0, z, context) - z
    assert expected.norm() > 0 and (moved - expected).norm() < 1e-3 * expected.norm()


@pytest.mark.parametrize(
    "name, config, changed",
    [
        (
            "DPMSolverMultistep",
            {"algorithm_type": "sde-dpmsolver++"},
            "dpmsolver++ in place of sde-dpmsolver++",
        ),
        ("EulerAncestralDiscrete", {}, "EulerDiscreteScheduler in place of EulerAncestralDiscreteScheduler"),
        ("DDPM", {"clip_sample": False}, "DDIMScheduler in place of DDPMScheduler"),
        ("SASolver", {}, "DPMSolverMultistepScheduler in place of SASolverScheduler"),
        ("UniPCMultistep", {}, "UniPCMultistepScheduler without its corrector"),
        ("DDIM", {"clip_sample": False}, ""),
        ("EulerDiscrete", {}, ""),
        ("PNDM", {"skip_prk_steps": True}, ""),
        ("PNDM", {}, ""),
        ("HeunDiscrete", {}, ""),
        ("KDPM2Discrete", {}, ""),
        ("DPMSolverSinglestep", {"lower_order_final": True}, ""),
    ],
)
def test_a_move_is_kept(name, config, changed):
    """With a denoiser that sees nothing, latents moved before a step end up moved as the sampler's own
    coefficients say.
    """
    scheduler, said = deterministic(sampler(name, **config))
    assert said == changed
    scheduler.set_timesteps(8)
    third = step_starts(scheduler)[2]

    def run(moved: float) -> torch.Tensor:
        scheduler.set_timesteps(8)
        torch.manual_seed(0)
        x = torch.randn(1, 4, 4, 4) * float(scheduler.init_noise_sigma)
        for index, t in enumerate(scheduler.timesteps[: third + 2]):
            x = x + moved if index == third else x
            x = scheduler.step(torch.zeros_like(scheduler.scale_model_input(x, t)), t, x).prev_sample
        return x

    assert (run(1.0) - run(0.0)).mean() > 0.9, (
        "no noise is predicted, so the latents' picture part only grows"
    )


@pytest.mark.parametrize("name", ["FlowMatchEulerDiscrete", "DPMSolverMultistep"])
def test_flows_tell_their_signal_by_the_time_whatever_the_solver(name):
    flows = {"prediction_type": "flow_prediction", "use_flow_sigmas": True} if name[0] == "D" else {}
    scheduler = getattr(diffusers, f"{name}Scheduler")(**flows)
    assert signal_share(scheduler, torch.tensor(500)) == pytest.approx(0.5**0.5)
    assert signal_share(scheduler, torch.tensor(900)) == pytest.approx(0.1 / (0.1**2 + 0.9**2) ** 0.5)


def test_regions_are_chosen_where_there_is_signal(backbone):
    things = mentions(PROMPT, {}, backbone, ("dog", "cat"))
    scheduler = backbone.pipeline().scheduler
    scheduler.set_timesteps(8)
    assert signal_share(scheduler, scheduler.timesteps[0]) < 1e-3 < REGION_SIGNAL

    def chosen_at(prompt=PROMPT, **changes):
        settings = GenerateSettings(**({"composition": "l2dm", "steps": 8} | changes))
        named = mentions(prompt, {}, backbone, ("dog", "cat"))
        return Guide(backbone, named, range(1, 6), settings, (16, 16)).region_index(scheduler)

    assert chosen_at() == 2 and chosen_at(guidance_until=0.1) == 0, "none of the guided ones has enough"
    assert chosen_at("a dog on the left of a cat") == 0, "words need no maps"
    settings = GenerateSettings(composition="l2dm", steps=8, guidance_step=1.0)
    guide = Guide(backbone, things, range(1, 6), settings, (16, 16))
    z, context = torch.randn(1, 4, 16, 16), backbone.encode_text([PROMPT])
    found = []
    for index in range(4):
        z = guide.move(scheduler, index, z, context)
        found.append(guide.regions is not None)
    assert found == [False, False, True, True]


@pytest.mark.parametrize("name", ["EulerDiscrete", "HeunDiscrete", "PNDM", "EulerAncestralDiscrete"])
def test_every_sampler_is_guided(backbone, name):
    kind = getattr(diffusers, f"{name}Scheduler")
    other = dataclasses.replace(
        backbone, scheduler=kind.from_config(backbone.scheduler.config, skip_prk_steps=True)
    )
    settings = GenerateSettings(n=1, steps=3, composition="l2dm", guidance_step=1.0, guidance_until=1.0)
    things = mentions(PROMPT, {}, backbone, ("dog", "cat"))
    (moved,) = draw(other, PROMPT, settings, mentions=things)
    (plain,) = draw(other, PROMPT, dataclasses.replace(settings, composition="none"))
    assert np.abs(np.asarray(moved, int) - np.asarray(plain, int)).mean() > 1
