"""Eqs. 1-3 of L2DM (arXiv 2309.04430) written literally: one row at a time, one forward a row."""

from __future__ import annotations

import torch

from l2dm.backbone import Conditioning


def literal_objective(backbone, parts, seed: int) -> float:
    """Sum over terms of weight * mean over rows of ||target - eps_theta(z_t, t, c)||^2 / size, noise from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    rows = [(part, i) for part in parts for i in range(len(part.latents))]
    times = torch.randint(
        backbone.process.scheduler.config.num_train_timesteps, (len(rows),), generator=generator
    )
    noises = torch.randn((len(rows), *parts[0].latents.shape[1:]), generator=generator)
    sums = {part.term: 0.0 for part in parts}
    for (part, i), t, noise in zip(rows, times, noises):
        z = part.latents[i]
        alpha_bar = backbone.process.scheduler.alphas_cumprod[t]
        noisy = alpha_bar.sqrt() * z + (1 - alpha_bar).sqrt() * noise
        ids = backbone.tokenizer(
            part.prompts[i], padding="max_length", max_length=backbone.longest_prompt + 2, return_tensors="pt"
        ).input_ids
        predicted = backbone.unet(noisy[None], t[None], backbone.text_encoder(ids)[0]).sample[0]
        kind = backbone.process.scheduler.config.prediction_type
        target = {
            "epsilon": noise,
            "v_prediction": alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * z,
            "sample": z,
        }[kind]
        sums[part.term] += float(((target - predicted) ** 2).mean()) / len(part.latents)
    return sum(part.weight * sums[part.term] for part in parts)


def literal_distillation(learning, parts, generator, drift: dict[str, float]) -> float:
    """L_ECD: mean over the replayed rows of w_l * ||teacher - student||^2, the mean of what counts; the teacher reads what it knows.

    One row and one forward at a time."""
    backbone = learning.backbone
    count = sum(len(part.latents) for part in parts)
    times = torch.randint(
        backbone.process.scheduler.config.num_train_timesteps, (count,), generator=generator
    )
    noises = torch.randn((count, *parts[0].latents.shape[1:]), generator=generator)
    mean, total, rows = sum(drift.values()) / len(drift), 0.0, parts[-1]

    def context(prompt: str) -> Conditioning:
        return backbone.read([prompt])

    for i, task in enumerate(rows.tasks):
        t, noise = times[count - len(rows.tasks) + i], noises[count - len(rows.tasks) + i]
        alpha_bar = backbone.process.scheduler.alphas_cumprod[t]
        noisy = (alpha_bar.sqrt() * rows.latents[i] + (1 - alpha_bar).sqrt() * noise)[None]
        asked, answered = context((rows.known or rows.prompts)[i]), context(rows.prompts[i])
        student = backbone.predict(noisy, t[None], answered)
        with learning.tuner.holding(learning.distillation.previous):
            teacher = backbone.predict(noisy, t[None], asked)
        apart = ((teacher - student) ** 2)[0]
        counts = apart if rows.held is None else apart[:, rows.held[i, 0] == 1]
        total += drift[task] / mean * float(counts.mean())
    return total / len(rows.tasks)
