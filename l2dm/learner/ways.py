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
from .mixes import Beside, Meetings

#: In the order of their rows in a step, of which the last may be distilled. Another way is one line here, or
#: in ``PENALTIES``.
WAYS: list[type[Retention]] = [
    Beside,
    PriorPairs,
    Meetings,
    Rehearsal,
    OldOutputs,
    Distillation,
    KeptDirections,
]


def kinds(task: Task) -> list[type[Retention]]:
    """Those that there are for ``task``: WAYS, and the penalty that its method names."""
    named = task.method.penalty
    return [*WAYS, *([] if named == "nothing" else [PENALTIES[named]])]
