"""Learning one concept: the objective, the loop, its checkpoints."""

from .checkpoint import pack_optimizer, unpack_optimizer
from .loop import Learning, Step
from .objective import Rows, objective
from .stop import stop_signals

__all__ = ["Learning", "Rows", "Step", "objective", "pack_optimizer", "stop_signals", "unpack_optimizer"]
