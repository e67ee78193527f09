"""Where jobs run: one after another in this process, in processes of their own, in those that ``accelerate
launch`` started (one a GPU), or on a Ray cluster. The results are the same."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

import torch
from accelerate.utils import gather_object

from ..errors import SettingsError
from ..processes import launched, meet


def map_jobs(
    work: Callable, jobs: list[tuple], workers: int, threads: int, ray: str | None = None
) -> Iterator[tuple[int, Any]]:
    """``(number of the job, work(*job))`` as they finish; each uses ``threads`` cores.

    ``workers`` at a time, each in a fresh process; 0: here. Under ``accelerate launch`` those processes share
    the jobs instead, unless ``workers`` is 1. ``ray``: on the cluster at that address, "local" for one of its
    own. ``work`` is a module's function, and what it is given and gives can be pickled.
    """
    if ray is not None:
        yield from _on_ray(work, jobs, threads, ray, workers)
    elif launched() > 1:
        yield from _shared(work, jobs, threads, workers != 1)
    elif not workers:
        yield from ((i, work(*job)) for i, job in enumerate(jobs))
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
            waiting = {pool.submit(_with_threads, threads, work, job): i for i, job in enumerate(jobs)}
            yield from ((waiting[done], done.result()) for done in as_completed(waiting))


def run_in_subprocess(work: Callable, *given: Any) -> Any:
    """``work(*given)`` in a fresh process, so that its peak memory is the work's own; here where there is a
    GPU, which counts apart.
    """
    if torch.cuda.is_available():
        return work(*given)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _end_with_parent) as pool:
        return pool.submit(_with_threads, torch.get_num_threads(), work, given).result()


def resolve_workers(wanted: int) -> tuple[int, int]:
    """How many workers, and the cores of each: ``wanted``, or 0 for as many as ``accelerate launch`` started,
    else one for the GPU, and where there is none one a core."""
    cores = os.cpu_count() or 1
    workers = launched() if launched() > 1 else wanted or (1 if torch.cuda.is_available() else cores)
    return workers, max(1, min(cores // workers, torch.get_num_threads()))


def _shared(work: Callable, jobs: list[tuple], threads: int, together: bool) -> Iterator[tuple[int, Any]]:
    """Every n-th job is this process's, or, unless ``together``, all are the first one's; in the end each
    process has the results of all.
    """
    state = meet()
    mine = (
        range(state.process_index, len(jobs), state.num_processes)
        if together
        else range(len(jobs) if state.is_main_process else 0)
    )
    found = [(i, _with_threads(threads, work, jobs[i])) for i in mine]
    yield from sorted(gather_object(found), key=lambda pair: pair[0])


def _end_with_parent() -> None:
    """Of a worker: end when the process that started it ends, however that ended; all that a job finished is
    on disk.
    """
    parent = multiprocessing.parent_process()

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _with_threads(threads: int, work: Callable, job: tuple) -> Any:
    torch.set_num_threads(threads)
    os.environ["OMP_NUM_THREADS"] = str(threads)  # told, so that they stay as many
    return work(*job)


def _on_ray(
    work: Callable, jobs: list[tuple], threads: int, address: str, workers: int
) -> Iterator[tuple[int, Any]]:
    """On GPUs where the cluster has some, one a job. A process is used once, so that its peak memory is its
    job's own.
    """
    try:
        import ray
    except ImportError:
        raise SettingsError(
            "--ray: the package ray is not installed; pip install 'l2dm[ray]', or leave --ray out"
        ) from None
    local = {"num_cpus": max(1, workers) * threads, "include_dashboard": False} if address == "local" else {}
    try:
        ray.init(address, ignore_reinit_error=True, logging_level="error", **local)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise SettingsError(
            f"--ray {address}: no cluster there ({error}); start one with `ray start --head`, or give local"
        ) from error
    try:
        gpus = 1 if ray.cluster_resources().get("GPU") else 0
        task = ray.remote(num_cpus=threads, num_gpus=gpus, max_calls=1, max_retries=0)(_with_threads)
        waiting = {task.remote(threads, work, job): i for i, job in enumerate(jobs)}
        while waiting:
            (done,), _ = ray.wait(list(waiting))
            try:
                yield waiting.pop(done), ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from None
    finally:
        ray.shutdown()
