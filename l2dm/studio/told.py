"""Between a job at work and its user: progress told as events, and the user's wishes obeyed."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

from PIL import Image

from .. import World
from ..generation.picture import save_png
from ..world.examining import Progress
from .jobs import JobFolder

#: Pictures of a concept while it is learnt, at the most, and the share of the learning's time that those
#: after the first may take.
SAMPLES, SHARE = 8, 0.02
#: Seconds between two events of a stage: each is read, drawn and shown by processes that the learning shares
#: the machine with.
PAUSE = 1.0


class Interrupted(Exception):
    """The user wants a job paused or cancelled."""


def listen(found: JobFolder) -> None:
    """Raise Interrupted when the user wants it."""
    if found.control in ("pause", "cancel"):
        raise Interrupted


def committed(found: JobFolder, world: World, token: str) -> int:
    """The version by which this very job has brought ``token`` already, where a kill came before its noting
    it; else 0.
    """
    job = found.job
    began = job.found.get("counter", world.manifest.counter)
    found.update(found={**job.found, "counter": began})
    versions = world.manifest.versions.values()
    return max(
        (v.version for v in versions if v.version > began and v.token == token and token in world.concepts),
        default=0,
    )


class Told:
    """Progress of a learning as events: some of the steps, and samples now and then; and the user's wishes
    obeyed between two steps.
    """

    def __init__(self, found: JobFolder, previews: int):
        self.found, self.samples = found, _Samples(found) if previews else None
        self._stage, self._last, self._began = "", 0.0, time.monotonic()

    def __call__(self, p: Progress) -> None:
        now = time.monotonic()
        pause = max(
            PAUSE, (now - self._began) / 1000
        )  # a week's learning has a few thousand events, not a million
        if p.stage != self._stage or p.done == p.total or now - self._last >= pause:
            self._stage, self._last = p.stage, now
            details = {"loss": round(p.step.loss, 5), "left": round(p.step.seconds_left, 1)} if p.step else {}
            self.found.tell(stage=p.stage, done=p.done, total=p.total, **details)
        if p.sample and self.samples:
            self.samples.look(p, p.sample, now)
        if self.found.control in ("pause", "cancel"):
            if p.stage != "learn":
                raise Interrupted
            signal.raise_signal(signal.SIGINT)  # the learning stops after a checkpoint, as by Ctrl-C


class _Samples:
    """What is being learnt, drawn at each eighth of the steps, or later where that would take more than SHARE
    of the time.
    """

    def __init__(self, found: JobFolder):
        self.found, self.spent, self.last = found, 0.0, 0.0
        self.began: float | None = None
        self.part = 0

    def look(self, p: Progress, sample: Callable[[int], list[Image.Image]], now: float) -> None:
        if self.began is None:
            self.began, self.part = now, SAMPLES * (p.done - 1) // p.total
        part = SAMPLES * p.done // p.total
        if part <= self.part or (self.last and self.spent + self.last > SHARE * (now - self.began)):
            return
        self.part, name = part, f"{p.done:06d}.png"
        if not (self.found.path / name).exists():
            save_png(sample(1)[0], self.found.path / name)
            self.found.tell(sample=name, step=p.done)
            self.last = time.monotonic() - now
            self.spent += self.last
