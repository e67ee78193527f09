"""Broken and hostile files to import: one clear line each, and nothing is changed."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from travel import made, taught

from benchmarks.malformed import call, state
from l2dm import World

STEM = "lora_unet_down_blocks_1_attentions_0_transformer_blocks_0_attn2_to_k"
DOWN, UP, ALPHA = f"{STEM}.lora_down.weight", f"{STEM}.lora_up.weight", f"{STEM}.alpha"
GOOD = {DOWN: torch.ones(2, 16), UP: torch.ones(16, 2), ALPHA: torch.tensor(2.0)}


def header(told: dict, size: int = 64) -> bytes:
    text = json.dumps(told).encode()
    return len(text).to_bytes(8, "little") + text + b"\0" * size


def without(key: str) -> bytes:
    return save({name: t for name, t in GOOD.items() if name != key})


TI = "<x>"
HUGE = torch.full((16, 2), 1e38)
#: What is in the file -> what is said of it.
FILES = {
    "empty": (b"", "cut off"),
    "short": (save(GOOD)[:-40], "not a readable safetensors file"),
    "header-cut": (save(GOOD)[:20], "cut off"),
    "header-of-1-gb": ((1 << 30).to_bytes(8, "little") + b"{}", "cut off"),
    "header-of-17-mb": ((17 << 20).to_bytes(8, "little") + b" " * (17 << 20), "at most"),
    "no-json": (header([])[:8] + b"x" * 80, "safetensors file"),
    "offsets": (
        header({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 999]}}),
        "not a readable safetensors file",
    ),
    "overlap": (
        header({k: {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]} for k in "ab"}, 16),
        "not a readable",
    ),
    "pickle": (pickle.dumps({"a": 1}, protocol=4), "a pickle, which can run code"),
    "torch-zip": (b"PK\x03\x04" + b"\0" * 99, "a pickle, which can run code"),
    "text": (b"<!DOCTYPE html><html>not found</html>", "cut off"),
    "nothing": (save({}), "holds no tensors|cut off"),
    "nan": (save(GOOD | {UP: torch.full((16, 2), torch.nan)}), "not finite"),
    "too-large": (save(GOOD | {DOWN: HUGE.T.contiguous(), UP: HUGE}), "what is drawn is no longer finite"),
    "too-many-vectors": (
        save({"emb_params": torch.ones(9999, 16)}),
        "9,999 vectors, and a prompt of this base has room for",
    ),
    "infinite-alpha": (save(GOOD | {ALPHA: torch.tensor(torch.inf)}), "not finite"),
    "integers": (save(GOOD | {UP: torch.ones(16, 2, dtype=torch.int8)}), "is of int8"),
    "rank": (save(GOOD | {DOWN: torch.ones(3, 16)}), "its factors are"),
    "rank-0": (save(GOOD | {DOWN: torch.ones(0, 16), UP: torch.ones(16, 0)}), "its factors are"),
    "other-base": (save(GOOD | {DOWN: torch.ones(2, 768)}), "it is for another base, or broken"),
    "other-layers": (
        save(
            {
                f"lora_unet_input_blocks_99_1_proj_in.{end}": torch.ones(1, 1)
                for end in ("lora_down.weight", "lora_up.weight")
            }
        ),
        "this base has no such layer",
    ),
    "no-base-at-all": (save({"model.layers.0.weight": torch.ones(2)}), "not a key of a LoRA file"),
    "no-up": (without(UP), "its up is missing"),
    "no-down": (without(DOWN), "its down is missing"),
    "many-alphas": (save(GOOD | {ALPHA: torch.ones(2)}), "expected one"),
    "dora": (save(GOOD | {f"{STEM}.dora_scale": torch.ones(16, 1)}), "this is a DoRA"),
    "loha": (save({f"{STEM}.hada_w1_a": torch.ones(2, 2)}), "this is a LoHa"),
    "lokr": (save({f"{STEM}.lokr_w1": torch.ones(2, 2)}), "this is a LoKr"),
    "differences": (save({f"{STEM}.diff": torch.ones(16, 16)}), "whole differences"),
    "metadata": (
        save(
            {f"unet.{k}": t for k, t in {"conv_in.lora_A.weight": torch.ones(1, 4, 3, 3)}.items()},
            {"lora_adapter_metadata": "[" * 9999},
        ),
        "not as diffusers writes it",
    ),
    "embedding": (save({TI: torch.ones(1, 768)}), "expected \\(number, 16\\)"),
    "embedding-of-sdxl": (
        save({"clip_l": torch.ones(1, 16), "clip_g": torch.ones(1, 16)}),
        "2 embeddings in one file",
    ),
    "custom-diffusion": (
        save({"mid_block.attn2.processor.to_k_custom_diffusion.weight": torch.ones(2, 2)}),
        "no such keys or values",
    ),
    "text-encoder-alone": (
        save({f"lora_te_x.{end}": torch.ones(1, 1) for end in ("lora_down.weight", "lora_up.weight")}),
        "a text encoder's",
    ),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    return made("sd", tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("name", FILES)
def test_a_broken_file_is_told_in_one_line_and_nothing_is_changed(world, tmp_path, name):
    from l2dm.errors import L2DMError

    content, message = FILES[name]
    file, before = tmp_path / "file.safetensors", state(world.path)
    file.write_bytes(content)
    with pytest.raises(L2DMError, match=message) as told:
        world.import_file(file, token="<max>", noun="dog", report_pictures=0, prior_steps=2)
    assert "\n" not in str(told.value) and str(file) in str(told.value) and len(str(told.value)) < 700
    assert state(world.path) == before and world.version == 0


@pytest.mark.parametrize(
    "given, message",
    {
        "token": (["--token", "max", "--noun", "dog"], "did you mean '<max>'"),
        "noun": (["--token", "<max>", "--noun", "4"], "expected one to four words"),
        "missing": (["--token", "<max>", "--noun", "dog"], "no such file"),
    }.values(),
)
def test_the_command_line_tells_it_in_one_line(world, tmp_path, given, message):
    code, said = call(["import", str(world.path), str(tmp_path / "gone.safetensors"), *given])
    assert code == 2 and len(said.splitlines()) == 1 and message in said, said


def zips(whole: Path, place: Path):
    """Broken and hostile zips of a world, and what is said of each."""
    with zipfile.ZipFile(whole) as packed:
        files = {entry.filename: packed.read(entry) for entry in packed.infolist()}
    version = next(name for name in files if name.endswith("tokens.safetensors"))

    def written(name: str, changed: dict[str, bytes], kind: int = zipfile.ZIP_STORED) -> Path:
        with zipfile.ZipFile(place / f"{name}.zip", "w", kind) as packed:
            for inner, content in changed.items():
                packed.writestr(inner, content)
        return place / f"{name}.zip"

    flipped = bytearray(files[version])
    flipped[-1] ^= 1
    yield (
        written("flipped", files | {version: bytes(flipped)}),
        "its content is not what files.json records",
    )
    yield (
        written("fewer", {name: content for name, content in files.items() if name != version}),
        "is missing",
    )
    yield written("more", files | {"versions/0001/evil.safetensors": b""}), "is not in its manifest"
    yield written("outside", files | {"../evil": b""}), "is not as l2dm writes it"
    yield written("absolute", files | {"/tmp/evil": b""}), "is not as l2dm writes it"
    yield written("bomb", files, zipfile.ZIP_DEFLATED), "is not as l2dm writes it"
    yield written("no-manifest", {version: files[version]}), "it has no manifest"
    cut = place / "cut.zip"
    cut.write_bytes(whole.read_bytes()[:-100])
    yield cut, "no readable zip"


def test_a_broken_zip_of_a_world_is_told_and_makes_no_world(tmp_path):
    source = taught("sd", tmp_path, "<rex>")
    whole = source.export(format="world", out=tmp_path / "whole.zip").folder
    for file, message in zips(whole, tmp_path):
        code, said = call(["import", str(tmp_path / "new"), str(file)])
        assert code == 2 and len(said.splitlines()) == 1 and message in said, (file, said)
        assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".part-*"))
    assert load_file(source.export(out=tmp_path / "out").folder / "rex.safetensors")
    save_file(GOOD, tmp_path / "good.safetensors")
    source.import_file(
        tmp_path / "good.safetensors", token="<max>", noun="dog", report_pictures=0, prior_steps=2
    )
