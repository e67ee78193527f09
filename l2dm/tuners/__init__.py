"""WHAT is tuned. One tuner a file; a tuner names parameters of the backbone and can put them back."""

from .embedding import Embedding
from .key_value import KeyValue
from .tuner import Tuner

#: Tuners by the name that worlds and settings use.
TUNERS: dict[str, type[Tuner]] = {"key_value": KeyValue, "embedding": Embedding}

__all__ = ["TUNERS", "Embedding", "KeyValue", "Tuner"]
