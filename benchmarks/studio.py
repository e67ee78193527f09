"""Does looking at a learning slow it?  results/studio.json

python -m benchmarks.studio [--lessons 3] [--block 5] [--out FILE]    (needs playwright and a chromium, as
make test-browser does)

A concept is learnt by the studio's own worker, on one thread, while the studio and its page in a browser come
and go in turns of ``--block`` seconds: open, with live events, polls and ten other pages asked for in each
turn; then closed, the studio itself held still.

slowed_by_page       seconds a step while it is open over those while it is closed, less 1: the median over
neighbouring turns, whose median
                     steps are compared; ..._processor: the same of the processor's seconds of the learning
                     process
slowed_by_studio     what the studio does within the learning process (events, the user's wishes, sample
pictures), as a share of the rest slowed_by            both together answer_ms            median over all
pages that were asked for while it learnt studio_cores         processor's seconds a second that the studio
takes while it is open, and answers two pages a second; browser_cores: the
                     browser. Where a learning uses all cores, these are taken from it
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
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
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
    """Writes a line for each step: when it ended, the processor's seconds so far, and how long the studio
    itself then took of each.
    """

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


@dataclass
class Turn:
    """Some seconds in which the studio was open or closed; how long each page took that was asked for, and
    the processor's seconds.
    """

    is_open: bool
    began: float
    ended: float = 0.0
    answers: list[float] = field(default_factory=list)
    studio: float = 0.0
    browser: float = 0.0


def processor_seconds(studio: int) -> tuple[float, float]:
    """So far, of the studio's process and of the browsers that this process started."""
    parents, spent, names = {}, {}, {}
    for place in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            name, _, rest = place.read_text().partition("(")[2].rpartition(") ")
            pid, facts = int(place.parent.name), rest.split()
            parents[pid], names[pid] = int(facts[1]), name
            spent[pid] = (int(facts[11]) + int(facts[12])) / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in parents and is_ours(parents[pid]))

    return spent.get(studio, 0.0), sum(spent[pid] for pid in spent if "chrom" in names[pid] and is_ours(pid))


def turns(page: Any, process: subprocess.Popen, address: str, job: JobFolder, block: float) -> Iterator[Turn]:
    """Until the learning ends: open, closed, open, ..."""
    base, is_open = address.split("/?")[0], False
    page.goto(address)
    while job.state not in FINAL:
        is_open = not is_open
        if is_open:
            process.send_signal(signal.SIGCONT)
            page.goto(f"{base}/jobs/{job.job.id}")
        else:
            page.goto("about:blank")
            process.send_signal(signal.SIGSTOP)
        turn, before = Turn(is_open, time.monotonic()), processor_seconds(process.pid)
        while (now := time.monotonic()) < turn.began + block:
            if is_open and now - turn.began > len(turn.answers) * block / ASKED:
                answer = page.request.get(base + PAGES[len(turn.answers) % len(PAGES)])
                assert answer.status == 200, answer.status
                turn.answers.append(time.monotonic() - now)
            page.wait_for_timeout(50)
        turn.ended, after = time.monotonic(), processor_seconds(process.pid)
        turn.studio, turn.browser = after[0] - before[0], after[1] - before[1]
        yield turn
    process.send_signal(signal.SIGCONT)


def lesson(fresh: Path, block: float, context: Any) -> tuple[list[list[float]], list[Turn]]:
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


def slowed(steps: list[list[float]], watched: list[Turn], which: int) -> list[float]:
    """Of each two neighbouring turns the median step's seconds (``which`` 0: of the clock, 1: of the
    processor), open over closed, less 1.
    """
    medians = []
    for turn in watched:
        lasted = [
            after[which] - before[which] - before[which + 2]
            for before, after in zip(steps[WARM:], steps[WARM + 1 :])
            if turn.began <= before[0] and after[0] <= turn.ended
        ]
        medians.append((turn.is_open, statistics.median(lasted) if len(lasted) > 2 else None))
    pairs = [(a, b) if a[0] else (b, a) for a, b in itertools.pairwise(medians)]
    return [opened[1] / closed[1] - 1 for opened, closed in pairs if opened[1] and closed[1]]


def measure(lessons: int, block: float) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    clock, processor, seen, own, rest = [], [], [], [], []
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        fresh = World.create(Path(place) / "fresh")
        for _ in range(lessons):
            steps, watched = lesson(fresh.path, block, browser.new_context())
            clock += slowed(steps, watched, 0)
            processor += slowed(steps, watched, 1)
            seen += [turn for turn in watched if turn.is_open]
            own.append(sum(step[3] for step in steps))
            rest.append(steps[-1][1] - steps[0][1] - own[-1])
            print(
                f"{len(steps)} steps, {rest[-1]:.1f} s of the processor, and {own[-1]:.2f} s of the studio's "
                "own",
                flush=True,
            )
        browser.close()
    page, studios = statistics.median(clock), sum(own) / sum(rest)
    answers, lasted = (
        [one for turn in seen for one in turn.answers],
        sum(turn.ended - turn.began for turn in seen),
    )
    return {
        "slowed_by": round((1 + page) * (1 + studios) - 1, 4),
        "slowed_by_page": round(page, 4),
        "slowed_by_page_processor": round(statistics.median(processor), 4),
        "slowed_by_studio": round(studios, 4),
        "answer_ms": round(1000 * statistics.median(answers)),
        "studio_cores": round(sum(turn.studio for turn in seen) / lasted, 3),
        "browser_cores": round(sum(turn.browser for turn in seen) / lasted, 3),
        "settings": made_by(
            {
                "base": "mini",
                "lessons": lessons,
                "block_seconds": block,
                "steps": len(steps),
                "pairs_of_turns": len(clock),
                "answers": len(answers),
                "threads": 1,
                "slowed_by_page_quartiles": [round(q, 4) for q in statistics.quantiles(clock)],
            }
        ),
    }


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
