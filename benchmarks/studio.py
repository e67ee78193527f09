"""Does looking at a learning slow it?  results/studio.json

python -m benchmarks.studio [--lessons 3] [--block 5] [--out FILE]    (needs playwright and a chromium, as make test-browser does)

A concept is learnt by the studio's own worker, on one thread, while the studio and its page in a browser come and go in turns of ``--block``
seconds: open, with live events, polls and ten other pages asked for in each turn; then closed, the studio itself held still.

slowed_by_page       seconds a step while it is open over those while it is closed, less 1: the median over neighbouring turns, whose median
                     steps are compared; ..._processor: the same of the processor's seconds of the learning process
slowed_by_studio     what the studio does within the learning process (events, the user's wishes, sample pictures), as a share of the rest
slowed_by            both together
answer_ms            median over all pages that were asked for while it learnt
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.main import ROOT, made_by
from l2dm import World
from l2dm.studio import work, worker
from l2dm.studio.folder import StudioFolder
from l2dm.studio.jobs import FINAL, JobFolder, Queue
from l2dm.studio.told import Told
from l2dm.world.store import write_json

PHOTOS, TOKEN, NOUN = ROOT / "demo" / "photos" / "rex", "<rex>", "dog"
PAGES = ("/", "/teach", "/draw", "/gallery", "/compare", "/exchange")
ASKED = 10  # pages in a turn
#: The first steps warm caches up.
WARM = 5


class Timed(Told):
    """Writes a line for each step: when it ended, the processor's seconds so far, and how long the studio itself then took of each."""

    log: Any = None

    def __call__(self, p: Any) -> None:
        if p.stage != "learn":
            return super().__call__(p)
        before = time.monotonic(), time.process_time()
        super().__call__(p)
        own = time.monotonic() - before[0], time.process_time() - before[1]
        self.log.write(json.dumps([*before, *own]) + "\n")
        self.log.flush()


def learn(world: str, root: str, log: str) -> None:
    """The worker's whole work, timed."""
    with Path(log).open("a", encoding="utf-8") as Timed.log:
        work.Told = Timed
        worker.main(world, root, "learn")


def chromium() -> str | None:
    """The system's browser, None for playwright's own."""
    return shutil.which("chromium") or shutil.which("google-chrome")


@contextmanager
def studio(folder: StudioFolder) -> Iterator[tuple[subprocess.Popen, str]]:
    """An open studio and its address."""
    command = [sys.executable, "-m", "l2dm", "studio", str(folder.world), "--port", "0"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    )
    try:
        yield process, re.search(r"http://\S+", process.stdout.readline())[0]
    finally:
        process.send_signal(signal.SIGCONT)
        process.send_signal(signal.SIGTERM)
        process.wait()


def turns(
    page: Any, process: subprocess.Popen, address: str, job: JobFolder, block: float
) -> Iterator[tuple[bool, float, float, list]]:
    """Until the learning ends: whether the studio was open, from when to when, and how long each page took that was asked for."""
    base, is_open = address.split("/?")[0], False
    page.goto(address)
    while job.state not in FINAL:
        is_open, answers = not is_open, []
        if is_open:
            process.send_signal(signal.SIGCONT)
            page.goto(f"{base}/jobs/{job.job.id}")
        else:
            page.goto("about:blank")
            process.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        while (now := time.monotonic()) < began + block:
            if is_open and now - began > len(answers) * block / ASKED:
                answer = page.request.get(base + PAGES[len(answers) % len(PAGES)])
                assert answer.status == 200, answer.status
                answers.append(time.monotonic() - now)
            page.wait_for_timeout(50)
        yield is_open, began, time.monotonic(), answers
    process.send_signal(signal.SIGCONT)


def lesson(
    fresh: Path, block: float, context: Any
) -> tuple[list[list[float]], list[tuple[bool, float, float, list]]]:
    """One learning, watched in turns: its steps and the turns."""
    with tempfile.TemporaryDirectory() as place:
        folder, log = StudioFolder(Path(place) / "pets"), Path(place) / "steps.jsonl"
        shutil.copytree(fresh, folder.world)
        folder.make()
        shutil.copytree(PHOTOS, folder.photos / "given")
        asked = {"token": TOKEN, "noun": NOUN, "settings": {}, "photos": 4}
        job = Queue(folder).add("learn", asked, folder.photos / "given")
        command = [
            sys.executable,
            "-m",
            "benchmarks.studio",
            "--learn",
            str(folder.world),
            str(folder.root),
            str(log),
        ]
        process = subprocess.Popen(command, cwd=ROOT)
        while not worker.is_held(worker.lane_lock(folder, "learn")):
            time.sleep(0.1)
        with studio(folder) as (opened, address):
            page = context.new_page()
            while not log.exists() or not log.stat().st_size:
                assert process.poll() is None, job.job.message
                time.sleep(0.1)
            watched = list(turns(page, opened, address, job, block))
            page.close()
        process.wait()
        assert job.job.state == "done", job.job.message
        return [json.loads(line) for line in log.read_text().splitlines()], watched


def slowed(
    steps: list[list[float]], watched: list[tuple[bool, float, float, list]], which: int
) -> list[float]:
    """Of each two neighbouring turns the median step's seconds (``which`` 0: of the clock, 1: of the processor), open over closed, less 1."""
    medians = []
    for is_open, began, ended, _ in watched:
        lasted = [
            after[which] - before[which] - before[which + 2]
            for before, after in zip(steps[WARM:], steps[WARM + 1 :])
            if began <= before[0] and after[0] <= ended
        ]
        medians.append((is_open, statistics.median(lasted) if len(lasted) > 2 else None))
    pairs = [(a, b) if a[0] else (b, a) for a, b in itertools.pairwise(medians)]
    return [opened[1] / closed[1] - 1 for opened, closed in pairs if opened[1] and closed[1]]


def measure(lessons: int, block: float) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    clock, processor, answers, own, rest = [], [], [], [], []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        fresh = World.create(Path(place) / "fresh")
        for _ in range(lessons):
            steps, watched = lesson(fresh.path, block, browser.new_context())
            clock += slowed(steps, watched, 0)
            processor += slowed(steps, watched, 1)
            answers += [seconds for *_, asked in watched for seconds in asked]
            own.append(sum(step[3] for step in steps))
            rest.append(steps[-1][1] - steps[0][1] - own[-1])
            print(
                f"{len(steps)} steps, {rest[-1]:.1f} s of the processor, and {own[-1]:.2f} s of the studio's own",
                flush=True,
            )
        browser.close()
    page, studios = statistics.median(clock), sum(own) / sum(rest)
    return {
        "slowed_by": round((1 + page) * (1 + studios) - 1, 4),
        "slowed_by_page": round(page, 4),
        "slowed_by_page_processor": round(statistics.median(processor), 4),
        "slowed_by_studio": round(studios, 4),
        "answer_ms": round(1000 * statistics.median(answers)),
        "settings": made_by({
            "base": "mini", "lessons": lessons, "block_seconds": block, "steps": len(steps), "pairs_of_turns": len(clock),
            "answers": len(answers), "threads": 1, "slowed_by_page_quartiles": [round(q, 4) for q in statistics.quantiles(clock)],
        }),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--lessons", type=int, default=3)
    parser.add_argument("--block", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "studio.json")
    parser.add_argument("--learn", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.learn:
        return learn(*asked.learn)
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that this one starts
    found = measure(asked.lessons, asked.block)
    write_json(asked.out, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
