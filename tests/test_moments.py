"""Moments of the optimizer: of any kind, kept and taken up to the same bits."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from learning import begin

from l2dm.errors import SettingsError


class Eight(torch.optim.SGD):
    """Keeps what bitsandbytes' optimizers keep: moments in bytes, their scales, a plain number of steps."""

    def step(self, closure=None):
        super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                state = self.state[p]
                state["step"] = state.get("step", 0) + 1
                state["state1"] = torch.full(p.shape, state["step"], dtype=torch.uint8)
                state["absmax1"] = torch.ones(1)


def test_moments_of_any_kind_are_kept_and_taken_up(photos):
    first, second = (begin(photos, "gated-lora", steps=2) for _ in range(2))
    for learning in (first, second):
        learning.engine.optimizer = learning.optimizer = Eight(learning.named.values(), lr=0.01)
    steps = first.run()
    next(steps)
    second.load_state(first.state(), first.done)
    for name, p in second.named.items():
        state = second.optimizer.state[p]
        assert state["step"] == 1 and type(state["step"]) is int, name
        assert state["state1"].dtype == torch.uint8 and state["state1"].shape == p.shape
    list(second.run())
    assert {state["step"] for state in second.optimizer.state.values()} == {2}


def test_moments_of_eight_bits_need_bitsandbytes(photos, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match="optimizer = adamw-8bit: needs bitsandbytes: pip install"):
        begin(photos, "gated-lora", optimizer="adamw-8bit")


def test_moments_of_eight_bits_go_on_to_the_same_bits(photos):
    pytest.importorskip("bitsandbytes")
    whole, first, second = (
        begin(photos, "gated-lora", steps=2, rank=64, optimizer="adamw-8bit") for _ in range(3)
    )
    list(whole.run())
    next(first.run())
    assert any(tensor.dtype == torch.uint8 for tensor in first.state().values())
    second.load_state(first.state(), 1)
    list(second.run())
    wanted, found = whole.state(), second.state()
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)
