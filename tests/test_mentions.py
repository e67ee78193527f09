"""Words of prompts: which concepts and nouns are named, where, and what `auto` makes of them."""

from __future__ import annotations

import pytest
import torch

from l2dm.errors import PromptError
from l2dm.generation import Mention, mentions, resolve_composition

KNOWN = {"<rex>": "dog", "<ducky>": "duck toy"}


def words_of(backbone, prompt, concepts=KNOWN, plain=()):
    pieces = backbone.tokenizer.convert_ids_to_tokens(backbone.tokenizer(prompt).input_ids)
    found = mentions(prompt, concepts, backbone, plain)
    return [
        (m.name, [pieces[i] for i in m.personal], [pieces[i].removesuffix("</w>") for i in m.noun], m.side)
        for m in found
    ]


@pytest.fixture
def taught():
    """A backbone that knows two tokens."""
    from l2dm.backbone import Backbone

    loaded = Backbone.load()
    for token in KNOWN:
        loaded.add_token(token, torch.randn(loaded.tokens.base.embedding_dim))
    return loaded


def test_a_thing_is_looked_for_at_all_of_its_words():
    assert Mention("<rex>", (5,), (6, 7)).all == (5, 6, 7) and Mention("cat", (), (3,)).all == (3,)


def test_words_of_prompts(taught):
    rex, ducky = ("<rex>", ["<rex>"], ["dog"]), ("<ducky>", ["<ducky>"], ["duck", "toy"])
    assert words_of(taught, "A photo of <rex> dog, and <ducky> duck toy's on the BEACH") == [
        (*rex, None),
        (*ducky, None),
    ]
    assert words_of(taught, "<rex> dog on the left of <ducky> duck toy") == [
        (*rex, "left"),
        (*ducky, "right"),
    ]
    assert words_of(taught, "<ducky> duck toy above <rex> dog") == [(*ducky, "top"), (*rex, "bottom")]
    assert words_of(taught, "<rex> dog on the right and <ducky> duck toy on the left") == [
        (*rex, "right"),
        (*ducky, "left"),
    ]
    assert words_of(taught, "<rex> and a cat", plain=("cat", "dog")) == [
        ("<rex>", ["<rex>"], [], None),
        ("cat", [], ["cat"], None),
    ]
    assert words_of(taught, "<rex> dog and a dog", plain=("dog",)) == [
        (*rex, None),
        ("dog", [], ["dog"], None),
    ], "two of one noun"
    assert words_of(taught, "a teddy bear", {}, ("bear", "teddy bear")) == [
        ("teddy bear", [], ["teddy", "bear"], None)
    ]
    with pytest.raises(PromptError, match="lies beyond what this base reads"):
        mentions("very " * 30 + "<rex> dog", KNOWN, taught)


def test_auto_guides_two_concepts_and_nothing_else():
    a, b = Mention("<a>", (1,), (2,)), Mention("<b>", (4,), ())
    dog = Mention("dog", (), (6,))
    assert [
        resolve_composition("auto", things).name for things in ([], [a], [a, dog], [a, b], [a, b, dog])
    ] == ["none"] * 3 + ["l2dm"] * 2
    assert resolve_composition("caa", [a]).name == "caa" and resolve_composition("caa", []).name == "none"
