"""One learning step at the size of Stable Diffusion 1.5:  python -m benchmarks.main sd15"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.main import ROOT, forked, record
from benchmarks.tiny import PLAIN


def make_sd15(folder: Path) -> None:
    """A diffusers folder of Stable Diffusion 1.5's architecture at full size, with random weights in fp16."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    known = json.loads((ROOT / "l2dm/backbone/mini/tokenizer/tokenizer.json").read_text())["model"]["vocab"]
    words = [w for w in known if not w.startswith("<|")]
    words += [f"word{i}</w>" for i in range(49406 - len(words))] + ["<|startoftext|>", "<|endoftext|>"]
    tokenizer = CLIPTokenizer(vocab={w: i for i, w in enumerate(words)}, merges=[], model_max_length=77)
    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=768,
        intermediate_size=3072,
        num_hidden_layers=12,
        num_attention_heads=12,
        hidden_act="quick_gelu",
        max_position_embeddings=77,
        projection_dim=768,
        bos_token_id=49406,
        eos_token_id=49407,
        pad_token_id=49407,
    )
    unet = UNet2DConditionModel(sample_size=64, cross_attention_dim=768, attention_head_dim=8)
    vae = AutoencoderKL(
        block_out_channels=(128, 256, 512, 512),
        layers_per_block=2,
        sample_size=512,
        scaling_factor=0.18215,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    scheduler = PNDMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        skip_prk_steps=True,
        steps_offset=1,
        set_alpha_to_one=False,
    )
    parts = {"vae": vae, "text_encoder": CLIPTextModel(config), "tokenizer": tokenizer, "unet": unet}
    pipe = StableDiffusionPipeline(**parts, scheduler=scheduler, **PLAIN)
    pipe.to(torch.float16).save_pretrained(folder)


def measure() -> None:
    """One learning step (one photo, one prior picture) and one sampling step at 512 px; seconds and peak
    memory.
    """
    if "--inside" not in sys.argv:
        with tempfile.TemporaryDirectory() as place:
            os.waitpid(forked(lambda: make_sd15(Path(place) / "base")), 0)
            print("base made", flush=True)
            subprocess.run(
                [sys.executable, "-m", "benchmarks.main", "sd15", "--inside", place], cwd=ROOT, check=True
            )
    else:
        measure_inside(Path(sys.argv[-1]))


def measure_inside(place: Path) -> None:
    """In a process of its own, over the base that lies in ``place``: its peak memory counts."""
    from l2dm import World
    from l2dm.backbone import multiplies_bfloat16

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
    settings = {
        "size": 512,
        "photos": 5,
        "batch": "1 photo + 1 prior picture",
        "precision": precision,
        "whole_learning_seconds": round(learning, 1),
        "sampling_step_seconds": round(time.monotonic() - began, 1),
        "sampling_step": "one step with guidance, decoding included",
        "sd15_step_seconds": "from the drawn prior picture to the end of the step, photos' encoding included",
    }
    record(
        settings,
        sd15_step_seconds=round(timed[1] - timed[0], 1),
        sd15_peak_gib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2),
    )
