"""Processes that ``accelerate launch`` (or torchrun) started beside each other, by way of accelerate: what
one learns, all learn.

The first one is the main one: it alone writes files and speaks. All others do what it tells them.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ProcessLost, SettingsError, first_line

if TYPE_CHECKING:  # both take seconds to import, and the command line asks here how many processes there are
    import torch
    from accelerate import PartialState

#: of a process that waits for the others; longer than any work
_PATIENCE = timedelta(days=30)
#: Numbers that are added up at once.
_AT_ONCE = 1 << 24

T = TypeVar("T")


def launched() -> int:
    """How many processes ``accelerate launch`` (or torchrun) started beside each other; 1 without."""
    return int(os.environ.get("WORLD_SIZE", 1))


def main_process() -> bool:
    """Whether this is the one of them that speaks."""
    return int(os.environ.get("RANK", 0)) == 0


@cache
def meet() -> PartialState:
    """The launched processes, met once; on a GPU of its own each."""
    import torch
    from accelerate import PartialState

    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    atexit.register(
        state.destroy_process_group
    )  # a process that ends with its connections open may be aborted
    return state


class ToldByMain(Exception):
    """Stands as the cause of an error that the main process raised, and that the others raise after it."""


@dataclass(frozen=True)
class _Ended:
    """How the main process ended what it led: the parts of its error, which may not be built from its text
    alone; None where there was none.
    """

    kind: type[BaseException] | None = None
    args: tuple[Any, ...] = ()
    facts: dict[str, Any] | None = None

    def check(self) -> None:
        if self.kind is not None:
            error = self.kind.__new__(self.kind)
            error.args, error.__dict__ = self.args, dict(self.facts or {})
            raise error from ToldByMain()


class Processes:
    """``count`` of them, of which this is ``number``, from 0. One alone talks to nobody."""

    def __init__(self, count: int = 1, number: int = 0):
        self.count, self.number = count, number
        self._in_step = False

    @classmethod
    def together(cls) -> Processes:
        """Those that were launched beside this one; this one alone where there are none."""
        return cls(meet().num_processes, meet().process_index) if launched() > 1 else cls()

    @property
    def is_main(self) -> bool:
        return self.number == 0

    # ---------------------------------------------------------------- the main one leads

    def told(self, said: object = None) -> object:
        """What the main process ``said``, in all of them."""
        if self.count == 1:
            return said
        from accelerate.utils import broadcast_object_list

        return self._talk(lambda: broadcast_object_list([said])[0])

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Of the main process: how the block ended is told to the others, who ask for it by ``heard``. An
        error within a step is not: they wait for numbers then, and end when the launcher sees this process
        end.
        """
        try:
            yield
        except BaseException as error:
            if self.count > 1 and not self._in_step:
                self.told(_Ended(type(error), error.args, dict(error.__dict__)))
            raise
        if self.count > 1:
            self.told(_Ended())

    def heard(self) -> object:
        """Of the others: what the main process says next; None where it ended well, its own error where it
        did not.
        """
        said = self.told()
        if isinstance(said, _Ended):
            said.check()
            return None
        return said

    # ---------------------------------------------------------------- what they work out together

    @contextmanager
    def step(self) -> Iterator[None]:
        """Around what all of them work out together."""
        self._in_step = True
        yield
        self._in_step = False

    def all_of(self, own: list[T]) -> list[T]:
        """The lists of all processes one after another, in each of them."""
        if self.count == 1:
            return own
        from accelerate.utils import gather_object

        return self._talk(lambda: gather_object(own))

    def mean(self, own: Sequence[float]) -> list[float]:
        """Of each number, over the processes."""
        if self.count == 1:
            return list(own)
        import torch

        return self._mean(torch.tensor(own, dtype=torch.float64)).tolist()

    def average_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Every gradient becomes its mean over the processes, where one that has none counts as 0; one that
        none has stays so.
        """
        if self.count == 1:
            return
        import torch

        some = self.mean([p.grad is not None for p in parameters])
        for bucket in _buckets([p for p, has in zip(parameters, some) if has]):
            own = torch.cat(
                [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in bucket]
            )
            parts = self._mean(own).split([p.numel() for p in bucket])
            for p, part in zip(bucket, parts):
                p.grad = torch.empty_like(p).copy_(part.view(p.shape))  # laid out as the parameter lies

    def _mean(self, own: torch.Tensor) -> torch.Tensor:
        from accelerate.utils import reduce

        return self._talk(lambda: reduce(own.to(meet().device), "mean")).to(own.device)

    def _talk(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RuntimeError as error:
            raise ProcessLost(
                f"a process beside this one ended or cannot be reached ({first_line(error)}); see what it "
                "said. Nothing was committed, and the "
                "same command goes on from the last checkpoint"
            ) from error


def _buckets(parameters: Sequence[torch.nn.Parameter]) -> Iterator[list[torch.nn.Parameter]]:
    """One after another, of one precision, as many as are sent at once."""
    bucket: list[torch.nn.Parameter] = []
    for p in parameters:
        if bucket and (bucket[0].dtype != p.dtype or sum(q.numel() for q in bucket) + p.numel() > _AT_ONCE):
            yield bucket
            bucket = []
        bucket.append(p)
    if bucket:
        yield bucket


def for_one(what: str) -> None:
    """Raises SettingsError where several processes were launched: each of them would do ``what``."""
    if launched() > 1:
        raise SettingsError(
            f"{what}: {launched()} processes were launched, and it is the work of one; start it without "
            "accelerate launch (learn and bench are "
            "shared among processes)"
        )
