"""Jobs on disk: ``jobs/ID/job.json`` says what and how far, ``events.jsonl`` what happened, ``control`` what
the user wants of it.

A worker alone writes the first two, the studio alone the third, so that neither needs a lock.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..files import write_whole
from .folder import ID, StudioFolder, inside, new_id

#: Which worker does what: drawing goes on while a concept is learnt.
LANES = {
    "create": "learn",
    "learn": "learn",
    "import": "learn",
    "rename": "learn",
    "draw": "draw",
    "compare": "draw",
    "export": "draw",
    "branch": "draw",
}
#: What becomes of a job; the last three are final.
STATES = ("queued", "running", "paused", "done", "failed", "cancelled")
FINAL = STATES[3:]
MOST_DRAWN = 100  # finished jobs of drawing that are kept
CONTROLS = ("", "pause", "resume", "cancel")


@dataclass(frozen=True)
class Job:
    """``asked``: the arguments; ``found``: the outcome; ``message``: why it failed, waits or is paused."""

    id: str
    kind: str
    asked: dict[str, Any]
    state: str = "queued"
    message: str = ""
    found: dict[str, Any] = field(default_factory=dict)
    tries: int = 0


class _Events:
    """The lines of files that only grow, as far as they were read."""

    def __init__(self, most: int = 64):
        self.most, self.lock = most, threading.Lock()
        self.read: OrderedDict[tuple[Path, int], tuple[int, list[dict[str, Any]]]] = OrderedDict()

    def of(self, path: Path) -> list[dict[str, Any]]:
        with self.lock, suppress(OSError), path.open("rb") as file:
            key = (path, os.fstat(file.fileno()).st_ino)
            at, found = self.read.pop(key, (0, []))
            file.seek(at)
            whole = file.read().rpartition(b"\n")[0]
            for line in whole.splitlines():
                with suppress(ValueError):
                    found.append(json.loads(line))
            self.read[key] = (at + len(whole) + bool(whole), found)
            while len(self.read) > self.most:
                self.read.popitem(last=False)
            return list(found)
        return []


_events = _Events()


class JobFolder:
    """One job's folder."""

    def __init__(self, path: Path):
        self.path = path

    @property
    def job(self) -> Job:
        known = {f.name for f in dataclasses.fields(Job)}
        record = json.loads((self.path / "job.json").read_text(encoding="utf-8"))
        return Job(**{name: value for name, value in record.items() if name in known})

    def save(self, job: Job) -> Job:
        write_whole(self.path / "job.json", json.dumps(dataclasses.asdict(job), ensure_ascii=False).encode())
        return job

    def update(self, **changes: Any) -> Job:
        """Worker only."""
        return self.save(dataclasses.replace(self.job, **changes))

    @property
    def control(self) -> str:
        with suppress(OSError):
            said = (self.path / "control").read_text()
            return said if said in CONTROLS else ""
        return ""

    def ask(self, control: str) -> None:
        write_whole(self.path / "control", control.encode())

    @property
    def state(self) -> str:
        """As a user should see it: what was cancelled before it began needs no worker to be so."""
        state = self.job.state
        return "cancelled" if state == "queued" and self.control == "cancel" else state

    def tell(self, **facts: Any) -> None:
        """One more event, on one line. Worker only."""
        line = json.dumps({"at": round(time.time(), 2), **facts}, ensure_ascii=False)
        with (self.path / "events.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def events(self) -> list[dict[str, Any]]:
        """What happened, oldest first; a line that a kill cut off is left out. Only what came since the last
        look is read.
        """
        return _events.of(self.path / "events.jsonl")

    def stamp(self) -> tuple[int, ...]:
        """Changes whenever there is something new to show."""
        stamps = []
        for name in ("job.json", "events.jsonl", "control"):
            with suppress(OSError):
                facts = (self.path / name).stat()
                stamps += [facts.st_mtime_ns, facts.st_size]
        return tuple(stamps)


class Queue:
    """All jobs of a studio."""

    def __init__(self, folder: StudioFolder):
        self.folder = folder

    def add(self, kind: str, asked: dict[str, Any], prepare: Path | None = None) -> JobFolder:
        """A new job, there whole or not at all; the folder ``prepare`` (of photos) becomes part of it."""
        job = Job(new_id(), kind, asked)
        scratch = self.folder.jobs / f".new-{job.id}"
        scratch.mkdir()
        JobFolder(scratch).save(job)
        if prepare:
            prepare.rename(scratch / "photos")
        return JobFolder(scratch.rename(self.folder.jobs / job.id))

    def get(self, id: str) -> JobFolder | None:
        path = inside(self.folder.jobs, id, ID)
        return JobFolder(path) if path and (path / "job.json").is_file() else None

    def all(self, *kinds: str) -> Iterator[JobFolder]:
        """Newest first; a folder that is no whole job is left out."""
        for path in sorted(self.folder.jobs.glob("[0-9]*"), reverse=True):
            found, kind = self.get(path.name), ""
            with suppress(ValueError, TypeError, OSError):
                kind = found.job.kind if found else ""
            if found and kind and (not kinds or kind in kinds):
                yield found

    def prune(self, most: int = MOST_DRAWN) -> None:
        """Remove the oldest finished jobs of drawing beyond ``most``; their pictures stay in the gallery."""
        drawn = [found for found in self.all("draw", "compare") if found.job.state in FINAL]
        for found in drawn[most:]:
            shutil.rmtree(found.path, ignore_errors=True)

    def waiting(self, lane: str) -> list[JobFolder]:
        """What is not done yet, in the order in which it will be; one that is paused holds back those behind
        it.
        """
        found = [f for f in self.all() if f.job.state not in FINAL and LANES.get(f.job.kind) == lane]
        return found[::-1]

    def next(self, lane: str) -> JobFolder | None:
        """The next thing for a worker to do; None where there is nothing, or it waits for the user."""
        for found in self.waiting(lane):
            if found.job.state == "paused" and found.control not in ("resume", "cancel"):
                cancelled = (
                    f for f in self.waiting(lane) if f.job.state == "queued" and f.control == "cancel"
                )
                return next(cancelled, None)
            return found
        return None
