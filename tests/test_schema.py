"""Manifests from strangers: every wrong type, size or contradiction is one line that names the place."""

from __future__ import annotations

import dataclasses

import pytest

from l2dm.concept import check_noun
from l2dm.concept.words import file_stem
from l2dm.errors import WorldDamaged
from l2dm.world import schema
from l2dm.world.manifest import Manifest, Version
from l2dm.world.names import picture_file
from l2dm.world.sealed import seal

VERSION = Version(
    1, 0, "2026-01-01", "<rex>", "dog", 3, 1.5, {"method": "l2dm", "seed": 1}, {"<rex>": "dog"},
    {"noun-teddy_bear.png": "0" * 64}, {"<rex>": {"likeness": 0.5, "own": 1.0, "version": 1}}, {"dog": 0.1},
)  # fmt: skip
GOOD = Manifest("mini", "0" * 32, "switched", 1, 1, {1: VERSION}, [{"at": "2026", "action": "init"}])


def read(place, content):
    place.mkdir(exist_ok=True)
    raw = content if isinstance(content, bytes) else seal(content)
    (place / "manifest.json").write_bytes(raw)
    return Manifest.read(place, whole=False)


LINE = {"at": "2026-01-01", "action": "undo"}


def test_a_good_manifest_is_read_as_it_was_written(tmp_path):
    GOOD.write(tmp_path)
    assert Manifest.read(tmp_path, whole=False) == GOOD


@pytest.mark.parametrize(
    "changes",
    [
        {"base": 5}, {"base": "a\x1b[31mb"}, {"tuner": "nope"}, {"head": 7}, {"head": True}, {"versions": []},
        {"journal": {}}, {"journal": [{}]}, {"journal": [5]}, {"journal": [{**LINE, "version": [1]}]},
        {"journal": [{**LINE, "action": "rename"}]}, {"journal": [{**LINE, "was": 5}]}, {"counter": 0}, {"extra": 1}, {"format": "1"},
        {"fingerprint": "/"}, {"versions": {"x": {}}}, {"versions": {"1": []}},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_manifest_is_named(tmp_path, changes):
    with pytest.raises(WorldDamaged, match=rf"manifest\.json: .*{next(iter(changes))}"):
        read(tmp_path, {**dataclasses.asdict(GOOD), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"noun": "/etc/passwd"}, {"noun": "Dog"}, {"token": "rex"}, {"parent": 4}, {"parent": 1}, {"version": 2},
        {"files": {"../x": "0" * 64}}, {"files": {"x": "short"}}, {"concepts": {"<rex>": "/tmp/x"}},
        {"concepts": ["<rex>"]}, {"drift": {"dog": "x"}}, {"drift": {"../dog": 1}}, {"settings": {"seed": 1}},
        {"files": {"nul.txt": "0" * 64}}, {"files": {"a.": "0" * 64}}, {"files": {"a.png": "0" * 64, "A.png": "0" * 64}},
        {"settings": {"method": ["l2dm"]}}, {"scores": {"<rex>": {}}}, {"scores": {"..": {}}}, {"seconds": float("nan")},
    ],
    ids=str,
)  # fmt: skip
def test_a_wrong_version_is_named(tmp_path, changes):
    raw = dataclasses.asdict(GOOD)
    raw["versions"][1] |= changes
    with pytest.raises(WorldDamaged, match=r"manifest\.json: not a (readable|valid) manifest \(versions\.1"):
        read(tmp_path, raw)


@pytest.mark.parametrize(
    "content",
    [b"[" * 100_000, b'{"format":' * 100_000, b'{"a":"\\ud800"}', b"\xff\xfe", b"", b"null", b" " * (33 << 20),
     b'{"format": 1, "journal": [' + b"1," * 1_100_000 + b"1]}"],
    ids=["deep list", "deep table", "half a surrogate", "not UTF-8", "empty", "null", "huge", "many"],
)  # fmt: skip
def test_what_is_no_manifest_is_named(tmp_path, content):
    with pytest.raises(WorldDamaged, match=r"manifest\.json: "):
        read(tmp_path, content)


def test_other_records_are_checked_too(tmp_path):
    for content in ('{"/etc/x": []}', '{"<rex>": [1]}', "[]", '{"<rex>": ["' + "x" * 5000 + '"]}'):
        with pytest.raises(WorldDamaged, match=r"memory\.json: "):
            schema.parse(content.encode(), schema.PROMPTS, tmp_path / "memory.json", "a way out")


def test_two_nouns_never_share_a_file():
    nouns = ["teddy bear", "teddy-bear", "teddy bear's", "châtaigne"]
    assert len({file_stem(noun) for noun in nouns}) == len({picture_file(noun) for noun in nouns}) == 4
    assert check_noun("cha\u0302taigne") == "châtaigne", "accents as macOS's file names have them"
