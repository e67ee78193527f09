"""The base's training loop: a run that was taken up is the run that was never stopped, and one bad step harms nothing."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import numpy as np
import torch

from mini_base import autoencoder, decoder, unet
from mini_base.corpus import Icon
from mini_base.training import Training


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
        assert torch.equal(weight, parts.named[name]) and torch.equal(
            whole.average[name], parts.average[name]
        )
    assert parts.pictures == whole.pictures == 8
    assert [path.name for path in (tmp_path / "parts").glob("*.safetensors")] == ["state-4.safetensors"]


def test_gradients_that_are_not_finite_are_left_out(tmp_path, capsys):
    run = trained(tmp_path, 2)
    before = {name: weight.detach().clone() for name, weight in run.named.items()}
    run.update(run.module(torch.tensor([[1.0, float("nan"), 1.0]])).sum(), 1)
    assert all(torch.equal(weight, before[name]) for name, weight in run.named.items()) and run.step == 3
    assert "not finite" in capsys.readouterr().out


class Untouched:
    """In place of the denoiser: what it draws is a shade darker, and it remembers what it was asked."""

    def __init__(self, vae):
        self.vae, self.unet, self.asked = vae, torch.nn.Linear(1, 1), []

    def __call__(self, captions, image, **options):
        self.asked.append((captions, options["strength"]))
        return SimpleNamespace(images=image - 0.5)


def test_the_decoder_learns_from_drawn_latents_and_the_pictures_meant():
    icons = [Icon("dog", "noto", "dog", np.full((8, 8, 4), 200, np.uint8)), Icon("cat", "noto", "cat", np.full((8, 8, 4), 90, np.uint8)),
             Icon("car", "noto", "car", np.full((8, 8, 4), 9, np.uint8))]  # fmt: skip
    torch.manual_seed(0)
    model = autoencoder.build().eval()
    model.register_to_config(scaling_factor=0.5)
    pipe = Untouched(model)
    latents, pixels = decoder.Pools(icons, icons, pipe, seed=0).make(20)
    own = model.encode(pixels).latents
    assert latents.shape == (20, 4, 16, 16) and pixels.shape == (20, 3, 64, 64) and pixels.abs().max() <= 1
    drawn = [*range(6), *range(9, 13)]
    assert all(
        torch.allclose(latents[i], own[i] - 1.0 if i in drawn else own[i], atol=1e-5) for i in range(20)
    )
    (known, strong), (free, weak) = pipe.asked
    assert (len(known), len(free)) == (6, 4)
    assert (
        int(strong * unet.DRAWING["steps"]) in decoder.KNOWN_LAST
        and int(weak * unet.DRAWING["steps"]) in decoder.ANY_LAST
    )


def test_the_decoder_learns_and_the_latents_stay(tmp_path, monkeypatch):
    torch.manual_seed(0)
    before = autoencoder.build()
    monkeypatch.setattr(decoder, "STEPS", 4)
    monkeypatch.setattr(decoder, "load_things", lambda work, styles: [])
    monkeypatch.setattr(decoder, "Composer", lambda icons, **options: None)
    monkeypatch.setattr(
        decoder.Pools, "make", lambda self: (torch.randn(8, 4, 16, 16), torch.zeros(8, 3, 64, 64))
    )
    monkeypatch.setattr(decoder.unet, "finished", lambda work: SimpleNamespace(text=None, unet=None))
    monkeypatch.setattr(decoder.unet, "latent_scale", lambda icons, vae: 0.5)
    monkeypatch.setattr(decoder.clip, "load_tokenizer", lambda work: None)
    monkeypatch.setattr(
        decoder,
        "StableDiffusionImg2ImgPipeline",
        lambda **parts: SimpleNamespace(set_progress_bar_config=lambda **o: None),
    )
    monkeypatch.setattr(decoder.autoencoder, "train", lambda icons, folder: copy.deepcopy(before))
    after = decoder.train([], tmp_path).state_dict()
    assert {
        name.split(".")[0]
        for name, weight in before.state_dict().items()
        if not torch.equal(weight, after[name])
    } == {"decoder"}
