"""Threads that fit the machine: as many as there are free cores, fewer as soon as others want them, and none
that spins while it waits.

A step of learning is thousands of small operations, after each of which every thread waits for the slowest.
Where two threads share a core with other work, the one that waits must give its core away, or each small
operation takes a whole time slice of the scheduler.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

#: How long a waiting thread spins before it sleeps: GNU's OpenMP counts turns, LLVM's and Intel's
#: milliseconds.
_PATIENCE = {"GOMP_SPINCOUNT": "1000", "KMP_BLOCKTIME": "0"}
_MOMENT, _WINDOW = 0.2, 2.0  # seconds looked at before work, and between two looks during it
_STAT = Path("/proc/stat")


def wait_asleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user's environment says how. Only before torch
    is imported.
    """
    if "OMP_WAIT_POLICY" not in os.environ and "torch" not in sys.modules:
        for name, value in _PATIENCE.items():
            os.environ.setdefault(name, value)


def cores() -> set[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


class Others:
    """How busy others keep our cores, from one ``look`` to the next. Where the system does not tell (only
    Linux does): not at all.
    """

    def __init__(self) -> None:
        self._last = self._now()

    def _now(self) -> tuple[float, float, float]:
        """Seconds: the clock, all work on our cores, our own work."""
        try:
            lines = [line.split() for line in _STAT.read_text().splitlines() if line[:3] == "cpu"]
            ours = {f"cpu{core}" for core in cores()}
            rows = [list(map(int, line[1:9])) for line in lines if line[0] in ours]
            busy = sum(sum(row) - row[3] - row[4] for row in rows) / os.sysconf("SC_CLK_TCK")
        except (OSError, ValueError, IndexError, AttributeError):
            busy = 0.0
        return time.monotonic(), busy, time.process_time()

    def age(self) -> float:
        """Seconds since the last look."""
        return time.monotonic() - self._last[0]

    def look(self) -> float:
        """Cores' worth of work that others did since the last look."""
        now = self._now()
        clock, busy, own = (b - a for a, b in zip(self._last, now))
        self._last = now
        return max(0.0, (busy - own) / clock) if clock > 0 else 0.0


def fitting(others: float) -> int:
    """How many threads fit beside ``others`` cores' worth of other work; at least one."""
    return max(1, round(len(cores()) - others))


class Threads:
    """The threads of one piece of work, torch's number while ``during``: ``history`` says from which step on
    how many.
    """

    def __init__(self, wanted: int = 0, before: int = 0):
        """``wanted``: exactly so many; 0: those that a checkpoint was made with (``before``), or torch's own
        number, which is OMP_NUM_THREADS where that is set, else no more than fit.
        """
        import torch

        self._torch, self.outer = torch, torch.get_num_threads()
        self.fixed = bool(wanted) or "OMP_NUM_THREADS" in os.environ
        self.count = wanted or before or self.outer
        if not self.fixed:
            self._others = Others()
            if self.count > 1 and not before:
                time.sleep(_MOMENT)
                self.count = min(self.count, fitting(self._others.look()))
        self.history = [(0, self.count)]

    @contextmanager
    def during(self) -> Iterator[Threads]:
        """Within the block torch works with these threads."""
        self._torch.set_num_threads(self.count)
        try:
            yield self
        finally:
            self._torch.set_num_threads(self.outer)

    def go_on(self, history: Sequence[Sequence[int]], step: int) -> None:
        """Work that is taken up at ``step`` has this ``history`` before it."""
        if step:
            last = history[-1][1] if history else 0
            self.history = [(s, n) for s, n in history] + ([(step, self.count)] if last != self.count else [])

    def after(self, step: int) -> bool:
        """Look around after ``step``, every two seconds: fall to fewer threads if others want the cores;
        whether it did. Never more again, so that as little as possible depends on the moment."""
        if self.fixed or self.count == 1 or self._others.age() < _WINDOW:
            return False
        if (fit := fitting(self._others.look())) >= self.count:
            return False
        self.count = fit
        self._torch.set_num_threads(fit)
        self.history.append((step, fit))
        return True


def spoken(history: Sequence[Sequence[int]]) -> str:
    """``[(0, 2), (40, 1)]`` -> "2 threads, 1 from step 40 on"."""
    first, *later = history
    text = f"{first[1]} thread{'s' * (first[1] > 1)}"
    return text + "".join(f", {count} from step {step} on" for step, count in later)
