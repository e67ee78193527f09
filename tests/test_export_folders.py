"""Out, whole: pipelines with concepts merged in, Custom Diffusion's weights, and the pipeline that keeps the
gates.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionPipeline
from safetensors.torch import load_file
from travel import FAMILIES, PLAIN, another, draw_stock, drawn, known, options, stock, taught, ungated

from l2dm import World
from l2dm.errors import ExchangeError, SettingsError
from l2dm.exchange.lora import Layers
from l2dm.exchange.lora_reading import read_lora


@pytest.fixture(params=FAMILIES)
def world(request) -> World:
    return known(request.param)


def test_a_pipelines_folder_draws_the_same_and_is_a_base(world, tmp_path):
    folder = world.export("<rex>", format="pipeline", out=tmp_path / "out", strength=0.5).folder
    prompt = "a photo of <rex> dog"
    pipe = stock(str(folder))
    theirs = draw_stock(world, prompt, pipe=pipe)
    assert not np.array_equal(theirs, draw_stock(world, "a photo of a dog"))
    over = World.create(tmp_path / "over", folder, clip="none")
    backbone = over.backbone("float32")
    assert np.array_equal(np.asarray(backbone.pipeline()(prompt=prompt, **options()).images[0]), theirs)
    assert torch.equal(backbone.own_vector("<rex>"), world._files.tensors("tokens.safetensors")["<rex>"])
    lora = (
        world.export("<rex>", out=tmp_path / "lora", strength=0.5, dtype="float32").folder / "rex.safetensors"
    )
    merged = stock(world.manifest.base)
    merged.load_lora_weights(lora.parent, weight_name=lora.name)
    merged.fuse_lora()
    try:
        fused = getattr(merged, world.backbone().family.denoiser)
        own = dict(getattr(pipe, world.backbone().family.denoiser).named_parameters())
        for name, p in fused.named_parameters():
            if "base_layer.weight" in name:
                assert torch.allclose(own[name.replace(".base_layer", "")], p, atol=1e-6), name
    finally:
        merged.unfuse_lora()
        merged.unload_lora_weights()


def test_a_pipeline_of_two_concepts_draws_what_both_adapters_draw_without_gates(world, tmp_path):
    """In every prompt, also one that names neither: that is what a folder loses."""
    pipe = stock(str(world.export("<rex>", "<tom>", format="pipeline", out=tmp_path / "both").folder))
    one = stock(str(world.export("<rex>", format="pipeline", out=tmp_path / "one").folder))
    for prompt in ("a photo of a <rex> dog and a <tom> cat", PLAIN):
        theirs = draw_stock(world, prompt, pipe=pipe).astype(int)
        apart = abs(theirs - ungated(world, prompt, "<rex>", "<tom>"))
        assert apart.max() <= 1, "added to the weights, not beside them"
        for fewer in (draw_stock(world, prompt, pipe=one), draw_stock(world, prompt)):
            assert abs(theirs - fewer).sum() > max(10, 10 * apart.sum())


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("custom-diffusion", "dreambooth", "lora", "textual-inversion")
]


@pytest.mark.parametrize("method", ["svdiff", *SLOW])
def test_a_pipeline_holds_what_every_tuner_taught(tmp_path, method):
    """Those without gates: the world's own picture, to the last bit of it."""
    world = taught("sd", tmp_path, "<rex>", method=method, prior_weight=0.0)
    folder = world.export("<rex>", format="pipeline", out=tmp_path / "out").folder
    ours = drawn(world, "a photo of <rex> dog").astype(int)
    assert (
        abs(draw_stock(world, "a photo of <rex> dog", pipe=stock(str(folder))).astype(int) - ours).max() <= 1
    )
    if method == "dreambooth":
        with pytest.raises(SettingsError, match="no LoRA file holds that; export it with --format pipeline"):
            world.export("<rex>", out=tmp_path / "refused")
        assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_custom_diffusions_weights_are_read_by_stock_diffusers(tmp_path):
    world = taught("sd", tmp_path, "<rex>", method="custom-diffusion", prior_weight=0.0)
    out = world.export("<rex>", format="custom-diffusion", out=tmp_path / "out").folder
    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.load_attn_procs(out, weight_name="pytorch_custom_diffusion_weights.safetensors", _pipeline=pipe)
    pipe.load_textual_inversion(out / "rex-embedding.safetensors")
    theirs = draw_stock(world, "a photo of <rex> dog", pipe=pipe)
    assert np.array_equal(theirs, drawn(world, "a photo of <rex> dog"))
    lora = world.export("<rex>", out=tmp_path / "lora").folder / "rex.safetensors"
    exact = read_lora("", load_file(lora), {}, Layers(world.backbone().denoiser, "unet", "kohya"))[0]
    for name, p in world.tuner.parameters.items():
        assert torch.equal(
            exact[name.removesuffix(".weight")].change(), p - world.tuner.pretrained_values[name]
        )
    other = another(world, tmp_path / "other")
    other.import_file(out, token="<max>", noun="dog", report_pictures=0, prior_steps=2)
    assert abs(drawn(other, "a photo of <max> dog").astype(int) - theirs).max() <= 1
    assert np.array_equal(drawn(other, PLAIN), draw_stock(world, PLAIN))


def test_a_worlds_pipeline_is_diffusers_own_with_gates_and_writes_no_broken_folder(sd, tmp_path):
    pipe, prompt = sd.pipeline(precision="float32"), "a photo of <rex> dog"
    assert isinstance(pipe, StableDiffusionPipeline)
    assert np.array_equal(np.asarray(pipe(prompt, **options()).images[0]), drawn(sd, prompt))
    assert np.array_equal(np.asarray(pipe(PLAIN, **options()).images[0]), draw_stock(sd, PLAIN))
    with pytest.raises(ExchangeError, match="merge them: World"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()
