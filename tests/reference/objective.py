"""Eqs. 1-3 of L2DM (arXiv 2309.04430) written literally: one row at a time, one forward a row."""

from __future__ import annotations

import math

import torch

from l2dm.backbone.process import DiscreteBetas


def literal_times(process, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count,): whole numbers, all equally likely, where noise goes by betas; of flows sigmoids of normal
    numbers (SD 3, Eqs. 19 and 23).
    """
    if isinstance(process, DiscreteBetas):
        return torch.randint(process.scheduler.config.num_train_timesteps, (count,), generator=generator)
    times = []
    for normal in torch.randn(count, generator=generator).tolist():
        u = 1 / (1 + math.exp(-normal))
        times.append(process.steps * process.shift * u / (1 + (process.shift - 1) * u))
    return torch.tensor(times)


def literal_noising(
    process, z: torch.Tensor, noise: torch.Tensor, t: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """z_t, and what the denoiser is asked for."""
    if not isinstance(process, DiscreteBetas):
        s = float(t) / process.steps
        return (1 - s) * z + s * noise, noise - z
    alpha_bar = process.scheduler.alphas_cumprod[t]
    target = {
        "epsilon": noise,
        "v_prediction": alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * z,
        "sample": z,
    }[process.scheduler.config.prediction_type]
    return alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise, target


def by_its_parts(backbone, noisy: torch.Tensor, t: torch.Tensor, prompt: str) -> torch.Tensor:
    """What Stable Diffusion's UNet gives for one picture (C, h, w)."""
    ids = backbone.tokenizer(
        prompt, padding="max_length", max_length=backbone.longest_prompt + 2, return_tensors="pt"
    ).input_ids
    return backbone.unet(noisy[None], t[None], backbone.text_encoder(ids)[0]).sample[0]


def by_itself(backbone, noisy: torch.Tensor, t: torch.Tensor, prompt: str) -> torch.Tensor:
    """What the denoiser of any family gives for one picture (C, h, w)."""
    return backbone.predict(noisy[None], t[None], backbone.read([prompt]))[0]


def literal_objective(backbone, parts, generator: torch.Generator, predict=by_its_parts) -> float:
    """Sum over terms of weight * mean over rows of ||target - eps_theta(z_t, t, c)||^2 / size."""
    rows = [(part, i) for part in parts for i in range(len(part.latents))]
    times = literal_times(backbone.process, len(rows), generator)
    noises = torch.randn((len(rows), *parts[0].latents.shape[1:]), generator=generator)
    sums = {part.term: 0.0 for part in parts}
    for (part, i), t, noise in zip(rows, times, noises):
        noisy, target = literal_noising(backbone.process, part.latents[i], noise, t)
        predicted = predict(backbone, noisy, t, part.prompts[i])
        sums[part.term] += float(((target - predicted) ** 2).mean()) / len(part.latents)
    return sum(part.weight * sums[part.term] for part in parts)


def literal_distillation(learning, parts, generator, drift: dict[str, float]) -> float:
    """L_ECD: mean over the replayed rows of w_l * ||teacher - student||^2, the mean of what counts; the
    teacher reads what it knows.

    One row and one forward at a time.
    """
    backbone = learning.backbone
    count = sum(len(part.latents) for part in parts)
    times = literal_times(backbone.process, count, generator)
    noises = torch.randn((count, *parts[0].latents.shape[1:]), generator=generator)
    mean, total, rows = sum(drift.values()) / len(drift), 0.0, parts[-1]

    for i, task in enumerate(rows.tasks):
        t, noise = times[count - len(rows.tasks) + i], noises[count - len(rows.tasks) + i]
        noisy, _ = literal_noising(backbone.process, rows.latents[i], noise, t)
        student = by_itself(backbone, noisy, t, rows.prompts[i])
        with learning.tuner.holding(learning.distillation.previous):
            teacher = by_itself(backbone, noisy, t, (rows.teacher_prompts or rows.prompts)[i])
        apart = (teacher - student) ** 2
        counts = apart if rows.distil_mask is None else apart[:, rows.distil_mask[i, 0] == 1]
        total += drift[task] / mean * float(counts.mean())
    return total / len(rows.tasks)
