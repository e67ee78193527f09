"""The judge as it ships: it tells the benchmark's things apart, and sees none where there is none."""

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
def judge():
    return Judge()


@pytest.fixture(scope="module")
def subjects():
    return Subjects.read("shipped")


@pytest.fixture(scope="module")
def known(judge, subjects):
    """``(concepts, WIDTH)``: each concept's prototype, from the photos that it is learnt from."""
    return torch.stack([judge.prototype(pictures(concept.learn)) for concept in subjects.concepts])


def test_ten_things_are_told_apart_in_other_pictures_of_them(judge, subjects, known):
    """Two of them are dogs and two are cats."""
    unseen = [picture for concept in subjects.concepts for picture in pictures(concept.unseen)]
    truth = torch.arange(len(known)).repeat_interleave(len(unseen) // len(known))
    assert (judge.likeness(unseen, known).argmax(1) == truth).float().mean() >= 0.98
    there, own = judge.presence(unseen, known) > 0.5, torch.nn.functional.one_hot(truth).bool()
    assert there[own].float().mean() >= 0.98 and there[~own].float().mean() <= 0.01
    assert judge.background(unseen) == ["wood", "white", "orange", "brick", "gray"] * len(known)


def test_few_look_alikes_are_taken_for_the_thing(judge, subjects, known):
    taken = [
        judge.presence(pictures(folder)[:1], prototype[None]) > 0.5
        for concept, prototype in zip(subjects.concepts, known, strict=True)
        for folder in subjects.like[concept.noun]
    ]
    assert len(taken) > 20 and torch.cat(taken).float().mean() <= 0.1


def test_a_plain_ground_holds_none_of_them(judge, known):
    grounds = [Image.new("RGB", (64, 64), colour) for colour in ("white", "gray", "black", "red", "yellow")]
    assert judge.background(grounds) == ["white", "gray", "black", "red", "yellow"]
    assert judge.presence(grounds, known).max() < 0.5


def test_a_picture_of_any_size_and_mode_is_the_same_thing(judge, subjects, known):
    picture = pictures(subjects.concepts[0].unseen)[0]
    others = [picture.resize((200, 200), Image.Resampling.BICUBIC), picture.convert("RGBA")]
    assert torch.allclose(judge.likeness(others, known), judge.likeness([picture] * 2, known), atol=0.03)


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
