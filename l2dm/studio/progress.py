"""How far a job is: its events, folded into what a page shows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .jobs import FINAL, Job, JobFolder, Queue

#: What the library calls a stage -> what a person is told; {noun} and {token} are the job's own.
STAGES = {
    "create": "Making the world",
    "before": "Drawing what the base knows",
    "prior": "Drawing what any {noun} looks like, to keep that",
    "memory": "Choosing pictures of earlier concepts to rehearse",
    "learn": "Learning {token}",
    "report": "Looking at what it did to the others",
    "draw": "Drawing",
    "export": "Writing files for other programs",
    "branch": "Copying the world",
    "rename": "Calling it otherwise",
}
POINTS = 120


@dataclass
class Progress:
    """``losses``: (step, loss), at most POINTS of them; ``left``: seconds, None where that is not known yet.
    ``things``: picture -> what there are veils of, that show where it was looked for.
    ``cells``: (row, column) of a comparison -> picture; ``refused``: row -> why it cannot be drawn."""

    job: Job
    state: str
    stage: str = ""
    done: int = 0
    total: int = 0
    left: float | None = None
    losses: list[tuple[int, float]] = field(default_factory=list)
    steps: int = 0
    samples: list[tuple[int, str]] = field(default_factory=list)
    pictures: list[str] = field(default_factory=list)
    things: dict[str, list[str]] = field(default_factory=dict)
    cells: dict[tuple[int, int], str] = field(default_factory=dict)
    refused: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        told = STAGES.get(self.stage, self.stage)
        asked = self.job.asked
        return told.format(noun=asked.get("noun", ""), token=asked.get("token", ""))

    @property
    def is_final(self) -> bool:
        return self.state in FINAL

    @property
    def percent(self) -> int:
        return round(100 * self.done / self.total) if self.total else 0


def progress(found: JobFolder) -> Progress:
    """What the events of a job come to."""
    shown = Progress(found.job, found.state)
    began: dict[str, Any] = {}
    losses: dict[int, float] = {}
    for event in found.events():
        if stage := event.get("stage"):
            if stage != shown.stage:
                began = event
            shown.stage, shown.done, shown.total = stage, event["done"], event["total"]
            passed, more = event["at"] - began["at"], event["done"] - began["done"]
            shown.left = event.get(
                "left", passed / more * (event["total"] - event["done"]) if more > 0 else None
            )
            if "loss" in event:
                losses[event["done"]], shown.steps = event["loss"], event["total"]
        if "sample" in event:
            shown.samples.append((event["step"], event["sample"]))
        if "picture" in event:
            shown.pictures.append(event["picture"])
            shown.things[event["picture"]] = event.get("things", [])
        if "cell" in event:
            shown.cells[event["row"], event["column"]] = event["cell"]
        if "refused" in event:
            shown.refused[event["row"]] = event["refused"]
        if "note" in event:
            shown.notes.append(event["note"])
    shown.losses = thinned(sorted(losses.items()), POINTS)
    return shown


def thinned(points: list[tuple[int, float]], most: int) -> list[tuple[int, float]]:
    """At most ``most`` points, each the mean of its neighbours."""
    size = -(-len(points) // most) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(loss for _, loss in group) / len(group)) for group in groups]


def summary(queue: Queue) -> Progress | None:
    """The learning at work, or waiting; None where there is none."""
    waiting = queue.waiting("learn")
    running = [found for found in waiting if found.job.state == "running"] or waiting
    return progress(running[0]) if running else None


def duration(seconds: float | None) -> str:
    """``75`` -> ``1 min 15 s``, on one line."""
    if seconds is None:
        return ""
    whole = round(seconds)
    if whole < 60:
        said = f"{whole} s"
    elif whole < 3600:
        said = f"{whole // 60} min {whole % 60} s"
    else:
        said = f"{whole // 3600} h {whole % 3600 // 60} min"
    return said.replace(" ", "\u00a0")


def curve(points: list[tuple[int, float]], last: int, width: int = 640, height: int = 160) -> str:
    """Points of an SVG polyline, ``width`` x ``height``, over steps 0 to ``last``, from 0 to the largest
    value at the top.
    """
    top = max((value for _, value in points), default=0.0) or 1.0
    return " ".join(
        f"{x / max(1, last) * width:.1f},{height - y / top * (height - 4):.1f}" for x, y in points
    )
