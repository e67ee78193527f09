# ruff: noqa: E402  (the libraries read their verbosity when they are imported)
"""The sole door to diffusers and transformers."""

import os

os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")

import diffusers
import transformers

diffusers.utils.logging.disable_progress_bar()
transformers.utils.logging.disable_progress_bar()

from .allocator import keep_freed_memory
from .backbone import Backbone
from .compiling import compiled
from .conditioning import Conditioning
from .devices import find_device
from .encoders import ClipEncoder, DinoEncoder, load_encoder
from .features import NONE, OWN, ImageFeatures, default_clip, find_clip
from .fingerprint import clip_fingerprint, matches
from .layers import fast_layers
from .precision import (
    DTYPES,
    frozen_in_bfloat16,
    held_dtype,
    is_quantized,
    multiplies_bfloat16,
    plain,
)
from .reading import prompt_lengths
from .saving import save_pipeline
from .source import MINI, Source, find_base
from .tokens import PersonalTokens

__all__ = [
    "DTYPES",
    "MINI",
    "NONE",
    "OWN",
    "Backbone",
    "ClipEncoder",
    "Conditioning",
    "DinoEncoder",
    "ImageFeatures",
    "PersonalTokens",
    "Source",
    "clip_fingerprint",
    "compiled",
    "default_clip",
    "fast_layers",
    "find_base",
    "find_clip",
    "find_device",
    "frozen_in_bfloat16",
    "held_dtype",
    "is_quantized",
    "keep_freed_memory",
    "load_encoder",
    "matches",
    "multiplies_bfloat16",
    "plain",
    "prompt_lengths",
    "save_pipeline",
]
