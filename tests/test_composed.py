"""Compositions of one to five concepts: in batches, by every sampler, with negative prompts, with concepts
from elsewhere.
"""

from __future__ import annotations

import diffusers
import numpy as np
import pytest
import torch
from conftest import paint
from learning import NAMES, learn

from l2dm.backbone import Conditioning
from l2dm.generation import draw, mentions
from l2dm.settings import GenerateSettings

FIVE = {**NAMES, "<max>": "car", "<ivy>": "owl"}
SEVERAL = ("confined", "l2dm", "collage", "mudi", "self-cross", "oaa")  # what needs two things at least


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """The tiny base with five switched adapters that do something; tests leave it as it is."""
    photos = tmp_path_factory.mktemp("photos")
    for i in range(2):
        paint(i).save(photos / f"{i}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("learning.NAMES", FIVE)
        return learn(photos, "gated-lora", *FIVE, steps=1, mixes=0).backbone


def prompt_of(count: int) -> str:
    things = [f"{token} {noun}" for token, noun in list(FIVE.items())[:count]]
    return " and ".join(things) + " in the snow"


def drawn(backbone, prompt: str, **changes) -> np.ndarray:
    settings = GenerateSettings(
        **{
            "steps": 4,
            "n": 2,
            "batch": 2,
            "confine": True,
            "guidance_step": 1.0,
            "guidance_until": 1.0,
            **changes,
        }
    )
    return np.stack(draw(backbone, prompt, settings, mentions=mentions(prompt, FIVE, backbone))).astype(int)


@pytest.mark.parametrize("composition", SEVERAL)
def test_one_concept_is_drawn_as_without_composition_to_the_last_bit(taught, composition):
    for negative in ("", "a road"):
        given = {"composition": composition, "negative_prompt": negative}
        one = drawn(taught, prompt_of(1), **given)
        assert np.array_equal(one, drawn(taught, prompt_of(1), **given | {"composition": "none"}))


@pytest.mark.parametrize(
    "composition, count",
    [
        ("confined", 2),
        ("confined", 3),
        ("l2dm", 3),
        ("l2dm", 5),
        ("collage", 4),
        ("mudi", 3),
        ("self-cross", 4),
    ],
)
def test_each_picture_of_a_batch_is_its_own(taught, composition, count):
    prompt, given = prompt_of(count), {"composition": composition, "negative_prompt": "a road"}
    together = drawn(taught, prompt, **given)
    assert np.abs(together - drawn(taught, prompt, **given, **{"batch": 1})).max() <= 8, (
        "up to rounding, which is enlarged"
    )
    plain = drawn(taught, prompt, negative_prompt="a road", composition="none", n=1)
    assert not np.array_equal(together[:1], plain)
    assert not np.array_equal(together[:1], drawn(taught, prompt, composition=composition, n=1)), (
        "the negative counts"
    )


@pytest.mark.parametrize("count", [2, 3, 4, 5])
def test_every_concept_has_a_part_and_no_two_the_same(taught, count):
    read = []
    hook = taught.denoiser.register_forward_hook(lambda *_: read.append(taught.conditioning))
    drawn(taught, prompt_of(count), composition="confined", n=2, negative_prompt="a road")
    hook.remove()
    assert read[0].regions is None, "nothing is known of noise"
    last: Conditioning = read[-1]
    parts = last.regions[:, taught.tokens.places(list(FIVE)[:count])]
    assert len(parts) == 4 and torch.equal(parts.sum(1), torch.ones_like(parts[:, 0]))
    assert (parts.flatten(2).sum(-1) > 0).all() and torch.equal(parts[:2], parts[2:]), "in negatives too"
    idle = last.regions[:, taught.tokens.places(list(FIVE)[count:])]
    assert (idle == 1).all(), "concepts that are not named are confined nowhere, and are off"


SAMPLERS = {
    "DDIM": {"clip_sample": False},
    "DDPM": {"clip_sample": False},
    "EulerDiscrete": {},
    "EulerAncestralDiscrete": {},
    "HeunDiscrete": {},
    "PNDM": {"skip_prk_steps": True},
    "UniPCMultistep": {},
    "DPMSolverMultistep": {"algorithm_type": "sde-dpmsolver++"},
    "DPMSolverSinglestep": {},
    "KDPM2Discrete": {},
}


@pytest.mark.parametrize(
    "name, composition",
    [
        *((name, "confined") for name in SAMPLERS),
        ("HeunDiscrete", "l2dm"),
        ("EulerAncestralDiscrete", "l2dm"),
        ("EulerDiscrete", "mudi"),
        ("PNDM", "mudi"),
        ("DDPM", "collage"),
    ],
)
def test_every_sampler_composes(taught, monkeypatch, name, composition):
    kind, prompt = getattr(diffusers, f"{name}Scheduler"), prompt_of(2)
    monkeypatch.setattr(taught, "scheduler", kind.from_config(taught.scheduler.config, **SAMPLERS[name]))
    given = {"composition": composition, "steps": 4, "n": 1}
    first = drawn(taught, prompt, **given)
    assert np.array_equal(first, drawn(taught, prompt, **given)) and first.std() > 0
    assert not np.array_equal(first, drawn(taught, prompt, **given | {"composition": "none"}))
