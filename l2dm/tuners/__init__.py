"""WHAT is tuned. One tuner a file: own weights of the backbone (``tuner``), or something beside them
(``beside``).
"""

from .adapter_tuner import AdapterTuner
from .aggregated import Aggregated
from .embedding import Embedding
from .full import Full
from .gated_kv import GatedKv
from .gated_lora import GatedLora
from .key_value import KeyValue
from .low_rank import LowRank
from .spectral import Spectral
from .stacked import Stacked
from .task_token import TaskToken
from .tuner import ReadAdapter, Tuner
from .widening import Widening

#: Tuners by the name that worlds and settings use.
TUNERS: dict[str, type[Tuner]] = {
    "key_value": KeyValue,
    "embedding": Embedding,
    "full": Full,
    "spectral": Spectral,
    "low_rank": LowRank,
    "stacked": Stacked,
    "widening": Widening,
    "task_token": TaskToken,
    "aggregated": Aggregated,
    "gated_kv": GatedKv,
    "gated_lora": GatedLora,
}

__all__ = ["TUNERS", "AdapterTuner", "Embedding", "KeyValue", "LowRank", "ReadAdapter", "Tuner"]
