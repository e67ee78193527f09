"""The speed benchmark's arithmetic, and that the plain loop trains what Custom Diffusion trains."""

from __future__ import annotations

import pytest
import torch
from conftest import paint

from benchmarks.plain import Plain
from benchmarks.speed import ratio, rounds_of
from l2dm.backbone import Backbone


def test_rounds_are_interleaved_turn_round_and_warm_up():
    said = []
    found = rounds_of({name: lambda name=name: said.append(name) or len(said) for name in "ab"}, 2)
    assert said == ["a", "b", "b", "a", "a", "b"] or said == ["b", "a", "a", "b", "b", "a"]
    assert all(len(values) == 2 for values in found.values()) and min(map(min, found.values())) > 2, (
        "the first round is not counted"
    )
    assert ratio({"a": [2.0, 9.0, 4.0], "b": [1.0, 1.0, 1.0]}, "a", "b") == 4.0


@pytest.mark.parametrize("forwards", [1, 2])
def test_the_plain_loop_trains_keys_values_and_the_token_alone(tmp_path, forwards):
    for name in ("photos", "others"):
        (tmp_path / name).mkdir()
        paint().save(tmp_path / name / "a.png")
    backbone = Backbone.load()
    before = {name: p.detach().clone() for name, p in backbone.unet.named_parameters()}
    running = Plain(
        backbone, tmp_path / "photos", tmp_path / "others", "<rex>", "dog", 1, 1e-3, forwards
    ).run()
    vector = backbone.tokens.vectors[0].detach().clone()
    next(running)
    moved = {name for name, p in backbone.unet.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name in before if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}
    assert not torch.equal(vector, backbone.tokens.vectors[0])
