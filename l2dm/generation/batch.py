"""Pictures of one prompt that are drawn at once."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..backbone import Backbone
from ..settings import GenerateSettings
from .attention_recorder import AttentionRecorder
from .mentions import Mention


@dataclass(frozen=True)
class Batch:
    """One picture of ``prompt`` for each of ``generators``, of ``size`` (``height`` and ``width`` in
    pixels).
    """

    backbone: Backbone
    prompt: str
    mentions: list[Mention]
    settings: GenerateSettings
    generators: list[torch.Generator]
    size: dict[str, int]
    recorder: AttentionRecorder | None = None
