"""Tokens, nouns, captions, prompts."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from l2dm.concept import check_noun, check_token
from l2dm.concept.words import article, caption_for
from l2dm.errors import PromptError, TokenError
from l2dm.generation import check_length, personal_tokens


@pytest.mark.parametrize("token", ["<rex>", "<rex-2>", "<a>", "<r_x>", "<7up>"])
def test_good_tokens(token):
    assert check_token(token) == token


@pytest.mark.parametrize(
    "token",
    ["rex", "<Rex>", "<>", "<re x>", "<rex", "rex>", "<-rex>", "<" + "a" * 40 + ">", "", "<rex>>", "<ré>"],
)
def test_bad_tokens_tell_how_to_write_them(token):
    with pytest.raises(TokenError, match="angle brackets"):
        check_token(token)


def test_a_near_miss_is_mended():
    with pytest.raises(TokenError, match="did you mean '<rex>'"):
        check_token("Rex")


@pytest.mark.parametrize(
    "noun, clean",
    [("dog", "dog"), ("  Duck   Toy ", "duck toy"), ("teddy-bear", "teddy-bear"), ("châtaigne", "châtaigne")],
)
def test_good_nouns(noun, clean):
    assert check_noun(noun) == clean


@pytest.mark.parametrize("noun", ["", " ", "<rex>", "dog2", "a b c d e", "dog!", "x" * 70])
def test_bad_nouns(noun):
    with pytest.raises(TokenError, match="one to four words"):
        check_noun(noun)


@given(st.text(max_size=60))
def test_a_caption_names_the_concept_and_nothing_is_lost_but_the_noun(text):
    made = caption_for(text, "<rex>", "dog")
    assert "<rex>" in made
    for word in text.split():
        if (
            not {"dog", "a", "an", "the"} & {w.lower() for w in word.replace("-", " ").split()}
            and "dog" not in word.lower()
        ):
            assert word in made


def test_captions():
    assert caption_for("A dog on a ledge", "<rex>", "dog") == "<rex> dog on a ledge"
    assert caption_for("the hotdog of <rex>", "<rex>", "dog") == "the hotdog of <rex>"
    assert caption_for("sleeping", "<rex>", "dog") == "a photo of <rex> dog, sleeping"


def test_articles():
    assert [article(w) for w in ("dog", "owl", "grapes", "bus", "octopus", "glass")] == [
        "a dog",
        "an owl",
        "grapes",
        "a bus",
        "an octopus",
        "a glass",
    ]


def test_prompts(backbone):
    assert personal_tokens("a photo of <rex> dog and <tom> cat", ["<rex>", "<tom>"]) == ["<rex>", "<tom>"]
    with pytest.raises(PromptError, match=r"<rexx> is not in this world; did you mean <rex>\?"):
        personal_tokens("a photo of <rexx> dog", ["<rex>"])
    with pytest.raises(PromptError, match="learnt nothing yet"):
        personal_tokens("<rex>", [])
    with pytest.raises(PromptError, match="at most 30"):
        check_length("dog " * 40, backbone)


def test_an_article_goes_by_the_first_letter():
    words = ("apple", "egg", "ice cream", "owl", "umbrella", "dog", "grapes", "glass", "octopus")
    said = [
        "an apple",
        "an egg",
        "an ice cream",
        "an owl",
        "an umbrella",
        "a dog",
        "grapes",
        "a glass",
        "an octopus",
    ]
    assert list(map(article, words)) == said
