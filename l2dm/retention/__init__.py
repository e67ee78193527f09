"""HOW the past is kept. One idea a file."""

from .attention_distillation import attention_errors, attention_outputs
from .elastic_distillation import Distillation, ElasticWeights, distillation_errors
from .fisher import Fisher
from .kept_directions import KeptDirections
from .new_data_distillation import old_prompts, old_rows
from .penalty import Penalty
from .prior import draw_prior
from .self_regularization import SelfRegularization
from .task_aware_memory import DrawNumbers, Past, past_rows

#: Penalties by the name that ``methods`` uses.
PENALTIES: dict[str, type[Penalty]] = {"fisher": Fisher, "self-regularization": SelfRegularization}

__all__ = [
    "PENALTIES",
    "Distillation",
    "DrawNumbers",
    "ElasticWeights",
    "KeptDirections",
    "Past",
    "Penalty",
    "attention_errors",
    "attention_outputs",
    "distillation_errors",
    "draw_prior",
    "old_prompts",
    "old_rows",
    "past_rows",
]
