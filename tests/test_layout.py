"""A layout by hand: what it may say, where things then are, and that nothing else changes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import QUICK
from learning import learn
from PIL import Image
from tiny import mini

from l2dm import World
from l2dm.errors import PromptWarning, SettingsError
from l2dm.generation import draw, laid_out, mentions, overlaps, resolve_composition
from l2dm.generation.guided import Guide
from l2dm.generation.layout import PLACES, parse, written
from l2dm.guidance.collage import collage, middles, spots
from l2dm.guidance.confinement import Confinement
from l2dm.guidance.regions import of_boxes, said
from l2dm.settings import GenerateSettings

BOTH = "<rex> dog and <tom> cat"
CONCEPTS = {"<rex>": "dog", "<tom>": "cat"}
SIDE = 8  # cells of the tiny base's latents
HALVES = "<rex>: left, <tom>: right"


def test_places_are_words_and_boxes():
    box = (0.5, 0.2, 0.9, 0.8)
    assert parse("<rex>: left, <pip>: 0.5,0.2,0.9,0.8") == [("<rex>", PLACES["left"]), ("<pip>", box)]
    assert parse("red car:0.5 0.2 .9 .8 ; <rex> : Top-Left;") == [
        ("red car", box),
        ("<rex>", (0, 0, 0.5, 0.5)),
    ]
    assert GenerateSettings(
        layout={"<rex>": "left", "<pip>": box}
    ).layout == "<rex>: left, <pip>: " + ",".join(map(str, box))


@pytest.mark.parametrize(
    "layout, told",
    [
        ("<rex>", "layout: '<rex>' is no place of a thing; write NAME: PLACE, such as"),
        ("<rex>:", "is no place of a thing"),
        ("<rex>: lft", "layout: <rex>: 'lft' is no place; did you mean 'left'?"),
        ("<rex>: yonder", "no place; known: left, right"),
        ("<rex>: 0,0,1", "a box has four numbers, x0,y0,x1,y1, and '0,0,1' has 3"),
        ("<rex>: 0,0,64,64", "reaches beyond the picture; give shares of its sides, each from 0 to 1"),
        ("<rex>: nan,0,1,1", "reaches beyond the picture"),
        ("<rex>: 0.5,0,0.2,1", "holds nothing; x0 must be less than x1"),
        ("<rex>: 0,1,1,1", "y0 less than y1"),
        ("<max>: left", "layout: <max>: the prompt does not name it; it names <rex>, <tom>"),
        ("<rex>: left, <rex>: right", "the prompt names it once, and it is placed once more"),
        (
            "and: left",
            "was not found to be a thing of the prompt .found: <rex>, <tom>.; if it is one, name it in "
            "subjects",
        ),
    ],
)
def test_what_is_wrong_is_said(backbone, layout, told):
    with pytest.raises(SettingsError, match=told):
        laid_out(mentions(BOTH, CONCEPTS, backbone), layout, BOTH)


def test_things_go_by_every_name_that_the_prompt_gives_them(backbone):
    prompt = "a red car, a <rex> dog, another red car and a cat"
    things = mentions(prompt, {"<rex>": "dog"}, backbone)

    def boxes(layout: str) -> list:
        return [one.box for one in laid_out(things, layout, prompt)]

    left, right = PLACES["left"], PLACES["right"]
    for name in ("car", "red car", "a red car", "Red Car"):
        assert boxes(f"{name}: left, cat: right") == [left, None, None, right], name
    assert boxes("car: left, car: right") == [left, None, right, None], "in the prompt's order"
    for name in ("<rex>", "<rex> dog", "dog"):
        assert boxes(f"{name}: left") == [None, left, None, None], name
    placed = laid_out(things, "car: left, car: 0.1,0.25,1,1, <rex>: top", prompt)
    assert laid_out(things, written(placed), prompt) == placed, "what provenance says can be given again"


def test_cells_of_boxes():
    left, dot, rest = of_boxes([PLACES["left"], (0.9, 0.9, 0.91, 0.91), None], 4, 4)
    assert left.tolist() == [[1, 1, 0, 0]] * 4 and dot.sum() == 1 == dot[3, 3], "the smallest box has a cell"
    assert torch.equal(left + dot + rest, torch.ones(4, 4))
    with pytest.raises(SettingsError, match="no part of the picture is left"):
        of_boxes([PLACES["everywhere"], None], 4, 4)
    assert said([None, None], [None, None], 4, 4) is None
    for sides in (["left", "right"], ["left", None]):
        assert torch.equal(said([None, None], sides, 4, 4)[0], left)


def test_overlaps_are_told(backbone):
    def told(layout: str) -> list[str]:
        return overlaps(laid_out(mentions(BOTH, CONCEPTS, backbone), layout, BOTH))

    assert told(HALVES) == [] and told("<rex>: left") == []
    assert told("<rex>: left, <tom>: top") == [
        "layout: <rex> and <tom> overlap in 25 % of the picture, where both act"
    ]


@pytest.fixture
def taught(photos):
    return learn(photos, "gated-lora", "<rex>", "<tom>", steps=2).backbone


def drawn(backbone, layout: str = "", prompt: str = BOTH, **changes) -> np.ndarray:
    settings = GenerateSettings(
        **{"steps": 3, "n": 2, "composition": "confined", "layout": layout, **changes}
    )
    things = mentions(prompt, CONCEPTS, backbone)
    things = laid_out(things, layout, prompt) if layout else things
    return np.stack(draw(backbone, prompt, settings, mentions=things))


def test_things_are_confined_from_the_first_step_on(taught, monkeypatch):
    """Every forward of a drawing reads the regions: of a single step, with negatives, in batches."""
    seen, put = [], Confinement.put
    monkeypatch.setattr(
        Confinement, "put", lambda self, regions, reading: seen.append(regions) or put(self, regions, reading)
    )
    read = []
    hook = taught.denoiser.register_forward_hook(lambda *_: read.append(taught.conditioning.regions))
    drawn(taught, HALVES, steps=1, n=3, batch=2, negative_prompt="a road")
    hook.remove()
    assert [len(regions) for regions in seen] == [2, 1], "two pictures, then one"
    for regions, pictures in zip(read, (2, 1)):
        left = regions[:, taught.tokens.places(["<rex>"])]
        assert len(left) == 2 * pictures and (left[..., :4] == 1).all()
        assert left.shape[-2:] == (SIDE, SIDE) and (left[..., 4:] == 0).all()


@pytest.mark.parametrize("guidance", ["confined", "collage", "l2dm", "caa"])
def test_a_layout_moves_things(taught, guidance):
    changes = {"composition": guidance, "guidance_step": 1.0, "steps": 4}
    pictures = [
        drawn(taught, layout, **changes) for layout in ("", HALVES, "<rex>: right, <tom>: left", HALVES)
    ]
    assert np.array_equal(pictures[1], pictures[3])
    assert not np.array_equal(pictures[1], pictures[2])


def test_one_thing_can_be_placed_too(taught):
    one = "a photo of <rex> dog"
    plain = drawn(taught, prompt=one, composition="none")
    assert np.array_equal(plain, drawn(taught, prompt=one)), "nothing to confine"
    assert not np.array_equal(plain, drawn(taught, "<rex>: left", one))
    things = laid_out(mentions(one, CONCEPTS, taught), "<rex>: left", one)
    assert [resolve_composition(asked, things).name for asked in ("auto", "confined", "collage", "l2dm")] == [
        "confined",
        "confined",
        "collage",
        "l2dm",
    ]


def test_the_unmix_loss_takes_the_layouts_masks(taught):
    things = laid_out(mentions(BOTH, CONCEPTS, taught), "<rex>: top, <tom>: bottom", BOTH)
    guide = Guide(taught, things, range(1, 6), GenerateSettings(composition="caa", attend_weight=0.0), (8, 8))
    maps = torch.full((2, taught.longest_prompt, *guide.regions.shape[2:]), 1e-9)
    for thing, half in zip(things, (slice(2), slice(2, None))):
        maps[:, list(thing.all), half] = 0.1
    right, wrong = guide.losses(maps, torch.arange(2)), guide.losses(maps.flip(2), torch.arange(2))
    assert right.shape == (2,) and (right < wrong).all()


def test_a_collage_of_halves_is_the_collage_and_smaller_boxes_are_in_front():
    pictures = [Image.new("RGB", (64, 64), tone) for tone in ((250, 0, 0), (0, 250, 0))]
    halves = [PLACES["left"], PLACES["right"]]
    for own, given in zip(
        collage(pictures, spots([None, None]), (64, 64)),
        collage(pictures, middles(halves), (64, 64), halves),
    ):
        assert np.array_equal(own, given)
    inside = [PLACES["everywhere"], (0.25, 0.25, 0.75, 0.75)]
    for boxes in (inside, inside[::-1]):
        pixels, _ = collage(pictures if boxes is inside else pictures[::-1], middles(boxes), (64, 64), boxes)
        green = (pixels == (0, 250, 0)).all(-1)
        assert green[16:48, 16:48].all() and green.sum() == 32 * 32


def test_a_world_draws_by_a_layout_and_says_so(tmp_path, photos):
    world = World.create(tmp_path / "world", mini())
    for token, noun in CONCEPTS.items():
        world.learn(photos, token=token, noun=noun, **{**QUICK, "steps": 1, "prior_weight": 0.0})
    common = {"n": 1, "steps": 2}
    (picture,) = world.generate(BOTH, **common, composition="confined", layout="<tom>: 0.5,0,1,1")
    told = picture.provenance
    assert told["layout"] == "<tom>: 0.5,0,1,1" and told["composition"] == "confined" and told["notes"] == ""
    with pytest.warns(PromptWarning, match="overlap in 25 %"):
        (picture,) = world.generate(
            BOTH, **common, composition="confined", layout={"<rex>": "left", "<tom>": "top"}
        )
    assert "overlap in 25 %" in picture.provenance["notes"]
    assert json.loads(picture.provenance["subjects"]) == ["<rex> dog", "<tom> cat"]
    for guidance in ("none", "structure", "attend-and-excite", "oaa"):
        with pytest.raises(
            SettingsError, match="places nothing; choose one of collage, caa, l2dm, artists, mudi, confined"
        ):
            world.generate(BOTH, **common, composition=guidance, layout=HALVES)
    (picture,) = world.generate(BOTH, **common, composition="oaa", confine=True, layout=HALVES)
    assert picture.provenance["composition"].endswith("confined")
    with pytest.raises(SettingsError, match="collage needs a place for every thing; say where to put <tom>"):
        world.generate(BOTH, **common, composition="collage", layout="<rex>: left")
