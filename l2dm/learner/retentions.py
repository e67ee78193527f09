"""The ways to keep the past that a learning may have."""

from __future__ import annotations

from ..retention import (
    PENALTIES,
    Distillation,
    KeptDirections,
    OldOutputs,
    PriorPairs,
    Rehearsal,
    Retention,
    Task,
)
from .mixes import CutMix, PairComposites

#: In the order of their rows in a step, of which the last may be distilled. Another is one line here, or
#: in ``PENALTIES``.
RETENTIONS: list[type[Retention]] = [
    CutMix,
    PriorPairs,
    PairComposites,
    Rehearsal,
    OldOutputs,
    Distillation,
    KeptDirections,
]


def retentions_of(task: Task) -> list[Retention]:
    """What the task's method has of RETENTIONS, and the penalty that it names."""
    named = task.method.penalty
    kinds = [*RETENTIONS, *([] if named == "nothing" else [PENALTIES[named]])]
    return [kind(task) for kind in kinds if kind.asked(task)]
