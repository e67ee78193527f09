"""What is pasted and what is one picture, of pictures composed of known content."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from l2dm.evaluation.pasted import pasted

SIDE = 64
PAIR = [(0.25, 0.5), (0.75, 0.5)]
SNOW, SAND, NIGHT, WARM = (230, 235, 245), (215, 190, 140), (25, 30, 70), (240, 225, 235)


def ground(colour: tuple[int, int, int], noise: float = 6.0, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(np.array(colour) + rng.normal(0, noise, (SIDE, SIDE, 3)), 0, 255)


def picture(pixels: np.ndarray, places=PAIR, size: int = 9) -> Image.Image:
    """Two things, a red one and a green one, on a ground."""
    image = Image.fromarray(pixels.astype(np.uint8))
    for (x, y), tone in zip(places, ("darkred", "darkgreen", "navy")):
        ImageDraw.Draw(image).ellipse(
            [x * SIDE - size, y * SIDE - size, x * SIDE + size, y * SIDE + size], fill=tone
        )
    return image


def beside(left: np.ndarray, right: np.ndarray, at: int = SIDE // 2, blend: int = 0) -> np.ndarray:
    share = (
        np.clip((np.arange(SIDE) - at + blend / 2) / max(1, blend), 0, 1) if blend else np.arange(SIDE) >= at
    )
    share = np.asarray(share, float)[None, :, None]
    return left * (1 - share) + right * share


@pytest.mark.parametrize(
    "left, right", [(SNOW, SAND), (SAND, NIGHT), (SNOW, (200, 210, 225)), (WARM, SNOW[::-1])]
)
@pytest.mark.parametrize("at", [28, 32, 37])
@pytest.mark.parametrize("blend", [0, 6])
def test_two_grounds_with_a_seam_are_pasted(left, right, at, blend):
    differ = np.sqrt(np.square((np.array(left) - right) / 255).mean())
    said = pasted(picture(beside(ground(left), ground(right, seed=1), at, blend)), PAIR)
    assert said == (differ >= 0.08)


@pytest.mark.parametrize("colour", [SNOW, SAND, NIGHT, WARM])
@pytest.mark.parametrize("noise", [0.0, 6.0, 25.0])
def test_one_ground_is_one_picture(colour, noise):
    assert pasted(picture(ground(colour, noise)), PAIR) is False


def test_light_that_changes_slowly_and_a_post_between_are_one_picture():
    dark = np.linspace(1.0, 0.5, SIDE)[None, :, None]
    assert pasted(picture(ground(SNOW) * dark), PAIR) is False
    post = ground(SAND)
    post[:, 30:34] = 20
    assert pasted(picture(post), PAIR) is False
    horizon = np.concatenate([ground(SNOW)[:32], ground((60, 140, 60))[32:]])
    assert pasted(picture(horizon), PAIR) is False
    one_tree = ground(SNOW)
    one_tree[:20, 2:8] = (60, 40, 20)
    assert pasted(picture(one_tree), PAIR) is False


def test_three_things_are_looked_at_two_by_two():
    row = [(0.17, 0.5), (0.5, 0.5), (0.83, 0.5)]
    whole, last = ground(SNOW), beside(ground(SNOW), ground(NIGHT), at=43)
    assert pasted(picture(whole, row, 6), row) is False and pasted(picture(last, row, 6), row) is True
    grid = [(0.25, 0.25), (0.75, 0.25), (0.5, 0.75)]
    upper = np.concatenate([beside(ground(SNOW), ground(NIGHT))[:32], ground(SAND)[32:]])
    assert pasted(picture(upper, grid, 6), grid) is True
    below = np.concatenate([ground(SNOW)[:32], beside(ground(SAND), ground(NIGHT))[32:]])
    assert pasted(picture(below, grid, 6), grid) is False, "one thing alone is there"


def test_of_things_above_each_other_and_of_one_nothing_is_told():
    over = [(0.5, 0.2), (0.55, 0.8)]
    assert pasted(picture(ground(SNOW), over), over) is None
    assert pasted(picture(ground(SNOW), PAIR[:1]), PAIR[:1]) is None
    assert pasted(picture(ground(SNOW)), [PAIR[0]] * 2) is None, "found in one place"
