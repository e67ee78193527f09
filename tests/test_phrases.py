"""Which things a prompt names and which words are whose; what is refused; on any text at all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from l2dm.errors import PromptError, PromptWarning
from l2dm.generation import (
    Mention,
    bare_names,
    mentions,
    personal_tokens,
    single_subject_prompts,
    without_escapes,
)
from l2dm.generation.phrases import phrases
from l2dm.generation.vocabulary import any_of, everyday_nouns, plural

KNOWN = {"<rex>": "dog", "<tom>": "cat", "<quack>": "duck toy", "<ada>": "dog"}


def words(prompt: str, **options) -> list[str]:
    """Each thing's own words."""
    return [prompt[one.start : one.end] for one in phrases(prompt, KNOWN, **options)]


def parts(prompt: str) -> list[str]:
    found = [
        Mention(one.name, (), (), None, one.span, (one.start, one.end)) for one in phrases(prompt, KNOWN)
    ]
    return single_subject_prompts(prompt, found)


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a photo of <rex> dog and a red car", ["a photo of <rex> dog", "a photo of a red car"]),
        (
            "a black cat and a white dog on the beach",
            ["a black cat on the beach", "a white dog on the beach"],
        ),
        ("<rex> dog, a red and white ball", ["<rex> dog", "a red and white ball"]),
        ("<rex> dog in a big hat chasing a fat cat", ["<rex> dog in a big hat", "a fat cat"]),
        ("a bowl of apples and a glass of wine", ["a bowl of apples", "a glass of wine"]),
        (
            "a photo of my dog <rex> and my old cat <tom> at night",
            ["a photo of my dog <rex> at night", "a photo of my old cat <tom> at night"],
        ),
        ("a painting of a cow and two fat horses", ["a painting of a cow", "a painting of two fat horses"]),
        ("<rex> <tom>", ["<rex> ", "<tom>"]),
    ],
)
def test_words_between_a_link_and_a_thing_are_that_things(prompt, expected):
    assert [part.strip() for part in parts(prompt)] == [part.strip() for part in expected]


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("my dog <rex> on the beach", ["my dog <rex>"]),
        ("a dog named <rex>", ["a dog named <rex>"]),
        ("my big dog, <rex>, on the beach", ["my big dog, <rex>"]),
        ("<rex>, a dog,", ["<rex>, a dog"]),
        ("<rex>, a brown dog on the beach", ["<rex>, a brown dog"]),
        ("<rex> (a dog)", ["<rex> (a dog"]),
        ("<rex> is a dog", ["<rex> is a dog"]),
        ("<rex> the dog", ["<rex> the dog"]),
        ("<rex>'s dog", ["<rex>'s dog"]),
        ("<rex> brown DOG", ["<rex> brown DOG"]),
        ("<quack> duck", ["<quack> duck"]),
        ("<quack> toy", ["<quack> toy"]),
        ("<quack>  duck  toy", ["<quack>  duck  toy"]),
        ("<rex> puppy", ["<rex> puppy"]),
        ("my dog <rex> and my dog <ada>", ["my dog <rex>", "my dog <ada>"]),
        ("<rex>, a dog and a cat", ["<rex>", "a dog", "a cat"]),
        ("<rex>, a dog, and a cat", ["<rex>, a dog", "a cat"]),
        ("<rex> dog and a dog", ["<rex> dog", "a dog"]),
        ("<rex> and a dog", ["<rex>", "a dog"]),
    ],
)
def test_a_concepts_noun_in_apposition_is_the_same_thing(prompt, expected):
    assert words(prompt) == expected


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a photo of an apple and two oranges", ["an apple", "two oranges"]),
        ("teddy bears, ponies and a fox", ["teddy bears", "ponies", "a fox"]),
        ("a zorblax and a shiny quimby in the rain", ["a zorblax", "a shiny quimby"]),
        ("a dog house and a toy car", ["a dog house", "a toy car"]),
        ("a dog's bowl and a cat", ["a dog's bowl", "a cat"]),
        ("dog food and a cat", ["a cat"]),
        ("a dog in a car", ["a dog"]),
        ("a cat on a sofa wearing a hat", ["a cat"]),
        ("a dog with a hat and a scarf next to a cat", ["a dog with a hat and a scarf", "a cat"]),
        ("<rex> dog with a blue house in the background", ["<rex> dog"]),
        ("a sunset and a storm", []),
        ("a photo of the sky at night", []),
        ("", []),
    ],
)
def test_plain_nouns_are_found_on_any_base(prompt, expected):
    assert words(prompt) == expected


def test_subjects_by_name():
    prompt = "a dog in a car with two wheels"
    assert words(prompt, subjects=("wheel", "dog")) == ["a dog in a car", "two wheels"]
    assert words("<rex> dog in a car", subjects=("car",)) == ["<rex> dog", "a car"]


def test_everyday_nouns_are_clean():
    nouns = everyday_nouns()
    assert len(nouns) == len(set(nouns)) > 800 and all(n == n.strip().lower() and n for n in nouns)
    assert [plural(n) for n in ("fox", "pony", "boy", "dog", "bus")] == [
        "foxes",
        "ponies",
        "boys",
        "dogs",
        "buses",
    ]
    assert all(any_of(nouns).fullmatch(noun) for noun in nouns)


@pytest.mark.parametrize(
    "written", ["<REX>", "＜rex＞", "< rex >", "<rex ", "rex>", "[rex]", "{rex}", "‹rex›", "〈Rex〉"]
)
def test_a_token_written_otherwise(written):
    with pytest.raises(PromptError, match=r"is not in this world; did you mean <rex>\?"):
        personal_tokens(f"a photo of {written} dog", KNOWN)


def test_a_name_without_brackets_is_only_asked_about():
    assert bare_names("a Rex dog and a tom", KNOWN) == [
        "'Rex dog' is read as plain words; did you mean <rex>, with the brackets?"
    ]
    assert bare_names("my dog rex", KNOWN) and not bare_names("<rex> dog, a t-rex, ada", KNOWN)


@pytest.mark.parametrize(
    "weight", ["(<rex> dog:1.3)", "((dog))", "[dog]", "(dog)1.2", "(dog)++", "<rex>++", "(((dog)):0.5)"]
)
def test_weights_are_refused(weight):
    with pytest.raises(PromptError, match="is an attention weight, which l2dm does not read"):
        without_escapes(f"a {weight} on the beach")


def test_brackets_that_are_meant():
    assert without_escapes(r"a \(red\) dog \[old\] (small)") == "a (red) dog [old] (small)"


_PIECES = st.sampled_from(
    [
        *KNOWN,
        "dog",
        "cat",
        "duck",
        "toy",
        "car",
        "a",
        "the",
        "my",
        "red",
        "and",
        ",",
        "with",
        "in",
        "on the left of",
        "of",
        "'s",
        "named",
        "(",
        ")",
        "chasing",
        "photo",
        "xyzzy",
        "is",
        " ",
        "\n",
        "ü",
        "<",
        ">",
    ]
)
_TEXTS = st.one_of(st.text(max_size=60), st.lists(_PIECES, max_size=16).map(" ".join))


@settings(max_examples=300, deadline=None)
@given(_TEXTS)
def test_any_text(prompt):
    found = phrases(prompt, KNOWN, ("xyzzy",))
    end = 0
    for one in found:
        low, high = one.span
        assert end <= one.start <= low < high <= one.end <= len(prompt)
        end = one.end
    tokens = [one.name for one in found if one.token]
    assert tokens == [prompt[slice(*one.token)] for one in found if one.token]
    assert sorted(tokens) == sorted(t for t in KNOWN for _ in range(prompt.count(t))), (
        "each token is one thing"
    )
    if found:
        made = parts(prompt) if found == phrases(prompt, KNOWN) else []
        for one, part in zip(found, made):
            assert [t for t in KNOWN for _ in range(part.count(t))] == ([one.name] if one.token else [])
            assert prompt[slice(*one.span)] in part


@settings(max_examples=200, deadline=None)
@given(_TEXTS)
def test_any_text_is_read_or_refused_in_a_line(prompt):
    for read in (lambda: personal_tokens(prompt, KNOWN), lambda: without_escapes(prompt)):
        try:
            read()
        except PromptError as error:
            assert error.args
    bare_names(prompt, KNOWN)


def test_positions_of_what_stands_apart(backbone):
    (one,) = mentions("a dog named <rex>", KNOWN, backbone)
    assert one.noun == (2,) and one.personal[0] > 2 and one.all == tuple(sorted(one.noun + one.personal))
    with pytest.raises(PromptError, match="subjects: 'horse' is not in the prompt"):
        mentions("a dog", {}, backbone, (), ("horse",))


def test_pictures_tell_what_was_found_and_done(world):
    (picture,) = world.generate("a black cat and a white sock", n=1, steps=2, composition="collage")
    told = picture.provenance
    assert told["composition"] == "collage" and json.loads(told["subjects"]) == ["cat", "sock"]
    assert json.loads(told["parts"]) == ["a black cat", "a white sock"]
    with pytest.warns(PromptWarning, match=r"composition: none \(oaa needs two things or more; found cat\)"):
        (picture,) = world.generate("a cat", n=1, steps=1, composition="oaa")
    assert picture.provenance["guidance"] == "none" and "found cat" in picture.provenance["notes"]
    (picture,) = world.generate(
        r"a cat \(old\) in a car", n=1, steps=1, composition="artists", subjects="cat, car"
    )
    assert picture.prompt == r"a cat \(old\) in a car" == picture.provenance["prompt"]
    assert json.loads(picture.provenance["subjects"]) == ["cat", "car"]
    assert picture.provenance["composition"] == "artists; sampler: dpmsolver++ in place of sde-dpmsolver++"
