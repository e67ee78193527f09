"""SIGKILL while a command runs: at every file operation, and at random moments.

After each kill the world must open, at the state before or after, with no finished concept changed by a byte.
When the command has then been run again, or the next writer after it, the folder must be that of an
undisturbed run: the same weights, and no file more.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .ground import Ground
from .jobs import ALL_METHODS, Job, lessons, verbs
from .operations import CHANGES, watch

#: Kills in a row, each of the run that goes on after the one before, until the command may end.
IN_A_ROW = 3
#: At the how manieth changing operation, or after how many seconds.
Moment = int | float


def dying(job: Job, at: int) -> Callable[[], None]:
    """Prepares a child to kill itself before the ``at``-th operation that changes something; a write is half
    done then.
    """

    def prepare() -> None:
        left = itertools.count(at, -1)

        def before(kind: str, path: str, *half: Callable[[], None]) -> None:
            if kind in CHANGES and next(left) == 1:
                for write in half:
                    write()
                os.kill(os.getpid(), signal.SIGKILL)

        watch(job.place, before)

    return prepare


def moments(job: Job, rng: random.Random) -> Iterator[Moment]:
    """A job's operations in random order, every third time a random moment instead."""
    job.run_undisturbed()
    order = rng.sample(range(1, job.changes + 1), job.changes)
    for number in itertools.count():
        yield rng.uniform(0, job.seconds) if number % 3 == 2 or not order else order.pop()


def schedule(whole: list[Job], others: list[Job], rng: random.Random) -> Iterator[tuple[Job, Moment]]:
    """Every operation of the ``whole`` jobs once, in turn with moments of the ``others``; then of all, for
    ever.
    """
    first = [(job, at) for job in whole for at in range(1, job.changes + 1)]
    rng.shuffle(first)
    sources = {job.name: moments(job, rng) for job in [*whole, *others]}
    turns = itertools.cycle(others or whole)
    for one in first:
        yield one
        job = next(turns)
        yield job, next(sources[job.name])
    for job in itertools.cycle([*whole, *others]):
        yield job, next(sources[job.name])


@dataclass
class Tally:
    """What runs of kills have come to so far; ``wrong``: by its kind, with verb and moment."""

    spent: Counter[str] = field(default_factory=Counter)
    covered: set[str] = field(default_factory=set)
    chains: int = 0
    resumed: int = 0
    at_random: int = 0
    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {
            kind: [] for kind in ("does not open", "concept changed", "other end", "leaked")
        }
    )

    def kill(self, job: Job, moment: Moment, kills: int, rng: random.Random) -> None:
        """One run: ``job`` is killed at ``moment``, begun again and killed at another, until it is done, is
        found at fault, or ``kills`` are spent.
        """
        job.set_up()
        self.chains += 1
        told, fault = [], ""
        for turn in range(IN_A_ROW):
            if turn:
                moment = rng.choice((rng.randint(1, job.changes), rng.uniform(0, job.seconds)))
            prepare = dying(job, moment) if isinstance(moment, int) else lambda: None
            self.resumed += bool(list(job.world.glob("learning/[0-9]*")))
            ended = job.ground.command(job.arguments, None if isinstance(moment, int) else moment, prepare)
            if not ended.killed:
                break
            self.spent[job.verb] += 1
            self.at_random += isinstance(moment, float)
            told.append(f"operation {moment}" if isinstance(moment, int) else f"{moment:.2f} s")
            self.covered.add(job.name)
            done, fault = job.stands()
            if fault or done or self.spent.total() >= kills:
                break
        if not fault:
            verdict = job.verdict()
            fault = verdict.fault or verdict.afterwards
        if fault:
            kind, moments = fault.split(":")[0], ", ".join(told) or "no time"
            self.wrong[kind].append(f"{job.name}, killed at {moments}: {fault[len(kind) + 2 :]}")
            print(self.wrong[kind][-1], flush=True)

    def figures(self) -> dict:
        return {
            "kills": self.spent.total(),
            "by_verb": dict(self.spent),
            "at_random_moments": self.at_random,
            "runs_of_kills": self.chains,
            "runs_from_a_checkpoint": self.resumed,
            "methods_and_precisions": len([name for name in self.covered if name.startswith("learn ")]),
            "worlds_that_do_not_open": self.wrong["does not open"],
            "concepts_changed": self.wrong["concept changed"],
            "other_ends": self.wrong["other end"],
            "leaks": self.wrong["leaked"],
        }


def measure(
    ground: Ground,
    kills: int,
    seed: int = 0,
    methods: list[str] = ALL_METHODS,
    most_seconds: float = math.inf,
) -> dict:
    """Figures of ``kills`` kills; what went wrong is listed by its kind, with verb and moment."""
    rng, began, tally = random.Random(seed), time.monotonic(), Tally()
    whole, others = list(verbs(ground)), list(lessons(ground, methods))
    for job in whole:
        job.run_undisturbed()
    for job, moment in schedule(whole, others, rng):
        if tally.spent.total() >= kills or time.monotonic() - began > most_seconds:
            break
        tally.kill(job, moment, kills, rng)
        if tally.chains % 50 == 0:
            print(f"{tally.spent.total()} kills, {time.monotonic() - began:.0f} s", flush=True)
    return {
        **tally.figures(),
        "operations": {job.name: job.changes for job in whole},
        "seconds": round(time.monotonic() - began),
    }
