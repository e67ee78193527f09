"""HOW the past is kept. One idea a file."""

from .elastic_distillation import Distillation, ElasticWeights, distillation_errors
from .prior import draw_prior
from .task_aware_memory import Past, past_rows

__all__ = ["Distillation", "ElasticWeights", "Past", "distillation_errors", "draw_prior", "past_rows"]
