"""Manifests from strangers: every wrong type, size or contradiction is one line that names the place."""

from __future__ import annotations

import dataclasses
import json

import pytest
from pydantic import TypeAdapter, ValidationError

from l2dm.concept import check_noun
from l2dm.concept.words import file_stem
from l2dm.errors import WorldDamaged
from l2dm.world import packing, schema
from l2dm.world.manifest import Manifest, Version
from l2dm.world.names import picture_file
from l2dm.world.recorded import Recorded
from l2dm.world.sealed import seal

VERSION = Version(
    1,
    0,
    "2026-01-01",
    "<rex>",
    "dog",
    3,
    1.5,
    {"method": "l2dm", "seed": 1},
    {"<rex>": "dog"},
    {},
    {"<rex>": {"likeness": 0.5, "own": 1.0, "version": 1}},
    {"dog": 0.1},
    record="0" * 64,
)
GOOD = Manifest("mini", "0" * 32, "gated_lora", 1, 1, {1: VERSION}, [{"at": "2026", "action": "init"}])


EARLIER = dataclasses.replace(
    GOOD, format=2, versions={1: dataclasses.replace(VERSION, files={"noun-teddy_bear.png": "0" * 64})}
)


def read(place, content):
    place.mkdir(exist_ok=True)
    raw = content if isinstance(content, bytes) else seal(content)
    (place / "manifest.json").write_bytes(raw)
    return Manifest.read(place, verify=False)


LINE = {"at": "2026-01-01", "action": "undo"}


def test_a_good_manifest_is_read_as_it_was_written(tmp_path):
    GOOD.write(tmp_path)
    assert Manifest.read(tmp_path, verify=False) == GOOD


@pytest.mark.parametrize(
    "changes",
    [
        {"base": 5},
        {"base": "a\x1b[31mb"},
        {"tuner": "nope"},
        {"head": 7},
        {"head": True},
        {"versions": []},
        {"journal": {}},
        {"journal": [{}]},
        {"journal": [5]},
        {"journal": [{**LINE, "version": [1]}]},
        {"journal": [{**LINE, "action": "rename"}]},
        {"journal": [{**LINE, "was": 5}]},
        {"counter": 0},
        {"extra": 1},
        {"format": "1"},
        {"fingerprint": "/"},
        {"versions": {"x": {}}},
        {"versions": {"1": []}},
    ],
    ids=str,
)
@pytest.mark.parametrize("made", [GOOD, EARLIER], ids=["now", "format 2"])
def test_a_wrong_manifest_is_named(tmp_path, changes, made):
    with pytest.raises(WorldDamaged, match=rf"manifest\.json: .*{next(iter(changes))}"):
        read(tmp_path, {**made.told(), **changes})


WRONG = [
    {"noun": "/etc/passwd"},
    {"noun": "Dog"},
    {"token": "rex"},
    {"parent": 4},
    {"parent": 1},
    {"version": 2},
    {"concepts": {"<rex>": "/tmp/x"}},
    {"concepts": ["<rex>"]},
    {"drift": {"dog": "x"}},
    {"drift": {"../dog": 1}},
    {"settings": {"seed": 1}},
    {"settings": {"method": ["l2dm"]}},
    {"scores": {"<rex>": {}}},
    {"scores": {"..": {}}},
    {"seconds": float("nan")},
]
WRONG_FILES = [
    {"../x": "0" * 64},
    {"x": "short"},
    {"nul.txt": "0" * 64},
    {"a.": "0" * 64},
    {"a.png": "0" * 64, "A.png": "0" * 64},
]
WRONG_TABLES = [
    {"record": "short"},
    {"record": None},
    {"files": {}},
    {"pictures": ["../dog"]},
    {"spared": ["../x"]},
    {"drawn": {"<rex>": 5}},
    {"anew": ["files"]},
    {"anew": ["concepts"], "concepts": {"<rex>": None}},
    {"scores": {"<rex>": [0.5, 1.0]}},
    {"scores": {"<rex>": [0.5, 1.0, -1]}},
    {"concepts": {"<tom>": None}},
]


@pytest.mark.parametrize(
    ("made", "changes"),
    [
        *((GOOD, changes) for changes in WRONG + WRONG_TABLES),
        *((EARLIER, changes) for changes in [*WRONG, *({"files": wrong} for wrong in WRONG_FILES)]),
    ],
    ids=lambda given: f"format {given.format}" if isinstance(given, Manifest) else str(given),
)
def test_a_wrong_version_is_named(tmp_path, made, changes):
    raw = json.loads(json.dumps(made.told()))
    raw["versions"]["1"] |= changes
    with pytest.raises(WorldDamaged, match=r"manifest\.json: not a (readable|valid) manifest \(versions\.1"):
        read(tmp_path, raw)


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"format":' * 100_000,
        b'{"a":"\\ud800"}',
        b"\xff\xfe",
        b"",
        b"null",
        b" " * (33 << 20),
        b'{"format": 1, "journal": [' + b"1," * 1_100_000 + b"1]}",
    ],
    ids=["deep list", "deep table", "half a surrogate", "not UTF-8", "empty", "null", "huge", "many"],
)
def test_what_is_no_manifest_is_named(tmp_path, content):
    with pytest.raises(WorldDamaged, match=r"manifest\.json: "):
        read(tmp_path, content)


def test_a_version_says_what_is_otherwise_than_before_and_is_read_whole(tmp_path):
    """Also where it is called otherwise, in another order, forgotten, or goes on from another than the one
    before.
    """
    said = {"method": "l2dm", "seed": 1}
    score = {"likeness": 0.123456789012345678, "own": 0.75, "version": 2}
    story = [
        {"concepts": {"<rex>": "dog"}},
        {"concepts": {"<rex>": "dog", "<tom>": "cat"}, "scores": {"<tom>": score}},
        {"concepts": {"<max>": "dog", "<tom>": "cat"}, "settings": {}},
        {"concepts": {"<tom>": "cat"}, "drawn": ["<tom>"], "spared": ["a.png"]},
        {
            "concepts": {"<tom>": "cat", "<ada>": "owl"},
            "drawn": [],
            "settings": {"method": "ewc", "x": None},
            "threads": [(0, 2), (7, 1)],
        },
        {
            "parent": 3,
            "concepts": {"<tom>": "cat", "<max>": "dog"},
            "pictures": ["<tom>", "cat"],
            "drift": {"cat": 0.5},
        },
    ]
    versions = {}
    for number, changes in enumerate(story, start=1):
        facts = {
            "version": number,
            "parent": number - 1,
            "settings": said,
            "scores": {},
            "drift": {},
            **changes,
        }
        versions[number] = dataclasses.replace(VERSION, **facts)
    made = dataclasses.replace(GOOD, head=6, counter=6, versions=versions)
    made.write(tmp_path)
    again = Manifest.read(tmp_path, verify=False)
    assert again == made
    assert all(list(again.versions[n].concepts) == list(v.concepts) for n, v in versions.items())


def test_a_manifest_grows_by_as_much_with_every_concept():
    sizes, versions, concepts = [], {}, {}
    for number in range(1, 301):
        concepts = {**concepts, f"<c{number}>": "dog"}
        score = {"likeness": 0.5, "own": 1.0, "version": number}
        facts = {
            "version": number,
            "parent": number - 1,
            "concepts": concepts,
            "scores": dict.fromkeys(concepts, score),
        }
        versions[number] = dataclasses.replace(VERSION, **{**facts, "scores": {f"<c{number}>": score}})
        if number in (100, 200, 300):
            sizes.append(len(seal(dataclasses.replace(GOOD, versions=versions).told())))
    assert sizes[2] - sizes[1] < 1.1 * (sizes[1] - sizes[0]) and sizes[2] < 300_000


def test_a_small_manifest_cannot_fill_the_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "MOST_UNPACKED", 10)
    versions, concepts = {}, {}
    for number in range(1, 5):
        concepts = {**concepts, f"<c{number}>": "dog"}
        versions[number] = dataclasses.replace(VERSION, version=number, parent=number - 1, concepts=concepts)
    dataclasses.replace(GOOD, counter=4, versions=versions).write(tmp_path)
    with pytest.raises(WorldDamaged, match=r"versions\.4: with those before it, more than 10 entries"):
        Manifest.read(tmp_path, verify=False)


@pytest.mark.parametrize("wrong", WRONG_FILES, ids=str)
def test_a_wrong_record_of_files_is_named(tmp_path, wrong):
    (tmp_path / "files.json").write_bytes(seal({"files": wrong}))
    with pytest.raises(WorldDamaged, match=r"files\.json: not a readable files \(files"):
        Recorded.by_itself(tmp_path, "a way out")


def test_other_records_are_checked_too(tmp_path):
    for content in ('{"/etc/x": []}', '{"<rex>": [1]}', "[]", '{"<rex>": ["' + "x" * 5000 + '"]}'):
        with pytest.raises(WorldDamaged, match=r"memory\.json: "):
            schema.parse(content.encode(), schema.PROMPTS, tmp_path / "memory.json", "a way out")


def test_two_nouns_never_share_a_file():
    nouns = ["teddy bear", "teddy-bear", "teddy bear's", "châtaigne"]
    assert len({file_stem(noun) for noun in nouns}) == len({picture_file(noun) for noun in nouns}) == 4
    assert check_noun("cha\u0302taigne") == "châtaigne", "accents as macOS's file names have them"


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (schema.FileName, ["é", "a" * 200, "Rex's photo-1.png"], ["", "a" * 201, ".a", "a/b", "a\n", "nul"]),
        (schema.BaseName, ["a", "é" * 4096], ["", "a" * 4097, "a\nb", "a\n", "\x7f"]),
        (
            schema.Pending,
            [["learning"], ["versions/0001", "prior/" + "a" * 200]],
            [["prior/" + "a" * 201], ["versions/1"], ["learning\n"], ["prior/../a"], ["prior/"]],
        ),
    ],
)
def test_names_are_as_long_as_they_may_be_and_no_longer(kind, good, bad):
    reads = TypeAdapter(kind)
    assert [reads.validate_python(value) for value in good] == good
    for value in bad:
        with pytest.raises(ValidationError):
            reads.validate_python(value)
