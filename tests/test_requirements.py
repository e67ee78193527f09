"""What a base is and needs, told without its weights."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from families import ROWS
from families.folders import tiny_folder
from tiny import mini

from l2dm import GenerateSettings, LearnSettings, cli
from l2dm.backbone import Backbone, find_base
from l2dm.backbone.families import FAMILIES
from l2dm.backbone.requirements import held_bytes
from l2dm.world import requirements as module
from l2dm.world.requirements import Requirements, requirements, said

LEARN, DRAW = LearnSettings(batch=1, mixes=0, rank=4), GenerateSettings(n=1)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for family in FAMILIES:
        if hasattr(family, "cells"):
            monkeypatch.setattr(type(family), "cells", 8)


def test_bytes_are_those_held_at_once():
    def work():
        kept = torch.empty(100, device="meta")
        for _ in range(3):
            torch.empty(1000, device="meta") + 1  # two of them at once, then gone
        return kept.view(10, 10)  # no memory of its own

    assert held_bytes(work) == 4 * (100 + 2 * 1000)


def test_what_a_backward_needs_is_held_and_attention_is_fused():
    def attend(grad):
        q, k, v = (torch.empty(1, 1, 64, 8, device="meta", requires_grad=grad) for _ in range(3))
        return lambda: torch.nn.functional.scaled_dot_product_attention(q * 1, k * 1, v * 1).sum()

    assert held_bytes(attend(True)) == 4 * (4 * 64 * 8 + 1), "no 64 x 64 probabilities"


@pytest.mark.parametrize("name", ROWS)
def test_every_family_is_told_without_a_weight(tmp_path, name, monkeypatch):
    source = find_base(tiny_folder(name, tmp_path))
    backbone = Backbone.load(source, precision="float32")
    for file in source.weight_paths:
        if file.suffix == ".safetensors":
            file.write_bytes(b"")
    monkeypatch.setattr(module, "free_bytes", lambda device: 0)
    found = requirements(source, LEARN, DRAW, "float32")
    assert found.family == backbone.family.name and found.notes == backbone.notes
    assert found.parameters == {
        part: sum(p.numel() for p in backbone.parts[part].parameters()) for part in backbone.family.networks
    }
    assert found.defaults == backbone.defaults and "Untuned" in found.defaults_from
    assert found.weights == 4 * sum(found.parameters.values())
    assert found.weights < found.learn_checkpointing <= found.learn
    words = {"gated-kv", "gated-kv-without-mixes"} if name == "z_image" else set()
    blocks = set() if name in ("sd", "sdxl", "pixart", "sana") else {"structure", "l2dm-directions"}
    itself = {"self-cross"} if name == "sana" else set()
    assert set(found.refused) == words | blocks | itself


def test_half_precision_halves_weights_and_rows_count(monkeypatch):
    monkeypatch.setattr(module, "free_bytes", lambda device: None if device.type == "cuda" else 1 << 40)
    source = find_base(mini())
    found = requirements(source, LEARN, DRAW, "float32")
    assert found.learn_checkpointing is None, "there is room"
    half = requirements(source, LEARN, DRAW, "bfloat16")
    assert half.weights == found.weights / 2 and half.trained == found.trained
    more = requirements(source, LearnSettings(batch=64, mixes=0, rank=4), DRAW, "float32")
    assert more.learn > found.learn and more.draw == found.draw


def test_it_is_said_on_the_command_line(monkeypatch, capsys):
    def run_cli(*arguments):
        monkeypatch.setattr(sys, "argv", ["l2dm", *arguments])
        cli.main()
        return capsys.readouterr().out

    found = json.loads(run_cli("check", "--base", mini(), "--precision", "bf16", "--json"))
    assert found["family"] == "Stable Diffusion 1.x/2.x" and found["precision"] == "bfloat16"
    assert found["refused"] == {} and "gated-lora" in found["methods"] and "collage" in found["compositions"]
    known = Requirements(**{name: value for name, value in found.items() if name != "base"})
    text = said(
        dataclasses.replace(
            known, learn=3 << 29, learn_checkpointing=1 << 30, refused={"structure": "of this"}
        )
    )
    assert (
        "held in bfloat16 on cpu" in text
        and "learning at its 32 px takes about 1.5 GiB, of 8 rows a step" in text
    )
    taught = dataclasses.replace(
        known, defaults={"learn": {"steps": 7, "batch": 1}}, defaults_from="a script"
    )
    assert said(taught).endswith(
        "defaults of learn: steps = 7, batch = 1\nwhat its family's defaults are from: a script"
    )
    assert (
        "more than are free; with gradient_checkpointing = true 1.0 GiB" in text
        and "no structure: of this" in text
    )
    with pytest.raises(SystemExit):
        run_cli("check")
    assert "nothing to look at; give a folder of photos, or --base" in capsys.readouterr().err
