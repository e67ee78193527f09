"""MuDI's begun noise, and a collage whose second half is confined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from learning import learn
from PIL import Image

from l2dm.generation import AttentionRecorder, draw, laid_out, mentions, provenance, resolve_composition
from l2dm.generation import mean_shifted as mean_shifted_file
from l2dm.generation.alone import Places, shared
from l2dm.guidance.mean_shifted_noise import cut_out, mean_shifted
from l2dm.guidance.otsu import otsu
from l2dm.settings import GenerateSettings

BOTH, CONCEPTS = "<rex> dog and <tom> cat in the snow", {"<rex>": "dog", "<tom>": "cat"}


def test_a_thing_is_cut_out_by_its_map():
    maps = torch.full((2, 4, 4), 0.1)
    maps[0, :2], maps[1, :, 3] = 0.9, 0.8
    assert otsu(maps[:, None])[:, 0].sum((1, 2)).tolist() == [8, 4]
    first, second = (np.asarray(one) > 127 for one in cut_out(maps, 16))
    assert first[:8].all() and not first[8:].any() and second[:, 12:].all() and not second[:, :11].any()


def test_noise_is_shifted_where_things_are_and_nowhere_else():
    noise, latents, inside = torch.randn(2, 4, 8, 8), torch.randn(2, 4, 8, 8), torch.zeros(2, 1, 8, 8)
    inside[0, :, :4], inside[1, :, :, 5:] = 1, 1
    found = mean_shifted(noise, latents, inside, gamma=0.25)
    for row in range(2):
        for c, y, x in np.ndindex(4, 8, 8):
            wanted = noise[row, c, y, x] + 0.25 * latents[row, c, y, x] * inside[row, 0, y, x]
            assert found[row, c, y, x] == pytest.approx(wanted.item(), abs=1e-6)


def test_things_are_cut_out_in_their_own_places(backbone):
    things = laid_out(
        mentions("a dog and a cat", {}, backbone, ("dog", "cat")), "dog: left, cat: right", "a dog and a cat"
    )
    whole = [[Image.new("RGB", (64, 64), tone)] * 2 for tone in ("white", "black")]
    white, own = Places.of(things).together(whole, {"height": 64, "width": 64})
    inside = shared((white[..., 0] > 127) & own, (8, 8)) > 0.5
    assert inside.shape == (2, 1, 8, 8) and inside[..., 1:7, :4].all() and not inside[..., 4:].any()


@pytest.fixture
def taught(photos):
    return learn(photos, "gated-lora", "<rex>", "<tom>", steps=2).backbone


def drawn(backbone, prompt: str = BOTH, recorder: AttentionRecorder | None = None, **changes) -> np.ndarray:
    settings = GenerateSettings(**{"steps": 3, "n": 3, "batch": 2, "composition": "mudi", **changes})
    return np.stack(
        draw(backbone, prompt, settings, mentions=mentions(prompt, CONCEPTS, backbone), recorder=recorder)
    )


@pytest.mark.parametrize("sampler", ["base", "dpm-solver"])
def test_pictures_begin_from_it_and_are_each_their_own(taught, sampler, monkeypatch):
    together = drawn(taught, sampler=sampler)
    recorder = AttentionRecorder((0,))
    assert (
        np.array_equal(together, drawn(taught, sampler=sampler, recorder=recorder))
        and len(recorder.pictures) == 3
    )
    alone = drawn(taught, sampler=sampler, batch=1)
    assert np.abs(together.astype(int) - alone).max() <= 8, "up to rounding, which sampling enlarges"
    assert not np.array_equal(together, drawn(taught, sampler=sampler, composition="none"))
    monkeypatch.setattr(mean_shifted_file, "mean_shifted", lambda noise, *_: noise)
    if sampler == "dpm-solver":  # takes no noise of its own
        assert np.array_equal(
            drawn(taught, sampler=sampler), drawn(taught, sampler=sampler, composition="none")
        )
    one = "a photo of <rex> dog"
    assert np.array_equal(drawn(taught, one), drawn(taught, one, composition="none"))


def test_the_second_half_of_a_collage_is_confined_and_held_to_nothing(taught, monkeypatch):
    read, held = [], drawn(taught, composition="collage", steps=4)
    hook = taught.denoiser.register_forward_hook(lambda *_: read.append(taught.conditioning.regions))
    free = drawn(taught, composition="collage", steps=4, confine=True, n=1)
    hook.remove()
    assert not np.array_equal(held[:1], free)
    assert [regions is not None for regions in read] == [False] * 4 + [True] * 2, "2 + 2 alone, 2 together"
    assert read[-1].shape[0] == 2, "guided as ever"
    things = mentions(BOTH, CONCEPTS, taught)
    for confine in (False, True):
        settings = GenerateSettings(composition="collage", confine=confine)
        told = provenance(taught, BOTH, things, resolve_composition("collage", things), settings)
        assert ("confined" in told["composition"]) == confine
