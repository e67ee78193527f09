"""HOW the past is kept. One idea a file, each a ``Retention``."""

from .attention_distillation import attention_errors, attention_outputs
from .elastic_distillation import Distillation, ElasticWeights, distillation_errors
from .fisher import Fisher
from .kept_directions import KeptDirections
from .new_data_distillation import OldOutputs, old_prompts
from .past import DrawNumbers, Past, past_rows
from .penalty import Penalty
from .prior import PriorPairs, draw_prior
from .retention import Retention, Task
from .rows import Rows
from .self_regularization import SelfRegularization
from .task_aware_memory import Rehearsal

#: Penalties by the name that ``methods`` uses.
PENALTIES: dict[str, type[Penalty]] = {"fisher": Fisher, "self-regularization": SelfRegularization}

__all__ = [
    "PENALTIES",
    "Distillation",
    "DrawNumbers",
    "ElasticWeights",
    "KeptDirections",
    "OldOutputs",
    "Past",
    "Penalty",
    "PriorPairs",
    "Rehearsal",
    "Retention",
    "Rows",
    "Task",
    "attention_errors",
    "attention_outputs",
    "distillation_errors",
    "draw_prior",
    "old_prompts",
    "past_rows",
]
