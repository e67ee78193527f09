"""The interface of all ways to keep the past."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

from ..backbone import Backbone
from ..concept import Concept
from ..methods import METHODS, Method
from ..settings import LearnSettings
from ..tuners import Tuner
from .past import DrawNumbers, Past
from .rows import Rows


@dataclass(frozen=True)
class Task:
    """One concept that is learnt: the base, what is tuned in it, and what of the past may be used."""

    backbone: Backbone
    tuner: Tuner
    concept: Concept
    past: Past
    settings: LearnSettings

    @property
    def method(self) -> Method:
        return METHODS[self.settings.method]

    @property
    def batch(self) -> int:
        """Photos of a step, in all of the shares that it is worked out in."""
        return self.settings.batch * self.settings.accumulate


class Retention:
    """One way to keep the past while one concept is learnt: made before the tuner begins with the concept,
    while all weights are as the last one left them. What is not overridden does nothing.
    """

    def __init__(self, task: Task):
        self.task = task

    @classmethod
    def asked(cls, task: Task) -> bool:
        """Whether the method has it, and there is something that it could keep."""
        raise NotImplementedError

    def begin(self) -> None:
        """The tuner has begun: the weights are as the first step finds them."""

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        """What a step learns from beside its ``photos``, drawn by ``draw`` alone."""
        return []

    def prompts(self) -> Iterable[str]:
        """All that its rows may ever say."""
        return ()

    def working(self, all_of: Callable[[list[Any]], list[Any]]) -> AbstractContextManager[None]:
        """Around one step's gradients. ``all_of``: a list of each process -> one of all."""
        return nullcontext()

    def before_step(self) -> None:
        """The gradients are whole, and no weight has moved yet."""

    def after_step(self) -> None:
        """The optimizer has moved the weights."""

    def keep(self, losses: Iterator[torch.Tensor]) -> dict[str, torch.Tensor]:
        """What the next concept will need; it comes back in its ``past.kept``. ``losses``: the loss of one
        photo at a time, with gradients, as many as wanted.
        """
        return {}

    def state(self) -> dict[str, torch.Tensor]:
        """What a stopped learning needs beside the weights to go on as if nothing had happened."""
        return {}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        """``state`` of the same way, among others' tensors."""
