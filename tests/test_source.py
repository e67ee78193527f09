"""Which files of a base are loaded, what identifies them, and what is refused before anything is."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from test_backbone import tiny_base

from l2dm import World
from l2dm.backbone import Backbone, find_base
from l2dm.backbone.fingerprint import cache_file, fingerprint, matches, old_fingerprint
from l2dm.errors import BaseModelError, SettingsError

UNET = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(tmp_path, backbone, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    torch.manual_seed(0)
    return tiny_base(tmp_path / "base", backbone)


def changed(path, **values):
    """A JSON file with other values."""
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_is_not_loaded_does_not_change_a_fingerprint(base):
    before = fingerprint(find_base(base))
    (base / "safety_checker").mkdir()
    (base / "safety_checker" / "model.safetensors").write_bytes(b"x")
    (base / "other.safetensors").write_bytes(b"x")
    shutil.copy(base / UNET, base / UNET.replace(".safetensors", ".fp16.safetensors"))
    changed(base / "unet/config.json", _diffusers_version="9.9")
    assert fingerprint(find_base(base)) == before and matches(find_base(base), before)


def test_whatever_is_loaded_changes_a_fingerprint(base):
    seen = {fingerprint(find_base(base))}
    changed(base / "scheduler/scheduler_config.json", prediction_type="v_prediction")
    seen.add(fingerprint(find_base(base)))
    content = bytearray((base / UNET).read_bytes())
    content[len(content) // 2] ^= 1
    (base / UNET).write_bytes(bytes(content))
    seen.add(fingerprint(find_base(base)))
    with (base / "tokenizer/tokenizer_config.json").open("a") as file:
        file.write(" ")
    seen.add(fingerprint(find_base(base)))
    assert len(seen) == 4


def test_a_network_swapped_behind_a_link_is_seen(base, tmp_path):
    shutil.move(base / "unet", tmp_path / "elsewhere")
    (base / "unet").symlink_to(tmp_path / "elsewhere")
    before = fingerprint(find_base(base))
    weights = tmp_path / "elsewhere" / UNET.split("/")[1]
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    assert fingerprint(find_base(base)) != before


def test_hashes_are_kept_for_large_files_that_stay_as_they_are(base, monkeypatch):
    monkeypatch.setattr("l2dm.backbone.fingerprint._SMALL", 1)
    monkeypatch.setattr("l2dm.backbone.fingerprint._TOO_NEW", -1)
    before = fingerprint(find_base(base))
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", lambda *a: pytest.fail("it was read again"))
        assert fingerprint(find_base(base)) == before
    facts = (base / UNET).stat()
    damaged = bytearray((base / UNET).read_bytes())
    damaged[-1] ^= 1
    (base / UNET).write_bytes(damaged)
    assert fingerprint(find_base(base)) != before, "its time of change is another"
    os.utime(base / UNET, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    cache_file().write_text("not JSON")
    assert fingerprint(find_base(base)) != before, "a broken cache is none"


@pytest.mark.parametrize(
    ("width", "name"),
    [
        (768, "openai/clip-vit-large-patch14"),
        (1024, "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"),
        (640, ""),
    ],
)
def test_the_clip_pair_that_a_stable_diffusion_was_trained_with_is_its_default(base, width, name):
    changed(base / "text_encoder/config.json", hidden_size=width)
    source = find_base(base)
    assert source.family.clip_of(source) == name


def test_worlds_made_before_are_checked_in_their_own_way(base):
    source = find_base(base)
    assert matches(source, old_fingerprint(base)) and not matches(source, "0" * 32)


def test_a_folder_of_fp16_weights_alone_loads_and_says_so(base):
    for file in base.glob("*/*.safetensors"):
        file.rename(file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    loaded = Backbone.load(base)
    assert loaded.dtype is torch.float32
    assert any("plain weights not there; read: unet fp16" in note for note in loaded.notes)


def test_a_variant_that_is_not_there_is_said(base):
    notes = Backbone.load(find_base(base, variant="ema")).notes
    assert any("variant ema not there; read: unet plain" in note for note in notes)
    assert not Backbone.load(base).notes


@pytest.mark.parametrize("size, side", [(None, 128), ([8, 8], 16)])
def test_a_denoiser_that_tells_its_size_otherwise(base, size, side):
    changed(base / "unet/config.json", sample_size=size)
    loaded = Backbone.load(base)
    assert loaded.side == side and any("sample_size" in note for note in loaded.notes)


def test_a_tokenizer_that_does_not_say_how_long(base):
    config = base / "tokenizer/tokenizer_config.json"
    config.write_text(
        json.dumps({k: v for k, v in json.loads(config.read_text()).items() if k != "model_max_length"})
    )
    assert Backbone.load(base).longest_prompt == 30


@pytest.mark.parametrize(
    "file, values, said",
    [
        ("unet/config.json", {"in_channels": 9}, "its denoiser takes 9 channels, as inpainting models have"),
        ("unet/config.json", {"cross_attention_dim": 24}, "they are of different models"),
        ("unet/config.json", {"addition_embed_type": "text_time"}, "asks for more than text"),
        (
            "model_index.json",
            {"scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"]},
            "flow matching",
        ),
        ("model_index.json", {"scheduler": ["diffusers", "NoSuchScheduler"]}, "none of diffusers'"),
        ("model_index.json", {"text_encoder_2": ["transformers", "CLIPTextModel"]}, "names a text_encoder_2"),
        ("model_index.json", {"unet": None}, "names no unet"),
    ],
)
def test_what_is_refused_from_configurations_alone(base, file, values, said):
    changed(base / file, **values)
    with pytest.raises(BaseModelError, match=said):
        Backbone.load(base)


@pytest.mark.parametrize(
    "kind, library", [("LMSDiscreteScheduler", "scipy"), ("DPMSolverSDEScheduler", "torchsde")]
)
def test_a_sampler_whose_library_is_missing_is_refused_at_init(base, tmp_path, kind, library):
    if importlib.util.find_spec(library):
        pytest.skip(f"{library} is here")
    changed(base / "model_index.json", scheduler=["diffusers", kind])
    with pytest.raises(BaseModelError, match=f"needs {library}: pip install {library}, or put another"):
        World.create(tmp_path / "w", base, clip="none")
    assert not (tmp_path / "w").exists()


def test_pndm_with_runge_kutta_steps_is_told_at_init_and_draws_a_collage(base, tmp_path):
    changed(base / "scheduler/scheduler_config.json", skip_prk_steps=False)
    world = World.create(tmp_path / "w", base, clip="none")
    assert any("without its Runge-Kutta steps" in note for note in world.backbone().notes)
    drawn = world.generate("a dog and a cat", n=1, steps=4, composition="collage", subjects="dog,cat")
    assert drawn[0].provenance["composition"].startswith("collage"), drawn[0].provenance


@pytest.mark.parametrize("kind", ["StableDiffusionImg2ImgPipeline", "CommunityPipeline"])
def test_other_pipelines_of_the_same_parts_are_read(base, kind):
    changed(base / "model_index.json", _class_name=kind)
    assert find_base(base).folder == base


def test_a_pickle_is_refused_and_weights_that_are_missing_are_named(base, tmp_path):
    (tmp_path / "model.ckpt").write_bytes(b"x")
    with pytest.raises(BaseModelError, match="pickle"):
        find_base(tmp_path / "model.ckpt")
    weights = load_file(base / UNET)
    (base / UNET).unlink()
    with pytest.raises(BaseModelError, match="holds no weights"):
        Backbone.load(base)
    del weights["conv_in.weight"]
    save_file(weights, base / UNET)
    with pytest.raises(BaseModelError, match=r"lacks 1 of the weights .* conv_in.weight"):
        Backbone.load(base)


@pytest.mark.parametrize(
    "text, said",
    [
        ('{"learn": {"stepz": 3}}', "learn: unknown setting 'stepz'; did you mean 'steps'"),
        ('{"generate": {"n": "x"}}', "generate: n = 'x': expected int"),
        ('{"tuners": {"gated_lora": {"stepz": 3}}}', "tuners.gated_lora: unknown setting 'stepz'"),
        ('{"tuners": {"gated_lorra": {}}}', "tuners: unknown tuner 'gated_lorra'; known: .*gated_lora"),
        ('{"learn": {"tracker_folder": "~"}}', "tracker_folder is for the user alone to say"),
        ('{"tuners": {"gated_lora": {"masks": "/tmp"}}}', "masks is for the user alone to say"),
        ('{"nouns": ["dog", 1]}', "'nouns' must be a list of words"),
    ],
)
def test_an_unknown_key_inside_l2dm_json_is_named(base, text, said):
    (base / "l2dm.json").write_text(text)
    with pytest.raises(SettingsError, match=r"l2dm\.json: " + said):
        Backbone.own_defaults(base)


@pytest.mark.parametrize("text", ["[]", "{", '{"lern": {}}', '{"learn": 3}', '{"nouns": {}}'])
def test_a_broken_l2dm_json_is_named(base, text):
    (base / "l2dm.json").write_text(text)
    with pytest.raises((BaseModelError, SettingsError), match=r"l2dm\.json"):
        Backbone.own_defaults(base)
