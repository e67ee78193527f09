"""Composed scenes: captions never claim what is not in the picture, and photos stay what they were."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from mini_base.corpus import STYLES, TRAIN_STYLES, Icon
from mini_base.places import PLACES, PLAIN
from mini_base.scenes import INKS, LARGE, SIZES, SMALL, Composer, Spot, ink

COLOURS = {"dog": (255, 0, 0), "owl": (0, 255, 0), "teddy bear": (0, 0, 255), "grapes": (150, 60, 200)}
NAMES = {"dog": "red", "owl": "green", "teddy bear": "blue", "grapes": "purple"}


def icons() -> list[Icon]:
    made = []
    for noun, colour in COLOURS.items():
        for style in TRAIN_STYLES[:3]:
            rgba = np.zeros((96, 96, 4), np.uint8)
            rgba[8:88, 8:88] = (*colour, 255)
            made.append(Icon(noun, style, noun, rgba))
    return made


@pytest.fixture(scope="module")
def composers() -> dict[int, Composer]:
    return {side: Composer(icons(), side=side) for side in (64, 128)}


def reseeded(composer: Composer, seed: int) -> Composer:
    composer.rng = np.random.default_rng(seed)
    return composer


@pytest.mark.parametrize("count", [1, 2, 3])
def test_captions_say_what_is_there(composers, count):
    composer, seen = reseeded(composers[64], count), set()
    for _ in range(80):
        scene = composer.scene(count)
        assert scene.pixels.shape == (64, 64, 3)
        assert {n for n in COLOURS if n in scene.caption} == {item.icon.noun for item in scene.items}
        styles = {STYLES[item.icon.style][2] for item in scene.items}
        assert {w for _, _, w in STYLES.values() if w and f" {w} " in f" {scene.caption} "} <= styles
        for item in scene.items:
            for colour in (*INKS, "red"):
                assert f"{colour} {item.icon.noun}" not in scene.caption or colour == NAMES[item.icon.noun]
        for place, phrase in PLACES.items():
            assert phrase not in scene.caption or scene.background == place
        for colour in PLAIN:
            assert f"{colour} background" not in scene.caption or scene.background == colour
        seen |= {
            word
            for word in (*styles, *NAMES.values(), "small", "corner", "background")
            if word in scene.caption
        }
    assert len(seen) >= 9, "and everything is said now and then"


def test_single_things_have_every_size_and_place_and_are_called_so(composers):
    composer, spots = reseeded(composers[64], 7), []
    for _ in range(300):
        scene = composer.scene(1)
        left, top, right, bottom = scene.items[0].box
        # a tilted thing's box is larger than the thing by up to 1.13 times
        size, x, y = (right - left) / 64, (left + right) / 128, (top + bottom) / 128
        spots.append((size, x, y))
        assert "small" not in scene.caption or size < SMALL * 1.13 + 0.02
        assert "large" not in scene.caption or size > LARGE - 0.02
        for words, true in (("left", x < 0.42), ("right", x > 0.58), ("top", y < 0.42), ("bottom", y > 0.58)):
            assert f" {words}" not in scene.caption or true, scene.caption
    sizes, x, y = np.array(spots).T
    assert sizes.min() < 0.42 and sizes.max() > 0.9 and np.ptp(np.histogram(sizes, 4, (0.35, 0.99))[0]) < 90
    assert min(x.min(), y.min()) < 0.25 and max(x.max(), y.max()) > 0.75


def test_how_two_things_lie_is_true(composers):
    composer, seen = reseeded(composers[64], 5), set()
    for _ in range(400):
        scene = composer.scene(2)
        middle = {
            item.icon.noun: ((item.box[0] + item.box[2]) / 2, (item.box[1] + item.box[3]) / 2)
            for item in scene.items
        }
        first, second = sorted(middle, key=scene.caption.index)
        for phrase, axis, sign in (
            ("to the left of", 0, 1),
            ("to the right of", 0, -1),
            ("above", 1, 1),
            ("below", 1, -1),
        ):
            if phrase in scene.caption:
                assert (middle[second][axis] - middle[first][axis]) * sign > 0, scene.caption
                seen.add(phrase)
    assert len(seen) == 4


def test_mostly_one_thing_a_tenth_two_and_few_three(composers):
    composer = reseeded(composers[64], 0)
    counts = np.bincount([len(composer.scene().items) for _ in range(600)], minlength=4) / 600
    assert counts[1] > 0.8 and 0.06 < counts[2] < 0.15 and 0.005 < counts[3] < 0.06


@pytest.mark.parametrize("count", [2, 3])
def test_things_are_seen_whole_and_apart(composers, count):
    composer = reseeded(composers[128], 1)
    for _ in range(40):
        spots = composer.spots(count)
        for i, a in enumerate(spots):
            assert SIZES[count - 1][0] <= a.size <= SIZES[count - 1][1]
            assert all(a.size / 2 - 1e-9 <= v <= 1 - a.size / 2 + 1e-9 for v in (a.x, a.y))
            assert all(max(abs(a.x - b.x), abs(a.y - b.y)) > 0.44 * (a.size + b.size) for b in spots[:i])
        scene = composer.scene(count, background="white")
        for item in scene.items:
            near = np.abs(scene.pixels.astype(int) - COLOURS[item.icon.noun]).max(-1) < 60
            assert near.sum() > 500


def test_positions_in_words():
    said = {
        (0.5, 0.5): "",
        (0.3, 0.5): "on the left",
        (0.5, 0.7): "at the bottom",
        (0.7, 0.3): "in the top right corner",
    }
    assert {place: Spot(0.4, *place).position for place in said} == said
    assert Spot(0.6, 0.7, 0.3).position == "at the top right", "what is large is in no corner"


def test_ink_is_what_most_of_a_drawing_has():
    two = np.zeros((96, 96, 4), np.uint8)
    two[:48], two[48:] = (255, 0, 0, 255), (0, 0, 255, 255)
    assert ink(Icon("dog", "noto", "dog", two)) == ""
    two[30:48] = (0, 0, 255, 255)
    assert ink(Icon("dog", "noto", "dog", two)) == "blue"
    assert ink(Icon("dog", "noto", "dog", two * 0)) == ""


def test_the_seed_fixes_everything(composers):
    a, b = (reseeded(composers[64], 3).scene(2) for _ in range(2))
    assert a.caption == b.caption and np.array_equal(a.pixels, b.pixels)


def test_photos_stay_what_they_were():
    """Of what the benchmarks' concepts were drawn with: a change here would change what their tables were
    measured on.
    """
    composer = Composer(icons()[:1], side=64, seed=700, unit=1)
    drawn = b"".join(
        composer.photo(composer.by_noun["dog"]["noto"][0], p).tobytes() for p in (*PLACES, "white", "red")
    )
    assert (
        hashlib.sha256(drawn).hexdigest()
        == "902188b3385308ba6ad848d537c68629229905e1a69bf36c1b509bb9d17710fa"
    )
