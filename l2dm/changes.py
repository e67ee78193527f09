"""The settings by name, as ``learn`` and ``generate`` take them: editors complete these, and a test holds
them against the settings.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TypedDict


class LearnChanges(TypedDict, total=False):
    """Of ``LearnSettings``, those that are to be otherwise; None leaves one as it is."""

    steps: int | None
    batch: int | None
    learning_rate: float | None
    token_learning_rate: float | None
    lr_scheduler: str | None
    prior_weight: float | None
    prior_pictures: int | None
    prior_steps: int | None
    method: str | None
    replay_weight: float | None
    distil_weight: float | None
    attention_weight: float | None
    kept_share: float | None
    penalty_weight: float | None
    fisher_samples: int | None
    rank: int | None
    vectors: int | None
    memory_candidates: int | None
    memory_budget: int | None
    rainbow_similarity_weight: float | None
    mixes: int | None
    class_pictures: str | os.PathLike[str] | None
    masks: str | os.PathLike[str] | None
    mask_background: float | None
    buckets: bool | None
    flip: bool | None
    captions_only: bool | None
    seed: int | None
    precision: str | None
    device: str | None
    accumulate: int | None
    optimizer: str | None
    gradient_checkpointing: bool | None
    compile: bool | None
    threads: int | None
    checkpoint_every: int | None
    sample_every: int | None
    sample_prompt: str | None
    keep_every: int | None
    tracker: str | None
    tracker_folder: str | None
    report_pictures: int | None
    report_concepts: int | None
    keep_if_forgetting_below: float | None


class GenerateChanges(TypedDict, total=False):
    """Of ``GenerateSettings``, those that are to be otherwise; None leaves one as it is."""

    n: int | None
    steps: int | None
    sampler: str | None
    guidance_scale: float | None
    seed: int | None
    negative_prompt: str | None
    height: int | None
    width: int | None
    batch: int | None
    threads: int | None
    precision: str | None
    device: str | None
    offload: bool | None
    composition: str | None
    subjects: str | None
    layout: str | Mapping[str, str | tuple[float, float, float, float]] | None
    confine: bool | None
    guidance_step: float | None
    guidance_until: float | None
    guidance_every: int | None
    guidance_repeats: int | None
    guidance_refinements: int | None
    composition_loss_threshold: float | None
    unmix_weight: float | None
    attend_weight: float | None
    orthogonal_weight: float | None
