"""What all benchmarks do alike: runs over processes, records that are taken up again, the spread over seeds."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import SettingsError


def tell(text: str) -> None:
    """A line of progress, seen at once from any process."""
    print(text, flush=True)


def each(work: Callable[..., Any], jobs: list[tuple], workers: int, threads: int) -> Iterator[tuple[int, Any]]:
    """``(number of the job, what work(*job) gave)`` as they are done, ``workers`` processes at a time of ``threads`` threads each."""
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_work, work, job, threads): i for i, job in enumerate(jobs)}
        for done in as_completed(waiting):
            yield waiting[done], done.result()


def _work(work: Callable[..., Any], job: tuple, threads: int) -> Any:
    torch.set_num_threads(threads)
    return work(*job)


def begun(path: Path, identity: dict[str, Any]) -> dict[str, Any]:
    """The record at ``path``, or an empty one; a SettingsError when it tells of something else than ``identity`` (JSON values)."""
    record = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    if record and {k: record.get(k) for k in identity} != identity:
        raise SettingsError(f"{path}: made with other settings; remove it or choose another --out")
    return record


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation (0 of one value)."""
    return {"mean": round(float(np.mean(values)), 4), "std": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4)}
