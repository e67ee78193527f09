"""A denoiser that torchao quantized, by diffusers' own settings: adapters learn beside it, and all else is
refused in one line.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from conftest import QUICK
from diffusers import DiffusionPipeline, TorchAoConfig, UNet2DConditionModel
from families.folders import tiny_folder
from tiny import tiny_clip

from l2dm import World
from l2dm.backbone import Backbone, is_quantized
from l2dm.errors import SettingsError

quantization = pytest.importorskip("torchao.quantization", reason="an extra: pip install torchao")
PLAIN, REX = "a photo of a cat at night", "a photo of <rex> dog"
DRAW = {"n": 1, "steps": 2, "seed": 3, "guidance_scale": 4.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("base")
    folder = shutil.copytree(tiny_folder("sd", place / "plain"), place / "sd")
    how = TorchAoConfig(quantization.Int8WeightOnlyConfig(version=2))
    unet = UNet2DConditionModel.from_pretrained(
        folder / "unet", quantization_config=how, torch_dtype=torch.bfloat16
    )
    shutil.rmtree(folder / "unet")
    unet.save_pretrained(folder / "unet")
    return folder


@pytest.fixture
def world(folder, photos, tmp_path) -> World:
    world = World.create(tmp_path / "world", folder, clip=tiny_clip(tmp_path / "clip"))
    world.learn(
        photos, token="<rex>", noun="dog", method="gated-lora", **QUICK | {"steps": 2, "learning_rate": 0.05}
    )
    return world


def drawn(world: World, prompt: str, **changes) -> np.ndarray:
    return np.asarray(world.generate(prompt, **DRAW | changes)[0].image)


def test_adapters_learn_and_draw_beside_quantized_weights(world, folder, tmp_path):
    backbone = world.backbone()
    assert backbone.dtype == torch.bfloat16
    assert sum(is_quantized(p) for p in backbone.denoiser.parameters()) > 20
    stock = DiffusionPipeline.from_pretrained(folder, torch_dtype=torch.bfloat16, local_files_only=True)
    stock.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(DRAW["seed"])
    theirs = stock(
        PLAIN, generator=generator, num_inference_steps=2, guidance_scale=4.0, height=16, width=16
    ).images[0]
    assert np.array_equal(np.asarray(theirs), drawn(world, PLAIN)), "no concept: the bits of the bare base"
    again = World.open(world.path)
    assert np.array_equal(drawn(again, REX), drawn(world, REX))
    assert not np.array_equal(drawn(world, REX), drawn(world, "a photo of a dog"))
    assert world.export("<rex>", out=tmp_path / "out").files
    with pytest.raises(SettingsError, match="its denoiser is quantized, and a pipeline of its own"):
        world.export("<rex>", out=tmp_path / "whole", format="pipeline")


@pytest.mark.parametrize("method", ["custom-diffusion", "dreambooth", "svdiff"])
def test_methods_that_need_the_weights_themselves_are_refused(folder, photos, tmp_path, method):
    world = World.create(tmp_path / "world", folder, clip="none")
    with pytest.raises(SettingsError, match="quantized"):
        world.learn(photos, token="<rex>", noun="dog", method=method, **QUICK)
    assert not world.concepts


def test_another_precision_is_refused(folder):
    with pytest.raises(
        SettingsError, match=r"precision = float16: the denoiser of .* is quantized and works in bfloat16"
    ):
        Backbone.load(folder, precision="float16")
