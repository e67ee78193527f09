"""The figures of results/main.json: each command measures one of them and writes it there itself.

python -m benchmarks.main time | kills | malformed | sd15 | all
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from l2dm.world.store import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "main.json"


def made_by(settings: dict) -> dict:
    """``settings``, with the machine and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {**settings, **machine, "git_commit": commit}


def record(settings: dict, results: Path = RESULTS, /, **figures) -> None:
    """Put ``figures`` into ``results``, with the settings, machine and commit that made them."""
    results.parent.mkdir(exist_ok=True)
    known = json.loads(results.read_text()) if results.exists() else {}
    known = {
        **known,
        **figures,
        "settings": {**known.get("settings", {}), **dict.fromkeys(figures, made_by(settings))},
    }
    write_json(results, known)
    print(json.dumps(figures))


def measure_time() -> None:
    """Seconds a concept on the shipped base, everything included: the three demo concepts, one after another."""
    from l2dm import World

    concepts = json.loads((ROOT / "demo" / "concepts.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        world, seconds, versions = World.create(Path(place) / "world"), [], []
        for name, about in concepts.items():
            began = time.monotonic()
            versions.append(world.learn(ROOT / "demo" / "photos" / name, **about))
            seconds.append(round(time.monotonic() - began, 1))
    settings = versions[0].settings
    record(
        {"concepts": list(concepts), "each": seconds, "learn": settings},
        seconds_per_concept=max(seconds), steps=settings["steps"], batch=settings["batch"],
    )  # fmt: skip


def _child(work) -> int:
    """Run ``work`` in a forked process; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _weights(world: Path) -> dict:
    """All that the first version has learnt."""
    from safetensors.numpy import load_file

    files = [
        file
        for name in ("weights", "adapter-*", "tokens")
        for file in (world / "versions/0001").glob(f"{name}.safetensors")
    ]
    return {name: array for file in files for name, array in load_file(file).items()}


def measure_kills(kills: int = 30, seed: int = 0) -> None:
    """Kill -9 at random moments of ``learn``, again and again until ``kills`` are spent; compare with unbroken runs.

    After every kill the world must open and be whole, at the version before or after. A learning that was killed is
    run again, and again, until it ends; its weights must be those of the unbroken run.
    """
    from l2dm import World

    rng = random.Random(seed)
    options = {
        "steps": 30,
        "batch": 2,
        "prior_pictures": 4,
        "prior_steps": 3,
        "report_pictures": 1,
        "checkpoint_every": 3,
    }
    learn = {"photos": ROOT / "demo" / "photos" / "rex", "token": "<rex>", "noun": "dog", **options}

    with tempfile.TemporaryDirectory() as place:
        fresh, whole = Path(place) / "fresh", Path(place) / "whole"
        os.waitpid(_child(lambda: World.create(fresh)), 0)
        shutil.copytree(fresh, whole)
        began = time.monotonic()
        os.waitpid(_child(lambda: World.open(whole).learn(**learn)), 0)
        duration = time.monotonic() - began
        reference, survived, spent, runs, worst, moments = _weights(whole), 0, 0, 0, 0.0, []
        while spent < kills:
            world = Path(place) / f"world-{runs}"
            shutil.copytree(fresh, world)
            runs += 1
            while True:
                child = _child(lambda world=world: World.open(world).learn(**learn))
                if spent < kills:
                    moment = rng.uniform(0, duration)
                    deadline = time.monotonic() + moment
                    while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
                        time.sleep(0.002)
                    try:
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
                        spent += 1
                        moments.append(round(moment, 2))
                        survived += World.open(world).version in (0, 1)
                        print(
                            f"kill {spent} after {moment:.1f} s: version {World.open(world).version}",
                            flush=True,
                        )
                    except (ProcessLookupError, ChildProcessError):
                        pass  # it was done before its moment came
                else:
                    os.waitpid(child, 0)
                if World.open(world).version == 1:
                    break
            found = _weights(world)
            worst = max(worst, *(float(abs(found[n] - reference[n]).max()) for n in reference))
    record(
        {"learn": options, "seed": seed, "unbroken_seconds": round(duration, 1), "learnings": runs, "moments": moments},
        kills=kills, kills_survived=survived, resume_max_difference=worst,
    )  # fmt: skip


def measure_malformed() -> None:
    """How many of the malformed inputs get one clear error, exit code 2, and change nothing."""
    from benchmarks.malformed import photo, verdict
    from benchmarks.malformed_families import ALL
    from l2dm import World

    with tempfile.TemporaryDirectory() as place:
        world = World.create(Path(place) / "taught")
        photo(Path(place) / "photos" / "a.png")
        world.learn(
            Path(place) / "photos",
            token="<known>",
            noun="dog",
            steps=1,
            batch=1,
            prior_pictures=1,
            prior_steps=2,
            report_pictures=0,
        )
        clear = 0
        for i, case in enumerate(ALL):
            folder = Path(place) / str(i)
            shutil.copytree(world.path, folder / "world")
            said = verdict(case, folder)
            clear += not said
            print(f"{'ok ' if not said else 'BAD'} {case.name} {said}", flush=True)
    record({"cases": [case.name for case in ALL]}, malformed_inputs=len(ALL), clear_errors=clear)


def make_sd15(folder: Path) -> None:
    """A diffusers folder of Stable Diffusion 1.5's architecture at full size, with random weights in fp16."""
    import torch
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    vocabulary = json.loads((ROOT / "l2dm/backbone/mini/tokenizer/tokenizer.json").read_text())["model"][
        "vocab"
    ]
    words = [w for w in vocabulary if not w.startswith("<|")]
    words += [f"word{i}</w>" for i in range(49406 - len(words))] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)
    text = CLIPTextModel(CLIPTextConfig(
        vocab_size=49408, hidden_size=768, intermediate_size=3072, num_hidden_layers=12, num_attention_heads=12, hidden_act="quick_gelu",
        max_position_embeddings=77, projection_dim=768, bos_token_id=49406, eos_token_id=49407, pad_token_id=49407,
    ))  # fmt: skip
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512), layers_per_block=2, sample_size=512, scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4, up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )
    pipe = StableDiffusionPipeline(
        vae=vae, text_encoder=text, tokenizer=tokenizer, unet=unet, scheduler=scheduler, safety_checker=None, feature_extractor=None,
        requires_safety_checker=False,
    )  # fmt: skip
    pipe.to(torch.float16).save_pretrained(folder)


def measure_sd15() -> None:
    """One learning step (one photo, one prior picture) and one sampling step at 512 px; seconds and peak memory."""
    if "--inside" not in sys.argv:
        with tempfile.TemporaryDirectory() as place:
            os.waitpid(_child(lambda: make_sd15(Path(place) / "base")), 0)
            print("base made", flush=True)
            subprocess.run(
                [sys.executable, "-m", "benchmarks.main", "sd15", "--inside", place], cwd=ROOT, check=True
            )
        return
    from l2dm import World
    from l2dm.backbone import multiplies_bfloat16

    place = Path(sys.argv[-1])
    world = World.create(place / "world", place / "base")
    timed: list[float] = []

    def watch(progress) -> None:
        if progress.stage == "prior" or progress.step:
            timed.append(time.monotonic())

    began = time.monotonic()
    world.learn(
        ROOT / "demo" / "photos" / "rex",
        token="<rex>",
        noun="dog",
        method="custom-diffusion",  # a prior picture, and no companions to draw first
        steps=1,
        batch=1,
        prior_pictures=1,
        prior_steps=1,
        report_pictures=0,
        on_progress=watch,
    )
    learning = time.monotonic() - began
    precision = "bfloat16" if multiplies_bfloat16(world.backbone().device) else "float32"
    began = time.monotonic()
    world.generate("a photo of <rex> dog", n=1, steps=1)
    record(
        {"size": 512, "photos": 5, "batch": "1 photo + 1 prior picture", "precision": precision, "whole_learning_seconds": round(learning, 1),
         "sampling_step_seconds": round(time.monotonic() - began, 1), "sampling_step": "one step with guidance, decoding included",
         "sd15_step_seconds": "from the drawn prior picture to the end of the step, photos' encoding included"},
        sd15_step_seconds=round(timed[1] - timed[0], 1),
        sd15_peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    )  # fmt: skip


COMMANDS = {
    "time": measure_time,
    "kills": measure_kills,
    "malformed": measure_malformed,
    "sd15": measure_sd15,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*COMMANDS, "all"])
    what = parser.parse_known_args()[0].what
    for name in COMMANDS if what == "all" else [what]:
        print(f"== {name}", flush=True)
        if what == "all":  # each in a process of its own: peak memory and forks stay clean
            subprocess.run([sys.executable, "-m", "benchmarks.main", name], cwd=ROOT, check=True)
        else:
            COMMANDS[name]()


if __name__ == "__main__":
    main()
