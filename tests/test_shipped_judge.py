"""The judge that ships, asked about the shipped concepts, which its training never saw."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from PIL import Image

from l2dm.bench.subjects import Subjects, pictures
from l2dm.errors import BaseModelError
from l2dm.evaluation.judging import find_judge
from l2dm.evaluation.shipped_judge import SHIPPED, Judge


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge()


@pytest.fixture(scope="module")
def concepts():
    return Subjects.read("shipped").concepts


@pytest.fixture(scope="module")
def prototypes(judge, concepts) -> torch.Tensor:
    """Of the ten concepts, from half of their pictures, then of things that look like them."""
    like = [place for group in Subjects.read("shipped").like.values() for place in group]
    places = [*(one.unseen for one in concepts), *like]
    return torch.stack([judge.prototype(pictures(place)) for place in places])


def beside(*images: Image.Image) -> Image.Image:
    """Half-size pictures in a row on white."""
    found = Image.new("RGB", (128, 128), "white")
    for i, image in enumerate(images):
        found.paste(image.convert("RGB").resize((64, 64)), (64 * i, 32))
    return found


def test_it_knows_each_concept_from_the_others_and_from_what_looks_like_it(judge, concepts, prototypes):
    for own, one in enumerate(concepts):
        assert (judge.likeness(pictures(one.learn), prototypes).argmax(1) == own).all(), one.name


def test_it_sees_which_things_are_in_a_picture(judge, concepts, prototypes):
    where = {one.name: i for i, one in enumerate(concepts)}
    first, second = concepts[where["dog1"]], concepts[where["backpack1"]]
    both = [beside(a, b) for a, b in zip(pictures(first.learn), pictures(second.learn))]
    there = judge.presence(both, prototypes[: len(concepts)]) > 0.5
    others = [i for i in where.values() if i not in (where["dog1"], where["backpack1"])]
    assert there[:, [where["dog1"], where["backpack1"]]].float().mean() >= 0.8
    assert not there[:, others].any(), "none that is not there"
    gray = Image.new("RGB", (128, 128), "gray")
    assert (judge.presence([gray], prototypes) < 0.5).all(), "in a picture of nothing there is nobody"


def test_it_names_what_it_has_nouns_for(judge, concepts):
    known = [one for one in concepts if one.noun in judge.nouns]
    right = [one.noun in names for one in known for names in judge.name(pictures(one.learn), 3)]
    assert sum(right) / len(right) >= 8 * 3 / len(judge.nouns), "in a drawing style that it never saw"


def test_its_card_is_what_lies_beside_it(judge):
    facts = json.loads((SHIPPED / "judge.json").read_text())
    assert judge.card() == facts["measured"] and 0 < judge.found < judge.sure < 1


def test_it_knows_the_ground_that_a_thing_stands_on(judge, concepts):
    for one in concepts:
        assert judge.background(pictures(one.unseen)) == ["wood", "white", "orange", "brick", "gray"], (
            one.name
        )


def test_a_picture_of_any_size_and_mode_is_the_same_thing(judge, concepts, prototypes):
    picture = pictures(concepts[0].unseen)[0]
    others = [picture.resize((200, 200), Image.Resampling.BICUBIC), picture.convert("RGBA")]
    like = judge.likeness([picture, *others], prototypes)
    assert torch.allclose(like[1:], like[:1].expand(2, -1), atol=0.03)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("judge.json", b"{"),
        ("judge.json", b"\xff"),
        ("judge.json", b"[]"),
        ("judge.json", json.dumps({"nouns": ["dog"], "backgrounds": ["red"], "found": 0.5}).encode()),
        ("judge.json", b'{"nouns": ["dog"]}'),
        ("judge.safetensors", b""),
        ("judge.safetensors", (SHIPPED / "judge.safetensors").read_bytes()[:-1]),
    ],
)
def test_a_damaged_judge_is_refused_in_a_line(tmp_path, file, content):
    folder = tmp_path / "judge"
    shutil.copytree(SHIPPED, folder)
    (folder / file).write_bytes(content)
    with pytest.raises(BaseModelError, match="this judge cannot be read") as refused:
        find_judge(str(folder))
    assert str(folder) in str(refused.value) and "\n" not in str(refused.value)
