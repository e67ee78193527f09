"""Another checkout of l2dm against this one, on the same base and work, in turns ->
results/speed-edition.json.

    git worktree add /tmp/before eba0f7f python -m benchmarks.editions /tmp/before python -m
    benchmarks.editions /tmp/before --base DIR/sd --block 1 --rounds 3 --works "learn, keys and values"

Each edition works in a process of its own, with one thread; what is counted are the processor's seconds, user
and system, so that other work on the machine matters little. The order turns round from pair to pair, and a
round before them warms up. A ratio is the median of the pairs', this edition's seconds over the other's:
below 1 this one is faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

from benchmarks.main import ROOT, made_by
from l2dm.files import write_whole

RESULTS = ROOT / "results" / "speed-edition.json"
#: What either edition is asked to do, in words that both understand: names of works, each with how many steps
#: of it are timed together.
WORKS = {"learn, keys and values": 10, "learn, adapters and mixes": 10, "draw": 1, "draw, guided": 1}
#: Runs in both editions. Reads "name<tab>count" lines, tells the processor's seconds of each.
INNER = """
import sys, time
import torch
torch.set_num_threads(1)
from benchmarks.loops import NOUN, OTHERS, PAIR, PHOTOS, TOKEN
from l2dm import GenerateSettings, LearnSettings
from l2dm.backbone import Backbone
from l2dm.concept import Concept
from l2dm.generation import draw, mentions
from l2dm.learner import Learning, photo_latents
from l2dm.methods import METHODS
from l2dm.retention import Past
from l2dm.tuners import TUNERS

base, drawing = sys.argv[1], None

def learn(*names):
    method = next(name for name in names if name in METHODS)
    backbone = Backbone.load(base)
    asked = {"steps": 100_000, "method": method, "mixes": 2}
    chosen = LearnSettings.of(backbone.defaults.get("learn", {}), asked)
    others = photo_latents(backbone, Concept.read(OTHERS, "<other>", NOUN).photos, flip=False)[:, 0]
    tuner = TUNERS[METHODS[method].tuner](backbone)
    past = Past({f"a photo of a {NOUN}": others}) if METHODS[method].prior != "nothing" else Past()
    if METHODS[method].mix:
        past.companions = {"a cat": others}
    vector = backbone.add_token(TOKEN, backbone.word_vector(NOUN))
    steps = Learning(backbone, tuner, vector, Concept.read(PHOTOS, TOKEN, NOUN), past, chosen).run()
    return lambda: next(steps)

def picture(guidance):
    global drawing
    drawing = drawing or Backbone.load(base)
    prompt = f"a photo of a {PAIR[0]} and a {PAIR[1]}"
    asked = {"n": 4, "batch": 4, "guidance_until": 0.5, "guidance": guidance}
    chosen = GenerateSettings.of(drawing.defaults.get("generate", {}), asked)
    things = mentions(prompt, {}, drawing, PAIR) if guidance != "none" else ()
    return lambda: draw(drawing, prompt, chosen, lambda done: None, things)

makers = {
    "learn, keys and values": lambda: learn("custom-diffusion"),
    "learn, adapters and mixes": lambda: learn("gated-lora", "switched"),
    "draw": lambda: picture("none"),
    "draw, guided": lambda: picture("l2dm"),
}
works = {}
for line in sys.stdin:
    name, count = line.rstrip().split("\\t")
    if name not in works:
        works[name] = makers[name]()
    began = time.process_time()
    for _ in range(int(count)):
        works[name]()
    print(time.process_time() - began, flush=True)
"""


class Edition:
    """A checkout's process."""

    def __init__(self, folder: Path, base: str):
        kept = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder)}
        self.process = subprocess.Popen(
            [sys.executable, "-c", INNER, base],
            cwd=folder,
            env={**os.environ, **kept},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def seconds(self, work: str, count: int) -> float:
        print(f"{work}\t{count}", file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline()) / count


def compared(other: Path, base: str, works: dict[str, int], rounds: int) -> dict[str, dict]:
    """Of each work: the ratio, its pairs, and both editions' median seconds a step."""
    editions = {"this": Edition(ROOT, base), "other": Edition(other, base)}
    found = {}
    for work, count in works.items():
        pairs = []
        for k in range(-1, rounds):
            order = list(editions)[:: 1 if k % 2 else -1]
            took = {name: editions[name].seconds(work, 1 if k < 0 else count) for name in order}
            if k >= 0:
                pairs.append(took)
        ratios = [round(pair["this"] / pair["other"], 3) for pair in pairs]
        medians = {
            f"{name}_seconds": round(statistics.median(pair[name] for pair in pairs), 4) for name in editions
        }
        found[work] = {"ratio": round(statistics.median(ratios), 3), **medians, "ratios": ratios}
        print(work, found[work], flush=True)
    for edition in editions.values():
        edition.process.communicate()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("other", type=Path, help="a checkout of the other edition")
    parser.add_argument("--base", default="mini")
    parser.add_argument("--works", nargs="*", choices=WORKS, default=list(WORKS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--block", type=int, default=0, help="steps timed together; 0: as each work has it")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=options.other, capture_output=True, text=True, check=True
    ).stdout.strip()
    works = {name: options.block or WORKS[name] for name in options.works}
    found = compared(options.other.resolve(), options.base, works, options.rounds)
    name = options.base if options.base == "mini" else Path(options.base).name
    about = made_by({"rounds": options.rounds, "steps_a_round": works, "threads": 1, "other_commit": commit})
    known = json.loads(options.out.read_text()) if options.out.exists() else {}
    known[name] = {**known.get(name, {}), **found, "settings": about}
    write_whole(options.out, (json.dumps(known, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
