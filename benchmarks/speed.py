"""The figures of results/speed.json: ours against the peers on one machine, as medians of paired, interleaved
runs.

python -m benchmarks.speed [--base FOLDER] [--script train_custom_diffusion.py] [--rounds 7] [--out FILE]

throughput_ratio       training pictures a second, ours over the plain loop's (benchmarks/plain.py): what
diffusers' Custom Diffusion script does, on the same base, photos, class pictures and batch, each at its own
default precision. Beside it: with photos and class pictures in two forwards; both in our precision; and ours
compiled (compile = true), after the first step, whose seconds are in the details. Each loop has a process of
its own, and they take turns. memory_ratio           peak memory of these processes (resident; on a GPU,
allocated there), ours over the plain loop's; ..._two_forwards: over that which takes two matrix_rate_fraction
operations of one of our steps, forward and backward, a second, over the best matrix product measured here in
the precision of our step; ..._of_fastest: over the best in any precision guided_time_ratio_...  time of
guided over plain sampling, of our guidance "artists" and of diffusers' Attend-and-Excite pipeline

With --script the published script (examples/custom_diffusion/train_custom_diffusion.py of diffusers, fetched
by whoever runs this; it asks for its own requirements) takes the plain loop's place in the first two. Its
time a step is that of a longer run less that of a shorter one; its memory is the process's, so compare it on
a CPU only. It needs a base with an AutoencoderKL, which the shipped one has not: give --base.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.loops import LOOPS, NOUN, OTHERS, PAIR, PHOTOS, TOKEN, Apart, answer, loop, ours, settings
from benchmarks.main import ROOT, made_by
from l2dm import GenerateSettings
from l2dm.backbone import MINI, Backbone
from l2dm.bench.memory import resident_mb
from l2dm.generation import draw, mentions
from l2dm.guidance.attention import map_size
from l2dm.world import store

BLOCK = 10  # steps timed together
SHORT, LONG = 4, 20  # steps of the published script


def rounds_of(works: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """What each work gives in every round, their order turned round from one to the next; a round before them
    warms up.
    """
    found: dict[str, list[float]] = {name: [] for name in works}
    for k in range(-1, rounds):
        for name in list(works)[:: 1 if k % 2 else -1]:
            value = works[name]()
            if k >= 0:
                found[name].append(value)
    return found


def ratio(found: dict[str, list[float]], above: str, below: str) -> float:
    """Median over the rounds."""
    return round(statistics.median(a / b for a, b in zip(found[above], found[below])), 3)


def matrix_rate() -> dict[str, float]:
    """The best rate of a square matrix product, in 10^9 operations a second, for each precision."""
    best = {}
    for name in ("float32", "bfloat16"):
        rates = []
        for side in (512, 1024, 2048):
            a, b = (torch.randn(side, side).to(getattr(torch, name)) for _ in range(2))
            if torch.cuda.is_available():
                a, b = a.cuda(), b.cuda()
            for _ in range(5):
                began = time.perf_counter()
                a @ b
                if torch.cuda.is_available():
                    torch.cuda.synchronize()
                rates.append(2 * side**3 / (time.perf_counter() - began) / 1e9)
        best[name] = round(max(rates), 1)
    return best


def operations(base: str) -> float:
    """10^9 operations of one of our steps: forward, backward, all of it."""
    running, _ = ours(base)
    next(running)  # texts are read once
    with FlopCounterMode(display=False) as counter:
        next(running)
    return counter.get_total_flops() / 1e9


def script(path: Path, base: str, count: int, place: Path) -> tuple[float, float]:
    """Seconds and peak MB of the published script, taking ``count`` steps."""
    backbone = Backbone.load(base)
    if type(backbone.vae).__name__ != "AutoencoderKL":
        raise SystemExit(
            f"--script needs a base with an AutoencoderKL; {base} has an {type(backbone.vae).__name__}: give "
            "another --base"
        )
    chosen = settings(backbone)
    options = {
        "pretrained_model_name_or_path": backbone.folder,
        "instance_data_dir": PHOTOS,
        "class_data_dir": OTHERS,
        "output_dir": place / "script",
        "instance_prompt": f"a photo of {TOKEN} {NOUN}",
        "class_prompt": f"a photo of a {NOUN}",
        "modifier_token": TOKEN,
        "initializer_token": NOUN,
        "num_class_images": len(list(OTHERS.iterdir())),
        "resolution": backbone.side,
        "train_batch_size": chosen.batch,
        "learning_rate": chosen.learning_rate,
        "max_train_steps": count,
        "checkpointing_steps": 10 * LONG,
        "logging_dir": place / "logs",
        "dataloader_num_workers": 0,
    }
    said = [f"--{name}={value}" for name, value in options.items()]
    began = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, str(path), *said, "--with_prior_preservation", "--noaug", "--hflip", "--center_crop"]
    )
    top = 0.0
    while child.poll() is None:  # what the system tells of ended children counts their parent's memory too
        top = max(top, resident_mb(child.pid))
        time.sleep(0.05)
    if child.returncode:
        raise SystemExit(f"--script {path}: it failed (see above)")
    return time.perf_counter() - began, top


def training(base: str, rounds: int, block: int, published: Path | None) -> dict:
    """The figures of training; ``details`` has what they were made from."""
    loops = {name: Apart(name, base) for name in LOOPS}
    compiling = loops["ours, compiled"].seconds(1)
    seconds = rounds_of(
        {name: lambda own=own: own.seconds(block) / block for name, own in loops.items()}, rounds
    )
    mb = {name: own.end() for name, own in loops.items()}
    rates, work, precision = matrix_rate(), operations(base), "bfloat16" if ours(base)[1].fast else "float32"
    step = statistics.median(seconds["ours"])
    figures = {
        "throughput_ratio": ratio(seconds, "plain", "ours"),
        "throughput_ratio_two_forwards": ratio(seconds, "plain, two forwards", "ours"),
        "throughput_ratio_same_precision": ratio(seconds, "plain, our precision", "ours"),
        "throughput_ratio_compiled": ratio(seconds, "plain", "ours, compiled"),
        "matrix_rate_fraction_compiled": round(
            work / statistics.median(seconds["ours, compiled"]) / rates[precision], 3
        ),
        "matrix_rate_fraction": round(work / step / rates[precision], 3),
        "matrix_rate_fraction_of_fastest": round(work / step / max(rates.values()), 3),
    }
    details = {
        "seconds_a_step": {n: round(statistics.median(s), 4) for n, s in seconds.items()},
        "peak_mb": mb,
        "compiling_seconds": round(compiling, 1),
        "step_gigaflop": round(work, 2),
        "precision": precision,
        "matrix_gigaflop_a_second": rates,
    }
    if published:
        with tempfile.TemporaryDirectory() as place:
            (short, _), (long, top) = (script(published, base, count, Path(place)) for count in (SHORT, LONG))
        figures["throughput_ratio"] = round((long - short) / (LONG - SHORT) / step, 3)
        mb["plain"] = details["peak_mb"]["the published script"] = round(top, 1)
    figures["memory_ratio"] = round(mb["ours"] / mb["plain"], 3)
    figures["memory_ratio_two_forwards"] = round(mb["ours"] / mb["plain, two forwards"], 3)
    return {**figures, "details": details}


def attend_and_excite(base: str) -> tuple[DiffusionPipeline, tuple[int, int]]:
    """diffusers' pipeline over a base of its own, since it leaves its attention processors behind, and the
    size of the maps that it is to look at.
    """
    from diffusers import StableDiffusionAttendAndExcitePipeline

    backbone = Backbone.load(base)
    parts = backbone.pipeline().components
    peer = StableDiffusionAttendAndExcitePipeline(
        **{k: v for k, v in parts.items() if k != "image_encoder"}, requires_safety_checker=False
    )
    peer.set_progress_bar_config(disable=True)
    cells = backbone.unet.config.sample_size
    side, _ = map_size(backbone.unet, cells, cells)
    return peer, (side, side)


def seconds_of(work: Callable) -> Callable[[], float]:
    def seconds() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return seconds


def guided(base: str, rounds: int, count: int, sampling_steps: int) -> dict:
    """Time of guided over plain sampling of ``count`` pictures; both guide the first half of the steps."""
    prompt = f"a photo of a {PAIR[0]} and a {PAIR[1]}"
    own, (peer, size) = Backbone.load(base), attend_and_excite(base)
    things, ids = mentions(prompt, {}, own, PAIR), own.tokenizer(prompt).input_ids
    words = [ids.index(own.tokenizer(noun, add_special_tokens=False).input_ids[0]) for noun in PAIR]
    asked = {"n": count, "batch": count, "guidance_until": 0.5}
    asked |= {"steps": sampling_steps} if sampling_steps else {}
    chosen = GenerateSettings.of(own.defaults.get("generate", {}), asked)

    def excite() -> None:
        peer(
            prompt,
            token_indices=words,
            num_inference_steps=chosen.steps,
            guidance_scale=chosen.guidance_scale,
            num_images_per_prompt=count,
            max_iter_to_alter=chosen.steps // 2,
            attn_res=size,
            generator=torch.Generator().manual_seed(0),
        )

    plain, artists = (
        GenerateSettings.of(chosen.as_dict(), {"composition": name}) for name in ("none", "artists")
    )
    works = {
        "plain": seconds_of(lambda: draw(own, prompt, plain)),
        "ours": seconds_of(lambda: draw(own, prompt, artists, mentions=things)),
        "attend and excite": seconds_of(excite),
    }
    found = rounds_of(works, rounds)
    return {
        "guided_time_ratio_ours": ratio(found, "ours", "plain"),
        "guided_time_ratio_attend_and_excite": ratio(found, "attend and excite", "plain"),
        "details": {
            "pictures": count,
            "steps": chosen.steps,
            "seconds": {name: round(statistics.median(s), 3) for name, s in found.items()},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", default=MINI)
    parser.add_argument("--script", type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--smoke", action="store_true", help="one round of the least; only to see that it runs"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "speed.json")
    parser.add_argument("--inside", choices=LOOPS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        return answer(loop(options.inside, options.base))
    rounds, block, count, sampling = (1, 1, 1, 2) if options.smoke else (options.rounds, BLOCK, 4, 0)
    train = training(options.base, rounds, block, options.script)
    sample = guided(options.base, max(1, rounds - 2), count, sampling)
    about = {
        "base": options.base,
        "rounds": rounds,
        "threads": torch.get_num_threads(),
        "smoke": options.smoke,
        "peer": str(options.script.name) if options.script else "benchmarks/plain.py",
        "training": train.pop("details"),
        "sampling": sample.pop("details"),
    }
    store.write_json(options.out, {**train, **sample, "settings": made_by(about)})
    print(options.out.read_text())


if __name__ == "__main__":
    main()
