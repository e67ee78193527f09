"""The training objective: named, weighted terms over one batched forward.

L_SD (L2DM, arXiv 2309.04430, Eq. 1 [given]) and every term of the same form (Eqs. 2-4 [given]) differ only in
where their rows come from; distillation compares the same rows with a teacher's prediction:

    L = sum over terms of  weight * mean over the term's rows of || target - eps_theta(z_t | c) ||^2
      + gamma * mean over the rows with tasks of  w_l * || eps^{k-1}(z_t | c) - eps_theta(z_t | c) ||^2
      + lambda * penalty(theta)
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext

import torch

from ..backbone import Backbone, Conditioning
from ..retention import Distillation, Penalty, Rows

ReadText = Callable[[list[str]], Conditioning]


def shared(parts: list[Rows], number: int, count: int) -> list[slice]:
    """Share ``number`` of ``count`` of all rows of ``parts``, one after another: which rows of each part are
    in it.
    """
    found, first, rows = [], 0, sum(len(part.latents) for part in parts)
    low, high = (rows * edge // count for edge in (number, number + 1))
    for part in parts:
        size = len(part.latents)
        found.append(slice(*(min(max(edge - first, 0), size) for edge in (low, high))))
        first += size
    return found


def objective(
    backbone: Backbone,
    parts: list[Rows],
    generator: torch.Generator,
    distillation: Distillation | None = None,
    read: ReadText | None = None,
    penalty: Penalty | None = None,
    share: tuple[int, int] = (0, 1),
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss over all rows of ``parts``, and each term's unweighted value: in one forward, or one for each
    shape of latents.

    With ``distillation`` the rows that have ``tasks`` (the last part's) also go through the teacher, without
    gradient. ``share`` (i, n): share i of n of the rows alone, see ``shared``; the mean over all shares is
    what one forward over all rows gives. ``read`` gives the prompts' conditioning (default: the base's own
    reading). Timesteps and noise are drawn on the CPU from ``generator``, so they are the same on every
    device.
    """
    shapes: dict[torch.Size, list[tuple[Rows, slice]]] = {}
    for part, own in zip(parts, shared(parts, *share)):
        shapes.setdefault(part.latents.shape[1:], []).append((part, own))
    total, values = torch.zeros((), device=backbone.device), {}
    for alike in shapes.values():
        taught = distillation if alike[-1][0] is parts[-1] else None
        loss, told = _of_one_shape(backbone, alike, generator, taught, read or backbone.read, share[1])
        total, values = total + loss, values | told
    if penalty is not None:
        value = penalty()
        total = total + penalty.weight * value
        values["penalty"] = float(value.detach())
    return total, values


def _of_one_shape(
    backbone: Backbone,
    alike: list[tuple[Rows, slice]],
    generator: torch.Generator,
    distillation: Distillation | None,
    read: ReadText,
    shares: int,
) -> tuple[torch.Tensor, dict[str, float]]:
    """As ``objective``, of rows that go through one forward; of each part those of this share of so many."""
    counts = [len(part.latents) for part, _ in alike]
    timesteps = backbone.process.sample_t(sum(counts), generator)
    noise = torch.randn((sum(counts), *alike[0][0].latents.shape[1:]), generator=generator)
    sizes, held = [count / shares for count in counts], len(alike[-1][0].tasks) / shares
    parts, owns = [part.of(own) for part, own in alike], [own for _, own in alike]
    values = dict.fromkeys((part.term for part in parts), 0.0)
    if distillation is not None and held:
        values["distillation"] = 0.0
    latents = torch.cat([part.latents for part in parts]).to(backbone.device)
    if not len(latents):
        return torch.zeros((), device=backbone.device), values
    timesteps = torch.cat([of[own] for of, own in zip(timesteps.split(counts), owns)]).to(latents.device)
    noise = torch.cat([of[own] for of, own in zip(noise.split(counts), owns)]).to(latents)
    noisy = backbone.process.add_noise(latents, noise, timesteps)
    context = read([prompt for part in parts for prompt in part.prompts])
    tasks = list(parts[-1].tasks)
    teacher = None
    if distillation is not None and tasks:
        known = parts[-1].teacher_prompts
        theirs = context[-len(tasks) :] if known is None else read(known)
        teacher = distillation.teacher(noisy[-len(tasks) :], timesteps[-len(tasks) :], theirs)
    with distillation.attention() if teacher else nullcontext() as outputs:
        predicted = backbone.predict(noisy, timesteps, context)
    errors = (predicted.float() - backbone.process.target(latents, noise, timesteps)).square()
    if any(part.loss_mask is not None for part in parts):
        masks = (part.loss_mask for part in parts)
        counted = torch.cat(
            [torch.ones_like(p.latents[:, :1]) if m is None else m for p, m in zip(parts, masks)]
        ).to(errors)
        errors = errors * counted / counted.mean((1, 2, 3), keepdim=True)
    errors = errors.mean((1, 2, 3))
    total, first = errors.new_zeros(()), 0
    for part, size in zip(parts, sizes):
        value = errors[first : first + len(part.latents)].sum() / size
        first += len(part.latents)
        total = total + part.weight * value
        values[part.term] = float(value.detach())
    if teacher:
        student = predicted[-len(tasks) :], [output[-len(tasks) :] for output in outputs]
        value = distillation.loss(tasks, teacher, student, parts[-1].distil_mask) * (len(tasks) / held)
        total = total + distillation.weight * value
        values["distillation"] = float(value.detach())
    return total, values
