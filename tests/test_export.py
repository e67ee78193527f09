"""Out, as LoRA files and embeddings: what stock diffusers draws of an exported concept, bit for bit, and what
is written beside it.
"""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from travel import FAMILIES, FEW, LESSON, PLAIN, another, copied, draw_stock, drawn, known, taught, ungated

from benchmarks.malformed import call
from benchmarks.stress.ground import say
from l2dm import World
from l2dm.errors import PhotoError, SettingsError
from l2dm.exchange.lora import Layers, diffusers_file, lora_file


@pytest.fixture(params=FAMILIES)
def world(request) -> World:
    return known(request.param)


def test_stock_diffusers_draws_what_the_adapter_draws_without_gates(world, tmp_path):
    bare = draw_stock(world, PLAIN)
    for tokens in (["<rex>"], ["<rex>", "<tom>"]):
        out = world.export(*tokens, out=tmp_path / str(len(tokens))).folder
        name = "-".join(token[1:-1] for token in tokens)
        theirs = draw_stock(world, PLAIN, out / f"{name}.safetensors")
        assert np.array_equal(theirs, ungated(world, PLAIN, *tokens)) and not np.array_equal(theirs, bare)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_kohya_and_diffusers_files_agree_bit_for_bit(world, tmp_path, strength):
    a = world.export("<rex>", out=tmp_path / "a", strength=strength).folder / "rex.safetensors"
    b = world.export("<rex>", format="diffusers", out=tmp_path / "b", strength=strength).folder
    b = b / "pytorch_lora_weights.safetensors"
    assert np.array_equal(draw_stock(world, PLAIN, a), draw_stock(world, PLAIN, b))
    if (
        strength == 1 and world.backbone().family.lora_names != "flux2"
    ):  # where queries, keys and values are one layer
        alike = [{t.numpy().tobytes() for name, t in load_file(file).items() if t.dim()} for file in (a, b)]
        assert alike[0] == alike[1]


def test_the_format_kohya_is_what_sd_scripts_write(world, tmp_path):
    """Of SD 3 only that is not what ``lora`` writes, and diffusers does not read it: it comes in again as the
    same adapter.
    """
    lora = load_file(world.export("<rex>", out=tmp_path / "a").folder / "rex.safetensors")
    file = world.export("<rex>", format="kohya", out=tmp_path / "b").folder / "rex.safetensors"
    kohya, own = load_file(file), not world.backbone().family.kohya_names
    assert all(key.startswith("lora_unet_") for key in kohya)
    assert (kohya.keys() == lora.keys() and all(torch.equal(kohya[key], lora[key]) for key in lora)) == own
    back = another(world, tmp_path / "world")
    back.import_file(file, token="<max>", noun="dog", trigger="lamp dog", **FEW)
    again = load_file(back.export("<max>", out=tmp_path / "c").folder / "max.safetensors")
    assert again.keys() == lora.keys() and all(torch.equal(again[key], lora[key]) for key in lora)


@pytest.mark.slow
def test_the_format_kohya_is_refused_where_its_scripts_have_no_names(tmp_path):
    world = taught("pixart", tmp_path, "<rex>")
    with pytest.raises(SettingsError, match="no names for PixArt-α's layers; use --format lora or diffusers"):
        world.export("<rex>", format="kohya", out=tmp_path / "out")


def test_the_trigger_prompt_works_where_the_embedding_is_loaded(sd, tmp_path):
    out = sd.export("<rex>", out=tmp_path / "out")
    assert out.triggers == {"<rex>": "a photo of <rex> dog"} and out.loses.startswith("its gates")
    pipe = DiffusionPipeline.from_pretrained(sd.manifest.base, torch_dtype=torch.float32)
    pipe.load_textual_inversion(out.folder / "rex-embedding.safetensors")
    pipe.set_progress_bar_config(disable=True)
    theirs = draw_stock(sd, out.triggers["<rex>"], out.folder / "rex.safetensors", pipe)
    assert np.array_equal(theirs, ungated(sd, out.triggers["<rex>"], "<rex>"))


@pytest.mark.slow
def test_both_encoders_of_sdxl_read_the_embedding_as_the_page_says(tmp_path):
    world = known("sdxl")
    out = world.export("<rex>", out=tmp_path / "out").folder
    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    vectors = load_file(out / "rex-embedding.safetensors")
    first = {"text_encoder": pipe.text_encoder, "tokenizer": pipe.tokenizer}
    second = {"text_encoder": pipe.text_encoder_2, "tokenizer": pipe.tokenizer_2}
    pipe.load_textual_inversion(vectors["clip_l"], token="<rex>", **first)
    pipe.load_textual_inversion(vectors["clip_g"], token="<rex>", **second)
    theirs = draw_stock(world, "a photo of <rex> dog", out / "rex.safetensors", pipe)
    assert np.array_equal(theirs, ungated(world, "a photo of <rex> dog", "<rex>"))


def test_a_files_header_names_the_base_as_trainers_do_or_not_at_all(world, tmp_path):
    out = world.export("<rex>", out=tmp_path / "out").folder
    with safe_open(out / "rex.safetensors", "pt") as file:
        told = file.metadata()
    assert told["l2dm.base"] == world.manifest.fingerprint
    assert ("ss_base_model_version" in told) == ("modelspec.architecture" in told)
    assert told.get("modelspec.architecture", "x/lora").partition("/")[0], "no empty name"


@pytest.mark.parametrize(
    "width, kind, told",
    [
        (768, "epsilon", "sd_v1"),
        (1024, "epsilon", "sd_v2"),
        (1024, "v_prediction", "sd_v2_v"),
        (512, "epsilon", ""),
    ],
)
def test_generations_of_stable_diffusion_are_told_apart(width, kind, told):
    parts = {"text_encoder": {"hidden_size": width}, "scheduler": {"prediction_type": kind}}
    family = known("sd").backbone().family
    assert family.base_version_of(SimpleNamespace(settings_of=parts.get))[0] == told


def test_the_sidecar_tells_where_it_comes_from(sd, tmp_path):
    out = sd.export("<rex>", out=tmp_path / "out", strength=0.75)
    told = json.loads((out.folder / "export.json").read_text())
    (concept,) = told["concepts"]
    assert (concept["token"], concept["noun"], concept["prompt"]) == ("<rex>", "dog", "a photo of <rex> dog")
    assert told["base"]["sha256"] == sd.manifest.fingerprint and told["strength"] == 0.75
    assert set(told["files"]) == {"rex.safetensors", "rex-embedding.safetensors", "rex.png"}
    assert sorted([*told["files"], "export.json"]) == out.files and str(tmp_path) not in json.dumps(told)
    vectors = load_file(out.folder / "rex-embedding.safetensors")["<rex>"]
    assert torch.equal(vectors.flatten(), sd._files.tensors("tokens.safetensors")["<rex>"])
    assert "vectors are whole" in told["strength of"]


def test_a_dtype_is_what_was_asked_for(sd, tmp_path):
    for dtype in ("float32", "bfloat16"):
        out = sd.export("<rex>", out=tmp_path / dtype, dtype=dtype).folder
        kinds = {t.dtype for t in load_file(out / "rex.safetensors").values() if t.dim()}
        assert kinds == {getattr(torch, dtype)}


@pytest.mark.slow
def test_uneven_ranks_are_made_even_since_diffusers_mixes_their_alphas_up(sd, tmp_path):
    adapter = {
        layer: one._replace(down=one.down[:1], up=one.up[:, :1], alpha=1.0)
        if i % 2
        else one.padded(3)._replace(alpha=3.0)
        for i, (layer, one) in enumerate(sd.tuner.low_rank(["<rex>"]).items())
    }
    denoiser = Layers(sd.backbone().denoiser, "unet", "kohya")
    tensors, config = diffusers_file(adapter, denoiser)
    save_file(lora_file(adapter, denoiser), tmp_path / "kohya.safetensors")
    told = {name: json.dumps(value) for name, value in config.items()}
    save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "peft.safetensors", told)
    ours, theirs = (
        draw_stock(sd, PLAIN, tmp_path / f"{kind}.safetensors").astype(int) for kind in ("kohya", "peft")
    )
    assert abs(ours - theirs).max() <= 1 and not np.array_equal(ours, draw_stock(sd, PLAIN))


def test_a_token_of_several_vectors_is_learnt_kept_and_exported(tmp_path):
    """Drawn by stock diffusers from its embedding alone as by the world, and taken up again after a stop as
    any lesson is.
    """
    world = taught("sd", tmp_path, "<rex>", method="textual-inversion", vectors=3)
    vectors = world._files.tensors("tokens.safetensors")["<rex>"]
    assert vectors.shape == (3, 16) and not torch.equal(vectors[0], vectors[1])
    out = world.export("<rex>", format="embedding", out=tmp_path / "out").folder
    assert torch.equal(load_file(out / "rex-embedding.safetensors")["<rex>"], vectors)
    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(out / "rex-embedding.safetensors")
    prompt = "a photo of <rex> dog"
    theirs = draw_stock(world, prompt, pipe=pipe)
    assert np.array_equal(drawn(World.open(world.path), prompt), theirs)
    photos = tmp_path / "photos"
    (photos / "0.txt").write_text("grass " * 72 + "<tom> cat")
    with pytest.raises(PhotoError, match="names <tom> at number 76"):
        world.learn(photos, token="<tom>", noun="cat", **LESSON, method="textual-inversion", vectors=3)


def test_the_command_line_exports_and_says_what_is_lost(sd, tmp_path):
    world = copied(sd, tmp_path / "world")
    code, said = say(["export", str(world.path), "<rex>", "--out", str(tmp_path / "out"), "--json"])
    assert code == 0 and json.loads(said)["loses"].startswith("its gates"), said
    code, said = call(["export", str(world.path), "<max>"])
    assert code == 2 and len(said.splitlines()) == 1, said
