"""Refusals of the file system at every one of a command's operations: disk full, permission denied, an error of the disk, an interruption.

Each must end in one line (or be got over), with a world that opens and nothing of it changed by a byte; when the command has then been run
again, the folder must be that of an undisturbed run. What the disk cannot give (EIO in reading) may be taken for damaged instead, if it is
put aside into the quarantine and the world is whole without it; these are counted apart.
"""

from __future__ import annotations

import errno
import itertools
import json
import math
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable

from l2dm.world.repair import examine

from .ground import Ground, contents
from .jobs import Job, verbs
from .operations import CHANGES, watch

#: Operations that need room. A disk that is full stays full, so that it refuses all of these from then on.
NEEDS_ROOM = frozenset(["create", "write", "tensors", "fsync", "sendfile", "mkdir", "link", "symlink"])
#: Of an opened file only these fail.
_OPENED = frozenset(["write", "fsync", "sendfile", "read", "lock"])


def refusals(kind: str) -> list[int]:
    """The errors that an operation of this ``kind`` can meet."""
    found = [errno.EIO, errno.EINTR]
    if kind in NEEDS_ROOM:
        found.append(errno.ENOSPC)
    if kind not in _OPENED:
        found.append(errno.EACCES)
    return found


def refusing(job: Job, at: int, error: int) -> Callable[[], None]:
    """Prepares a child whose ``at``-th operation fails with ``error``; a write is half done then."""

    def prepare() -> None:
        count = itertools.count(1)

        def before(kind: str, path: str, *half: Callable[[], None]) -> None:
            now = next(count)
            if now == at or (error == errno.ENOSPC and now > at and kind in NEEDS_ROOM):
                for write in half if error != errno.EINTR else ():  # what is interrupted has not begun
                    write()
                raise OSError(error, os.strerror(error), path)

        watch(job.place, before)

    return prepare


def answered(ended) -> str:
    """Empty when a command did its work or refused it in one line; else what it did."""
    if ended.trace:
        return f"traceback: {ended.trace.strip().splitlines()[-1]}"
    code, said = ended.value
    if code == 0:
        return ""
    lines = said.strip().splitlines()
    try:
        clear = code == 2 and {"error", "message"} == set(json.loads(lines[-1])) and len(lines) == 1
    except (ValueError, IndexError):
        clear = False
    return "" if clear else f"unclear: exit code {code}: {said[-200:]}"


Refusal = tuple[Job, int, int]  # at which operation, with which error


def stratum(refusal: Refusal) -> tuple[str, str, int]:
    """What a refusal is one of: a command, a kind of operation, an error."""
    job, at, error = refusal
    return job.name, job.operations[at - 1], error


def spread(plan: list[Refusal], rng: random.Random) -> list[Refusal]:
    """In random order, but one of every stratum first, then another of each that has one, and so on."""
    before: Counter[tuple[str, str, int]] = Counter()
    rounds: dict[int, list[Refusal]] = defaultdict(list)
    for refusal in rng.sample(plan, len(plan)):
        rounds[before[stratum(refusal)]].append(refusal)
        before[stratum(refusal)] += 1
    return [refusal for number in sorted(rounds) for refusal in rounds[number]]


def measure(ground: Ground, tries: int | None = None, seed: int = 0, most_seconds: float = math.inf) -> dict:
    """Figures of every refusal at every operation of every writing verb, or of ``tries`` of them, spread over all kinds."""
    rng, began = random.Random(seed), time.monotonic()
    jobs = list(verbs(ground))
    for job in jobs:
        job.run_undisturbed()
    plan = [
        (job, at, error)
        for job in jobs
        for at, kind in enumerate(job.operations, 1)
        for error in refusals(kind)
    ]
    possible = len(plan)
    plan = spread(plan, rng)
    wrong: dict[str, list[str]] = {
        kind: [] for kind in ("traceback", "unclear", "claimed", "world", "afterwards", "put aside")
    }
    by_verb, by_error, got_over, met, strata = Counter(), Counter(), 0, set(), set()
    for done, (job, at, error) in enumerate(plan[:tries], 1):
        if time.monotonic() - began > most_seconds:
            break
        job.set_up()
        ended = ground.command(job.arguments, prepare=refusing(job, at, error))
        by_verb[job.verb] += 1
        by_error[errno.errorcode[error]] += 1
        met.add((job.name, at))
        strata.add(stratum((job, at, error)))
        where = f"{job.name}, {errno.errorcode[error]} at operation {at} ({job.operations[at - 1]})"

        def note(kind: str, what: str, where: str = where) -> None:
            wrong[kind].append(f"{where}: {what}")
            print(f"{kind}: {where}: {what}", flush=True)

        unreadable = error == errno.EIO and job.operations[at - 1] in ("read", "open", "stat")

        def put_aside(job: Job = job, unreadable: bool = unreadable) -> bool:
            return unreadable and (job.world / "quarantine").exists() and not examine(job.world).faults

        if said := answered(ended):
            note(*said.split(": ", 1))
        finished, fault = job.stands()
        if fault:
            note("put aside" if put_aside() else "world", fault)
            continue
        if not ended.trace and ended.value[0] == 0:
            got_over += 1
            if not finished and not put_aside() and contents(job.world) != job.end:
                note("claimed", "it said that it was done, and it was not")
        if fault := job.finish(finished):
            note("put aside" if put_aside() else "afterwards", fault)
        if done % 50 == 0:
            print(f"{done} refusals, {time.monotonic() - began:.0f} s", flush=True)
    return {
        "refusals": by_verb.total(), "of_possible": possible, "operations_met": len(met),
        "verbs_kinds_and_errors": len(strata), "of_possible_ones": len({stratum(refusal) for refusal in plan}),
        "operations": {job.name: len(job.operations) for job in jobs},
        "changing_operations": {job.name: sum(kind in CHANGES for kind in job.operations) for job in jobs},
        "by_verb": dict(by_verb), "by_error": dict(by_error), "got_over": got_over,
        "tracebacks": wrong["traceback"], "unclear_answers": wrong["unclear"], "false_claims": wrong["claimed"],
        "damaged_worlds": wrong["world"], "other_ends_or_leaks": wrong["afterwards"],
        "put_aside_as_unreadable": wrong["put aside"], "seconds": round(time.monotonic() - began),
    }  # fmt: skip
