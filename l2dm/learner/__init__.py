"""Learning one concept: the objective, the loop, its checkpoints."""

from .checkpoint import pack_optimizer, unpack_optimizer
from .loop import Learning, Step
from .objective import Rows, objective

__all__ = ["Learning", "Rows", "Step", "objective", "pack_optimizer", "unpack_optimizer"]
