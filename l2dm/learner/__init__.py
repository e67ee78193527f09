"""Learning one concept: the objective, the loop, its checkpoints."""

from .loop import Learning, Step
from .objective import Rows, objective
from .optimizer_state import pack_optimizer, unpack_optimizer
from .photos import check_masks, photo_latents
from .stop import stop_signals
from .texts import check_captions

__all__ = [
    "Learning",
    "Rows",
    "Step",
    "check_captions",
    "check_masks",
    "objective",
    "pack_optimizer",
    "photo_latents",
    "stop_signals",
    "unpack_optimizer",
]
