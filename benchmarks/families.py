"""Memory and time of every family: one learning step and one picture, each in a process of its own ->
results/families.json.

    python -m benchmarks.families                        tiny models of all families, with random weights
    python -m benchmarks.families sdxl --real --work DIR  in the published size, with random weights in
    float16, kept in DIR

A step of the real size: one picture of 512 px, one prompt, adapters on all layers, gradient checkpointing;
*step*: the most that was held after loading, *still*: the same with `token_learning_rate = 0`, where text
encoders leave the memory. A picture: two steps of the sampler at 512 px, without classifier-free guidance. A
lesson of the real size: a world's whole `init` and `learn` of one such step, nothing drawn, the photo
remembered by a CLIP of the published size; *default*: with the default settings, but one step, one sampling
step of what is drawn, and gradient checkpointing. Seconds are the processor's, of one thread or all.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, PNDMScheduler, UNet2DConditionModel
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from benchmarks.main import made_by
from l2dm import LearnSettings, World
from l2dm.backbone import MINI, Backbone, find_base
from l2dm.backbone.families import FAMILIES, class_named
from l2dm.bench.memory import reset_peak, resident_mb
from l2dm.concept import Concept
from l2dm.errors import L2DMError
from l2dm.files import write_whole
from l2dm.generation import draw
from l2dm.learner import Learning
from l2dm.methods import METHODS
from l2dm.retention import Past
from l2dm.settings import GenerateSettings
from l2dm.tuners import TUNERS
from l2dm.world.requirements import requirements
from tests.families import folders

RESULTS = Path(__file__).parent.parent / "results" / "families.json"
SIDE = 512
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
_VAE = {
    "block_out_channels": (128, 256, 512, 512),
    "layers_per_block": 2,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
}
_CLIP_L = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "vocab_size": 49408,
}
_BIG_G = {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
    "vocab_size": 49408,
    "projection_dim": 1280,
    "hidden_act": "gelu",
}
_VIT_L = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 224,
    "patch_size": 14,
}
#: The published configurations, for pictures of SIDE.
_UNET = {
    "sd": {"cross_attention_dim": 768, "attention_head_dim": 8},
    "sdxl": {
        "cross_attention_dim": 2048,
        "attention_head_dim": (5, 10, 20),
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "use_linear_projection": True,
        "transformer_layers_per_block": (1, 2, 10),
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
}


def random_weights(kind: type, config: Any) -> torch.nn.Module:
    """A network in float16 whose weights are small and random: quicker than its own beginning."""
    with torch.device("meta"):
        network = kind(**config) if isinstance(config, dict) else kind(config)
    network = network.half().to_empty(device="cpu")
    for name, p in network.named_parameters():
        p.data.fill_(1.0) if "norm" in name and name.endswith("weight") else p.data.normal_(0, 0.02)
    for name, buffer in network.named_buffers():
        if name.endswith("position_ids"):
            buffer.copy_(torch.arange(buffer.numel()).view_as(buffer))
    return network


def real_folder(name: str, folder: Path) -> Path:
    """A diffusers folder of the family's published size, made where it is not there yet."""
    if (folder / "model_index.json").exists():
        return folder
    tokenizer = CLIPTokenizer.from_pretrained(find_base(MINI).folder / "tokenizer", model_max_length=77)
    marks = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    parts = {
        "unet": random_weights(UNet2DConditionModel, {"sample_size": SIDE // 8, **_UNET[name]}),
        "vae": random_weights(AutoencoderKL, _VAE),
        "tokenizer": tokenizer,
        "text_encoder": random_weights(CLIPTextModel, CLIPTextConfig(**_CLIP_L, **marks)),
        "scheduler": (EulerDiscreteScheduler if name == "sdxl" else PNDMScheduler)(steps_offset=1, **_BETAS),
    }
    family = next(f for f in FAMILIES if class_named(f.pipeline) is type(folders.FAMILIES[name]()))
    options = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if name == "sdxl":
        second = random_weights(CLIPTextModelWithProjection, CLIPTextConfig(**_BIG_G, **marks))
        parts |= {"text_encoder_2": second, "tokenizer_2": tokenizer}
        options = {"add_watermarker": False}
    clip = CLIPConfig(text_config={**_CLIP_L, **marks}, vision_config=_VIT_L, projection_dim=768)
    random_weights(CLIPModel, clip).float().save_pretrained(folder / "clip")  # as published
    tokenizer.save_pretrained(folder / "clip")
    family.pipeline_class()(**parts, **options).save_pretrained(folder)
    return folder


def peak() -> float:
    """GiB that this process held at most; files that it looked into without copying them count too."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def learn(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """One learning step, over all that a world would load."""
    backbone = Backbone.load(folder)
    loaded = peak()
    reset_peak()
    tuner = TUNERS[METHODS[settings["method"]].tuner](backbone)
    with tempfile.TemporaryDirectory() as place:
        concept = Concept.read(photo(place), "<rex>", "dog")
    vector = backbone.add_token("<rex>", backbone.word_vector("dog"))
    learning = Learning(
        backbone, tuner, vector, concept, Past(), LearnSettings(steps=1, batch=1, mixes=0, **settings)
    )
    began = time.process_time()
    list(learning.run())
    seconds = time.process_time() - began
    networks = [backbone.parts[part] for part in backbone.family.networks]
    return {
        "denoiser_parameters": sum(p.numel() for n, p in backbone.denoiser.named_parameters()),
        "parameters": sum(p.numel() for network in networks for p in network.parameters()),
        "dtype": str(backbone.dtype).removeprefix("torch."),
        "trained": sum(p.numel() for p in learning.named.values()),
        "side": backbone.side,
        "loaded_gib": round(loaded, 2),
        "learn_gib": round(max(loaded, peak()), 2),
        "step_gib": since_reset(),
        "learn_seconds": round(seconds, 1),
    }


def photo(place: str) -> Path:
    Image.effect_noise((600, 600), 50).convert("RGB").save(Path(place) / "photo.png")
    return Path(place)


def since_reset() -> float:
    return round(resident_mb() * 1e6 / 2**30, 2)


def lesson(folder: Path, name: str = "lesson", **settings: int) -> dict[str, Any]:
    """A world's whole lesson."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as photos:
        world = World.create(Path(place) / "world", folder)
        few = settings or {"batch": 1, "mixes": 0, "report_pictures": 0}
        world.learn(photo(photos), token="<rex>", noun="dog", gradient_checkpointing=True, steps=1, **few)
    return {f"{name}_gib": round(peak(), 2), f"{name}_seconds": round(time.process_time() - began, 1)}


def default(folder: Path) -> dict[str, Any]:
    """One of the default settings; of fewer steps, which changes nothing of what is held at once."""
    return lesson(folder, "default", prior_steps=1)


def picture(folder: Path) -> dict[str, Any]:
    backbone = Backbone.load(folder)
    began = time.process_time()
    draw(backbone, "a photo of a dog", GenerateSettings(n=1, steps=2, guidance_scale=1.0, composition="none"))
    return {"draw_gib": round(peak(), 2), "draw_seconds": round(time.process_time() - began, 1)}


def tuners(folder: Path) -> dict[str, Any]:
    """Which tuners take a step, why others do not, and what `l2dm check --base` refuses."""
    found: dict[str, str] = {}
    for name, method in {row.tuner: name for name, row in METHODS.items()}.items():
        try:
            learn(folder, {"method": method, "precision": "float32"})
            found[name] = "learns"
        except L2DMError as error:
            found[name] = str(error).replace(str(folder), folder.name)
    told = requirements(find_base(folder), LearnSettings(), GenerateSettings())
    return {"tuners": found, "refused": told.refused}


def measured(folder: Path, jobs: list[str]) -> dict[str, Any]:
    """What ``jobs`` say."""
    found: dict[str, Any] = {}
    for job in jobs:
        found |= apart(JOBS[job], folder)
    return found


def apart(work: Callable[..., Any], *arguments: Any) -> Any:
    """What ``work`` returns, in a process of its own that has done nothing yet but import."""
    with multiprocessing.get_context("fork").Pool(1) as one:
        return one.apply(work, arguments)


def switched(folder: Path) -> dict[str, Any]:
    """A step of the default method's adapters."""
    return learn(folder, {"method": "gated-lora", "gradient_checkpointing": True})


def still(folder: Path) -> dict[str, Any]:
    """The same where the token's vector stays."""
    told = learn(folder, {"method": "gated-lora", "gradient_checkpointing": True, "token_learning_rate": 0.0})
    return {"still_gib": told["step_gib"]}


JOBS = {
    "learn": switched,
    "still": still,
    "lesson": lesson,
    "default": default,
    "draw": picture,
    "tuners": tuners,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", nargs="*", help="of tests/families/folders.py; all where none is named")
    parser.add_argument("--real", action="store_true", help=f"in the published size: {', '.join(_UNET)}")
    parser.add_argument(
        "--jobs", nargs="*", choices=JOBS, help="of real sizes; all but tuners where none is named"
    )
    parser.add_argument("--work", type=Path, help="where real folders are kept")
    given = parser.parse_args()
    for name in given.families or (list(_UNET) if given.real else list(folders.FAMILIES)):
        with tempfile.TemporaryDirectory() as place:
            if given.real:
                folder = apart(real_folder, name, (given.work or Path(place)) / name)
                jobs = given.jobs or [job for job in JOBS if job != "tuners"]
                known = (
                    json.loads(RESULTS.read_text()).get(name, {}).get("real", {}) if RESULTS.exists() else {}
                )
                entry = {"real": {**known, **measured(folder, jobs), "commit": made_by({})["git_commit"]}}
            else:
                folder = apart(folders.tiny_folder, name, Path(place) / name)
                known = find_base(folder).family
                if hasattr(known, "cells"):
                    type(known).cells = 8  # no configuration tells it: pictures as small as the others'
                module = sys.modules[type(known).__module__]
                lines = len(Path(str(module.__file__)).read_text().splitlines())
                entry = {"name": known.name, "file": Path(str(module.__file__)).name, "lines": lines}
                entry["tiny"] = measured(folder, ["learn", "draw", "tuners"])
        found = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        found[name] = {**found.get(name, {}), **entry}
        print(name, json.dumps(entry))
        write_whole(RESULTS, (json.dumps(found, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
