"""The base's training loop: a run that was taken up is the run that was never stopped, and one bad step harms nothing."""

from __future__ import annotations

import numpy as np
import torch

from base import autoencoder
from base.corpus import Icon
from base.training import Training


def trained(folder, steps: int) -> Training:
    """Up to step ``steps`` of four, from whatever ``folder`` holds."""
    torch.manual_seed(0)
    run = Training(folder, torch.nn.Linear(3, 1), lr=0.1, total=4, warmup=2)
    while run.step < steps:
        run.update(run.module(torch.full((2, 3), 1.0 + run.step)).square().mean(), 2)
    run.save()
    return run


def test_taken_up_is_never_stopped(tmp_path):
    whole = trained(tmp_path / "whole", 4)
    trained(tmp_path / "parts", 2)
    parts = trained(tmp_path / "parts", 4)
    for name, weight in whole.named.items():
        assert torch.equal(weight, parts.named[name]) and torch.equal(whole.average[name], parts.average[name])
    assert parts.pictures == whole.pictures == 8
    assert [path.name for path in (tmp_path / "parts").glob("*.safetensors")] == ["state-4.safetensors"]


def test_gradients_that_are_not_finite_are_left_out(tmp_path, capsys):
    run = trained(tmp_path, 2)
    before = {name: weight.detach().clone() for name, weight in run.named.items()}
    run.update(run.module(torch.tensor([[1.0, float("nan"), 1.0]])).sum(), 1)
    assert all(torch.equal(weight, before[name]) for name, weight in run.named.items()) and run.step == 3
    assert "not finite" in capsys.readouterr().out


def test_sharpening_leaves_the_latents_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(autoencoder, "DECODER_STEPS", 4)
    monkeypatch.setattr(autoencoder, "pictures", lambda composer, rng: list(rng.integers(0, 255, (8, 16, 16, 3), dtype=np.uint8)))
    torch.manual_seed(0)
    model = autoencoder.build()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    after = autoencoder.sharpen(model, [Icon("dog", "noto", "dog", np.zeros((8, 8, 4), np.uint8))], tmp_path).state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"decoder"}
