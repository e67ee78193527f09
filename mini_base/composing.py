"""Scenes for the trainings, a shard at a time: beside a GPU other processes compose the next one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np

from .corpus import Icon
from .scenes import SHARES, Composer, Scene
from .training import DEVICE

SIDE = 128  # pixels of the base's pictures
CHUNK = 64  # scenes that are composed from one seed

_composer: Composer | None = None


def _begin(icons: list[Icon]) -> None:
    global _composer
    _composer = Composer(icons, side=SIDE)


def _chunk(seed: list[int], count: int, shares: tuple[float, ...], tell: Callable[[Scene], Any]) -> list[Any]:
    _composer.rng = np.random.default_rng(seed)
    counts = _composer.rng.choice(len(shares), size=count, p=shares) + 1
    return [tell(_composer.scene(int(count))) for count in counts]


class Shards:
    """Endless shards of ``size`` scenes, each as what ``tell`` makes of it; what is in which shard, the
    ``seed`` fixes.

    ``shares``: of scenes of one thing, of two, and so on. ``processes`` that compose ahead; 0: none, and
    nothing is ahead. Side by side, each of ``workers`` has its own part (``rank``) of every shard.
    """

    def __init__(
        self,
        icons: list[Icon],
        tell: Callable[[Scene], Any],
        size: int,
        seed: int,
        shares: tuple[float, ...] = SHARES,
        rank: int = 0,
        workers: int = 1,
        processes: int | None = None,
    ):
        self.tell, self.seed, self.shares = tell, seed, shares
        self.chunks = range(rank, max(1, size // CHUNK), workers)
        processes = ((os.cpu_count() or 1) - 1 if DEVICE == "cuda" else 0) if processes is None else processes
        self.pool = (
            ProcessPoolExecutor(processes, get_context("spawn"), _begin, (icons,)) if processes else None
        )
        if not self.pool:
            _begin(icons)
        self._ahead: dict[int, Iterable[list[Any]]] = {}

    def _order(self, index: int) -> Iterable[list[Any]]:
        seeds = [[self.seed, index, chunk] for chunk in self.chunks]
        run = self.pool.map if self.pool else map
        return run(_chunk, seeds, [CHUNK] * len(seeds), [self.shares] * len(seeds), [self.tell] * len(seeds))

    def chunks_of(self, index: int) -> Iterable[list[Any]]:
        """Shard ``index``, a chunk at a time."""
        chunks = self._ahead.pop(index, None) or self._order(index)
        if self.pool:
            self._ahead = {index + 1: self._order(index + 1)}
        return chunks

    def close(self) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)
