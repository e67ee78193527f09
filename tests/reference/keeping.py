"""What the compared methods add to the objective, written literally: number by number, row by row."""

from __future__ import annotations

import torch


def literal_fisher(losses, parameters: dict) -> dict[str, torch.Tensor]:
    """F_n = mean of (dL / dth_n)^2, one backward for each loss (EWC, arXiv 1612.00796)."""
    losses = list(losses)
    found = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for loss in losses:
        for p in parameters.values():
            p.grad = None
        loss.backward()
        for name, p in parameters.items():
            found[name] += p.grad**2 / len(losses)
    for p in parameters.values():
        p.grad = None
    return found


def literal_ewc(now: dict, old: dict, fishers: list[dict]) -> float:
    """1/2 sum over tasks and weights of F_n (th_n - th*_n)^2."""
    return sum(
        0.5 * float(f) * (float(a) - float(b)) ** 2
        for fisher in fishers
        for name in fisher
        for f, a, b in zip(fisher[name].flatten(), now[name].flatten(), old[name].flatten())
    )


def literal_self_regularization(ups: list[torch.Tensor], downs: list[torch.Tensor]) -> float:
    """|| |sum_{i<k} U_i D_i| * U_k D_k ||^2 of one layer, element by element (C-LoRA, arXiv 2304.06027)."""
    total = 0.0
    for row in range(len(ups[0])):
        for column in range(downs[0].shape[1]):
            terms = [float(up[row] @ down[:, column]) for up, down in zip(ups, downs)]
            total += (abs(sum(terms[:-1])) * terms[-1]) ** 2
    return total


def literal_aggregation(features: torch.Tensor, keys: torch.Tensor) -> list[float]:
    """psi(M) of one prompt (CIDM, arXiv 2410.17594, Eq. 3): M_i the largest cosine of a word, start left out,
    with key i.
    """
    m = []
    for key in keys:
        cosines = [float(word @ key) / (float(word.norm()) * float(key.norm())) for word in features[1:]]
        m.append(max(0.0, *cosines))
    length = sum(value**4 for value in m) ** 0.5
    return [value**2 / length for value in m]


def literal_new_data_distillation(learning, rows, generator, count: int) -> float:
    """Mean over ``rows``, the last of ``count``, of ||eps^{k-1}(z_t | c_old) - eps^k(z_t | c_old)||^2 (LwF,
    arXiv 1606.09282).
    """
    backbone = learning.backbone
    times = torch.randint(
        backbone.process.scheduler.config.num_train_timesteps, (count,), generator=generator
    )[-len(rows.prompts) :]
    noises = torch.randn((count, *rows.latents.shape[1:]), generator=generator)[-len(rows.prompts) :]
    total = 0.0
    for z, prompt, t, noise in zip(rows.latents, rows.prompts, times, noises):
        noisy = backbone.process.scheduler.add_noise(z[None], noise[None], t[None])
        new = backbone.predict(noisy, t[None], backbone.read([prompt]))
        now = learning.tuner.state()
        learning.tuner.load(learning.distillation.previous)
        old = backbone.predict(noisy, t[None], backbone.read([prompt]))
        learning.tuner.load(now)
        total += float(((old - new) ** 2).mean())
    return total / len(rows.prompts)


def literal_correlations(features: torch.Tensor) -> torch.Tensor:
    """C = mean of c c^T over every position of every text of ``features`` (texts, length, d)."""
    width, total = (
        features.shape[-1],
        torch.zeros(features.shape[-1], features.shape[-1], dtype=torch.float64),
    )
    places = [c.double() for text in features for c in text]
    for c in places:
        for i in range(width):
            total[i] += float(c[i]) * c
    return total / len(places)


def literal_hold(now: torch.Tensor, before: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """``now`` less what its rows have gained along each of ``basis``' columns, one at a time."""
    held = now.clone()
    for row in range(len(now)):
        for b in basis.T:
            held[row] -= ((now[row] - before[row]) @ b) * b
    return held


def literal_running_means(met: dict[str, list[float]], pace: float) -> dict[str, float]:
    """Of each task's errors, oldest first: a plain mean of the first 1/pace, then an exponential one."""
    found = {}
    for task, errors in met.items():
        first = errors[: round(1 / pace)]
        mean = sum(first) / len(first)
        for error in errors[len(first) :]:
            mean = (1 - pace) * mean + pace * error
        found[task] = mean
    return found
