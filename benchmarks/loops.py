"""The training loops that benchmarks/speed.py compares, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.main import ROOT
from benchmarks.plain import Plain
from l2dm import LearnSettings
from l2dm.backbone import Backbone
from l2dm.bench.memory import peak_mb
from l2dm.concept import Concept
from l2dm.learner import Learning, photo_latents
from l2dm.retention import Past
from l2dm.tuners import TUNERS

PHOTOS, OTHERS = ROOT / "demo" / "photos" / "rex", ROOT / "demo" / "photos" / "pip"
TOKEN, NOUN, PAIR = "<rex>", "dog", ("dog", "cat")
LOOPS = ("ours", "plain", "plain, two forwards", "plain, our precision", "ours, compiled")


def settings(backbone: Backbone, **changes: bool) -> LearnSettings:
    """The base's own; more steps than are ever taken."""
    return LearnSettings.of(
        backbone.defaults.get("learn", {}), {"steps": 100_000, "method": "custom-diffusion", **changes}
    )


def ours(base: str, compiled: bool = False) -> tuple[Iterator, Learning]:
    """Our loop, over the same class pictures."""
    backbone = Backbone.load(base)
    chosen, others = settings(backbone, compile=compiled), Concept.read(OTHERS, "<other>", NOUN)
    tuner = TUNERS["key_value"](backbone)
    prior = photo_latents(backbone, others.photos, flip=False)[:, 0]
    vector = backbone.add_token(TOKEN, backbone.word_vector(NOUN))
    past = Past({f"a photo of a {NOUN}": prior})
    learning = Learning(backbone, tuner, vector, Concept.read(PHOTOS, TOKEN, NOUN), past, chosen)
    return learning.run(), learning


def loop(name: str, base: str) -> Iterator:
    """A training loop of LOOPS over a base of its own."""
    if name.startswith("ours"):
        return ours(base, name == "ours, compiled")[0]
    backbone = Backbone.load(base)
    chosen = settings(backbone)
    precision = "bfloat16" if name == "plain, our precision" and ours(base)[1].fast else "float32"
    forwards = 2 if name == "plain, two forwards" else 1
    return Plain(
        backbone, PHOTOS, OTHERS, TOKEN, NOUN, chosen.batch, chosen.learning_rate, forwards, precision
    ).run()


def answer(running: Iterator) -> None:
    """Of a loop's own process: takes as many steps as each line of standard input says, and tells the
    seconds; at the end its peak MB.
    """
    for line in sys.stdin:
        began = time.perf_counter()
        for _ in range(int(line)):
            next(running)
        print(time.perf_counter() - began, flush=True)
    print(peak_mb())


class Apart:
    """A loop of LOOPS in a process of its own: none has its memory laid out, or kept, by another."""

    def __init__(self, name: str, base: str):
        command = [sys.executable, "-m", "benchmarks.speed", "--inside", name, "--base", base]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def seconds(self, count: int) -> float:
        """Of ``count`` steps."""
        print(count, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def end(self) -> float:
        """MB at the peak."""
        return float(self.process.communicate()[0])
