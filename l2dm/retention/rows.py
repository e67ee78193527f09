"""Rows of a step's batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Rows:
    """Rows of the batch that belong to one term: clean latents (n, C, h, w), a prompt for each, and whose
    concept each is.

    A term without weight is computed for its distillation alone. ``loss_mask`` and ``distil_mask``
    (n, 1, h, w), in [0, 1]: how much the error and the distillation count where, if not everywhere alike; a
    row counts the same however much of it does. ``teacher_prompts``: where ``prompts`` have words that the
    teacher does not know.
    """

    term: str
    weight: float
    latents: torch.Tensor
    prompts: list[str]
    tasks: tuple[str, ...] = ()
    loss_mask: torch.Tensor | None = None
    distil_mask: torch.Tensor | None = None
    teacher_prompts: list[str] | None = None

    def of(self, rows: slice) -> Rows:
        """Some of the rows; there may be none."""
        values = {name: getattr(self, name) for name in _BY_ROW}
        return dataclasses.replace(self, **{name: of[rows] for name, of in values.items() if of is not None})


#: What of ``Rows`` has an entry for each.
_BY_ROW = ("latents", "prompts", "tasks", "loss_mask", "distil_mask", "teacher_prompts")
