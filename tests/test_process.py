"""The forward processes against their equations, one row at a time."""

import math

import pytest
import torch
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux.pipeline_flux import calculate_shift

from l2dm.backbone.process import DiscreteBetas, FlowMatching, process_of


def drawn(seed=0, count=3):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(count, 4, 2, 2, generator=g), torch.randn(count, 4, 2, 2, generator=g)


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_discrete_betas_are_their_equations(kind):
    scheduler = DDIMScheduler(num_train_timesteps=50, beta_start=0.01, beta_end=0.2, prediction_type=kind)
    process = process_of(scheduler)
    assert isinstance(process, DiscreteBetas)
    z, e = drawn()
    t = process.sample_t(3, torch.Generator().manual_seed(5))
    assert t.dtype == torch.int64 and torch.equal(
        t, torch.randint(50, (3,), generator=torch.Generator().manual_seed(5))
    )
    noisy, target = process.add_noise(z, e, t), process.target(z, e, t)
    for i in range(3):
        alpha = math.prod(1 - (0.01 + 0.19 * step / 49) for step in range(int(t[i]) + 1))
        assert torch.allclose(noisy[i], alpha**0.5 * z[i] + (1 - alpha) ** 0.5 * e[i], atol=1e-5)
        velocity = alpha**0.5 * e[i] - (1 - alpha) ** 0.5 * z[i]
        expected = {"epsilon": e[i], "v_prediction": velocity, "sample": z[i]}[kind]
        assert torch.allclose(target[i], expected, atol=1e-5)


def test_flow_matching_is_its_equations_and_what_the_sampler_goes_back():
    scheduler = FlowMatchEulerDiscreteScheduler(num_train_timesteps=100, shift=3.0)
    process = process_of(scheduler)
    assert process == FlowMatching(100, 3.0)
    z, e = drawn()
    t = process.sample_t(3, torch.Generator().manual_seed(5))
    normal = torch.randn(3, generator=torch.Generator().manual_seed(5))
    noisy, target = process.add_noise(z, e, t), process.target(z, e, t)
    for i in range(3):
        u = 1 / (1 + math.exp(-float(normal[i])))
        s = 3 * u / (1 + 2 * u)
        assert float(t[i]) == pytest.approx(100 * s, rel=1e-5)
        assert torch.allclose(noisy[i], (1 - s) * z[i] + s * e[i], atol=1e-5)
        assert torch.allclose(noisy[i] - s * target[i], z[i], atol=1e-5), "along the velocity to the picture"
    known = scheduler.timesteps[[10, 50, 90]]
    assert torch.allclose(process.add_noise(z, e, known), scheduler.scale_noise(z, known, e), atol=1e-5)


def test_flow_times_follow_the_logit_normal():
    t = FlowMatching(1000).sample_t(20_000, torch.Generator().manual_seed(0)) / 1000
    logits = torch.logit(t.double())
    assert abs(logits.mean()) < 0.03 and abs(logits.std() - 1) < 0.03
    later = FlowMatching(1000, shift=3.0).sample_t(20_000, torch.Generator().manual_seed(0)) / 1000
    assert (later > t).all() and (later < 1).all(), "a shift moves every time towards noise"


@pytest.mark.parametrize("patches", [64, 256, 1024, 4096])
@pytest.mark.parametrize("kind", ["exponential", "linear"])
def test_a_shift_that_depends_on_size_is_the_samplers_own(patches, kind):
    scheduler = FlowMatchEulerDiscreteScheduler(
        shift=3.0, use_dynamic_shifting=True, time_shift_type=kind, base_shift=0.4, max_shift=1.2
    )
    process = process_of(scheduler, patches)
    u = [0.9, 0.5, 0.1]
    mu = calculate_shift(patches, 256, 4096, 0.4, 1.2)
    scheduler.set_timesteps(sigmas=u, mu=mu)
    for s, v in zip(scheduler.sigmas.tolist(), u):
        assert s == pytest.approx(process.shift * v / (1 + (process.shift - 1) * v), rel=1e-5)
    with pytest.raises(ValueError, match="how many patches"):
        process_of(scheduler)


def test_a_solver_that_was_taught_flows_learns_flows():
    """As Sana's: its sampler's sigmas at the same times are those the process learns at."""
    scheduler = DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    process = process_of(scheduler)
    assert process == FlowMatching(1000, 3.0)
    scheduler.set_timesteps(4)
    z, e = drawn(count=1)
    for i, s in enumerate(scheduler.sigmas[:-1].tolist()):
        noisy = process.add_noise(z, e, torch.tensor([1000 * s]))
        assert torch.allclose(noisy, (1 - s) * z + s * e, atol=1e-5)
        scheduler._step_index = i
        assert torch.allclose(
            scheduler.convert_model_output(process.target(z, e, None), sample=noisy), z, atol=1e-4
        ), "what the sampler makes of a perfect answer is the picture"
