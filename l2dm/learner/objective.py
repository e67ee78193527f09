"""The training objective: named, weighted terms over one batched forward.

L_SD (L2DM, arXiv 2309.04430, Eq. 1 [given]) and every term of the same form (Eqs. 2-4 [given]) differ only in where their
rows come from; distillation compares the same rows with a teacher's prediction:

    L = sum over terms of  weight * mean over the term's rows of || target - eps_theta(z_t | c) ||^2
      + gamma * mean over the rows with tasks of  w_l * || eps^{k-1}(z_t | c) - eps_theta(z_t | c) ||^2
      + lambda * penalty(theta)
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TypeVar

import torch

from ..backbone import Backbone, Conditioning
from ..retention import Distillation, Penalty

_Sliced = TypeVar("_Sliced", torch.Tensor, list[str], tuple[str, ...])
ReadText = Callable[[list[str]], Conditioning]


@dataclass(frozen=True)
class Rows:
    """Rows of the batch that belong to one term: clean latents (n, C, h, w), a prompt for each, and whose concept each is.

    A term without weight is computed for its distillation alone. ``masks`` and ``held`` (n, 1, h, w), in [0, 1]: how much the error and the
    distillation count where, if not everywhere alike; a row counts the same however much of it does. ``known``: prompts for the teacher, where ``prompts`` have words that it does not know.
    """

    term: str
    weight: float
    latents: torch.Tensor
    prompts: list[str]
    tasks: tuple[str, ...] = ()
    masks: torch.Tensor | None = None
    held: torch.Tensor | None = None
    known: list[str] | None = None

    def share(self, number: int, count: int) -> Rows:
        """Share ``number`` of ``count``, which divides the rows."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        rows = {
            name: _share(of, number, count)
            for name, of in values.items()
            if name in _BY_ROW and of is not None
        }
        return dataclasses.replace(self, **rows)


#: What of ``Rows`` has an entry for each.
_BY_ROW = ("latents", "prompts", "tasks", "masks", "held", "known")


def _share(of: _Sliced, number: int, count: int) -> _Sliced:
    size = len(of) // count
    return of[number * size : (number + 1) * size]


def objective(
    backbone: Backbone,
    parts: list[Rows],
    generator: torch.Generator,
    distillation: Distillation | None = None,
    read: ReadText | None = None,
    penalty: Penalty | None = None,
    share: tuple[int, int] = (0, 1),
) -> tuple[torch.Tensor, dict[str, float]]:
    """The loss over all rows of ``parts``, and each term's unweighted value: in one forward, or one for each shape of latents.

    With ``distillation`` the rows that have ``tasks`` (the last part's) also go through the teacher, without gradient.
    ``share`` (i, n): share i of n of the rows alone; the mean over all shares is what one forward over all rows gives. ``read`` gives
    the prompts' conditioning (default: the base's own reading). Timesteps and noise are drawn on the CPU from ``generator``, so they are
    the same on every device.
    """
    shapes: dict[torch.Size, list[Rows]] = {}
    for part in parts:
        shapes.setdefault(part.latents.shape[1:], []).append(part)
    total, values = torch.zeros((), device=backbone.device), {}
    for alike in shapes.values():
        taught = distillation if alike[-1] is parts[-1] else None
        loss, told = _of_one_shape(backbone, alike, generator, taught, read or backbone.read, share)
        total, values = total + loss, values | told
    if penalty is not None:
        value = penalty()
        total = total + penalty.weight * value
        values["penalty"] = float(value.detach())
    return total, values


def _of_one_shape(
    backbone: Backbone, parts: list[Rows], generator: torch.Generator, distillation: Distillation | None, read: ReadText, share: tuple[int, int],
) -> tuple[torch.Tensor, dict[str, float]]:  # fmt: skip
    """As ``objective``, of rows that go through one forward."""
    counts = [len(part.latents) for part in parts]
    timesteps = backbone.process.sample_t(sum(counts), generator)
    noise = torch.randn((sum(counts), *parts[0].latents.shape[1:]), generator=generator)
    parts = [part.share(*share) for part in parts]
    latents = torch.cat([part.latents for part in parts]).to(backbone.device)
    timesteps = torch.cat([_share(of, *share) for of in timesteps.split(counts)]).to(latents.device)
    noise = torch.cat([_share(of, *share) for of in noise.split(counts)]).to(latents)
    noisy = backbone.process.add_noise(latents, noise, timesteps)
    context = read([prompt for part in parts for prompt in part.prompts])
    tasks = list(parts[-1].tasks)
    teacher = None
    if distillation is not None and tasks:
        theirs = context[-len(tasks) :] if parts[-1].known is None else read(parts[-1].known)
        teacher = distillation.teacher(noisy[-len(tasks) :], timesteps[-len(tasks) :], theirs)
    with distillation.attention() if teacher else nullcontext() as outputs:
        predicted = backbone.predict(noisy, timesteps, context)
    errors = (predicted.float() - backbone.process.target(latents, noise, timesteps)).square()
    if any(part.masks is not None for part in parts):
        counted = torch.cat(
            [torch.ones_like(part.latents[:, :1]) if part.masks is None else part.masks for part in parts]
        ).to(errors)
        errors = errors * counted / counted.mean((1, 2, 3), keepdim=True)
    errors = errors.mean((1, 2, 3))
    total, values, first = errors.new_zeros(()), {}, 0
    for part in parts:
        value = errors[first : first + len(part.latents)].mean()
        first += len(part.latents)
        total = total + part.weight * value
        values[part.term] = float(value.detach())
    if teacher:
        student = predicted[-len(tasks) :], [output[-len(tasks) :] for output in outputs]
        value = distillation.loss(tasks, teacher, student, parts[-1].held)
        total = total + distillation.weight * value
        values["distillation"] = float(value.detach())
    return total, values
