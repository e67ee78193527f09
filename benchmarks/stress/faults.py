"""Refusals of the file system at every one of a command's operations: disk full, permission denied, an error
of the disk, an interruption.

Each must end in one line (or be got over), with a world that opens and nothing of it changed by a byte; when
the command has then been run again, the folder must be that of an undisturbed run. What the disk cannot give
(EIO in reading) may be taken for damaged instead, if it is put aside into the quarantine and the world is
whole without it; these are counted apart.
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
from pathlib import Path
from typing import Any

from benchmarks.main import made_by

from .ground import Ground
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


#: Of a refusal: what went wrong with it, as kind and words, and whether the command did its work all the
#: same.
Outcome = tuple[list[list[str]], bool]


def name_of(refusal: Refusal) -> str:
    job, at, error = refusal
    return f"{job.name}, {errno.errorcode[error]} at operation {at} ({job.operations[at - 1]})"


def outcome(refusal: Refusal) -> Outcome:
    """Refuse once, and judge what it left."""
    job, at, error = refusal
    job.set_up()
    ended = job.ground.command(job.arguments, prepare=refusing(job, at, error))
    found = [said.split(": ", 1)] if (said := answered(ended)) else []
    done_its_work, verdict = not ended.trace and ended.value[0] == 0, job.verdict()
    unreadable = error == errno.EIO and job.operations[at - 1] in ("read", "open", "stat")

    def note(kind: str, what: str, aside: bool) -> None:
        found.append(["put aside" if unreadable and aside else kind, what])

    if verdict.fault:
        note("world", verdict.fault, verdict.aside)
        return found, False
    if done_its_work and not (verdict.done or verdict.as_end or (unreadable and verdict.aside)):
        found.append(["claimed", "it said that it was done, and it was not"])
    if verdict.afterwards:
        note("afterwards", verdict.afterwards, verdict.aside_afterwards)
    return found, done_its_work


class Log:
    """Outcomes by the refusal's name, kept in ``file``, a line each: a measurement that was stopped goes on,
    and several may share one. Its first line names the ``code`` that it is of; a ValueError where that is
    another.
    """

    def __init__(self, file: Path, code: str):
        self.file, self.code, self.read, self.begun, self.found = file, code, 0, set(), {}
        if not file.exists():
            self.write("code", code)
        self.refresh()
        self.begun.clear()  # by processes that have ended

    def refresh(self) -> None:
        """Read what others have written."""
        with self.file.open() as file:
            file.seek(self.read)
            lines = file.read()
        whole = lines[: lines.rfind("\n") + 1]
        self.read += len(whole.encode())
        for name, *done in map(json.loads, whole.splitlines()):
            if name == "code":
                if done != [self.code]:
                    raise ValueError(
                        f"{self.file}: refusals of {done[0]}, and this is {self.code}; give another file"
                    )
            elif done:
                self.found[name] = done
            else:
                self.begun.add(name)

    def write(self, *line: Any) -> None:
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")


def measure(
    ground: Ground,
    tries: int | None = None,
    seed: int = 0,
    most_seconds: float = math.inf,
    file: Path | None = None,
    only: str | None = None,
) -> dict:
    """Figures of every refusal at every operation of every writing verb, or of ``tries`` of them, spread over
    all kinds. ``file``: of the ``Log``; what is in it counts. ``only``: of one command."""
    began = time.monotonic()
    jobs = [job for job in verbs(ground) if only in (None, job.name)]
    log = Log(file or ground.place / "refusals", made_by({})["git_commit"])
    for job in jobs:
        job.run_undisturbed()
    plan = [
        (job, at, error)
        for job in jobs
        for at, kind in enumerate(job.operations, 1)
        for error in refusals(kind)
    ]
    chosen = spread(plan, random.Random(seed))[:tries]
    for refusal in chosen:
        log.refresh()
        if time.monotonic() - began > most_seconds:
            break
        if (name := name_of(refusal)) in log.found or name in log.begun:
            continue
        log.write(name)
        start = time.monotonic()
        found, got_over = outcome(refusal)
        log.write(name, found, got_over, round(time.monotonic() - start, 2))
        for kind, what in found:
            print(f"{kind}: {name}: {what}", flush=True)
    log.refresh()
    return figures(jobs, plan, [refusal for refusal in chosen if name_of(refusal) in log.found], log)


def figures(jobs: list[Job], plan: list[Refusal], done: list[Refusal], log: Log) -> dict:
    """Of the refusals that were ``done``."""
    outcomes = [(name, *log.found[name]) for name in map(name_of, done)]

    def wrong(kind: str) -> list[str]:
        return [f"{name}: {what}" for name, found, *_ in outcomes for of, what in found if of == kind]

    return {
        "refusals": len(done),
        "of_possible": len(plan),
        "operations_met": len({(job.name, at) for job, at, _ in done}),
        "verbs_kinds_and_errors": len(set(map(stratum, done))),
        "of_possible_ones": len(set(map(stratum, plan))),
        "operations": {job.name: len(job.operations) for job in jobs},
        "changing_operations": {job.name: sum(kind in CHANGES for kind in job.operations) for job in jobs},
        "by_verb": dict(Counter(job.verb for job, *_ in done)),
        "by_error": dict(Counter(errno.errorcode[error] for *_, error in done)),
        "got_over": sum(got_over for *_, got_over, _ in outcomes),
        "tracebacks": wrong("traceback"),
        "unclear_answers": wrong("unclear"),
        "false_claims": wrong("claimed"),
        "damaged_worlds": wrong("world"),
        "other_ends_or_leaks": wrong("afterwards"),
        "put_aside_as_unreadable": wrong("put aside"),
        "seconds": round(sum(seconds for *_, seconds in outcomes)),
    }
