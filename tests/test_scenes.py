"""Composed scenes: captions never claim what is not in the picture."""

from __future__ import annotations

import numpy as np
import pytest

from mini_base.corpus import STYLES, TRAIN_STYLES, Icon
from mini_base.scenes import PLACES, PLAIN, Composer

COLOURS = {"dog": (255, 0, 0), "owl": (0, 255, 0), "teddy bear": (0, 0, 255), "grapes": (255, 0, 255)}


def icons():
    made = []
    for noun, colour in COLOURS.items():
        for style in TRAIN_STYLES[:3]:
            rgba = np.zeros((96, 96, 4), np.uint8)
            rgba[8:88, 8:88] = (*colour, 255)
            made.append(Icon(noun, style, noun, rgba))
    return made


@pytest.mark.parametrize("spread", [0.0, 1.0])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_captions_say_what_is_there(count, spread):
    composer = Composer(icons(), seed=count, spread=spread)
    for _ in range(60):
        scene = composer.scene(count)
        assert scene.pixels.shape == (64, 64, 3)
        assert {n for n in COLOURS if n in scene.caption} == {item.icon.noun for item in scene.items}
        words = {STYLES[item.icon.style][2] for item in scene.items}
        assert {
            w for w in ("soft", "glossy", "flat", "bold", "pale") if f" {w} " in f" {scene.caption} "
        } <= words
        for place, phrase in PLACES.items():
            assert phrase not in scene.caption or scene.background == place
        for colour in PLAIN:
            assert f"{colour} background" not in scene.caption or scene.background == colour


def test_left_right_above_below_are_true():
    composer, seen = Composer(icons(), seed=5), set()
    for _ in range(400):
        scene = composer.scene(2)
        middle = {
            item.icon.noun: ((item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2)
            for item in scene.items
        }
        first, second = sorted(middle, key=scene.caption.index)
        for phrase, axis, sign in (
            (" on the left and", 0, 1),
            ("to the left of", 0, 1),
            ("to the right of", 0, -1),
            ("above", 1, 1),
            ("below", 1, -1),
        ):
            if phrase in scene.caption:
                assert (middle[second][axis] - middle[first][axis]) * sign > 0, scene.caption
                seen.add(phrase)
    assert len(seen) == 5


def test_objects_are_seen():
    composer = Composer(icons(), seed=1)
    for _ in range(50):
        scene = composer.scene(2, background="white")
        for item in scene.items:
            near = np.abs(scene.pixels.astype(int) - COLOURS[item.icon.noun]).max(-1) < 60
            assert near.sum() > 150


def test_the_seed_fixes_everything():
    a, b = (Composer(icons(), seed=3).scene(2) for _ in range(2))
    assert a.caption == b.caption and np.array_equal(a.pixels, b.pixels)
