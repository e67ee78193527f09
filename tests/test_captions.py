"""Captions as people have them: beside a photo under any name, for a whole folder, with other tools'
placeholders.
"""

from __future__ import annotations

import json

import pytest
from conftest import paint

from l2dm import Concept, check_photos
from l2dm.errors import PhotoError


def test_captions_beside_photos(tmp_path):
    paint().save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("a dog\n on a  ledge\n")
    assert check_photos(tmp_path).photos[0].caption == "a dog on a ledge"


def test_a_captioned_photo_is_also_learnt_by_the_plain_sentence(tmp_path):
    for i in range(2):
        paint(i).save(tmp_path / f"{i}.png")
    (tmp_path / "0.txt").write_text("a dog on a ledge")
    concept = Concept.read(tmp_path, "<rex>", "dog")
    assert concept.prompts(concept.photos[0]) == ["<rex> dog on a ledge", "a photo of <rex> dog"]
    assert len(concept.prompts(concept.photos[1])) == 5 and all(
        "<rex> dog" in p for p in concept.prompts(concept.photos[1])
    )


@pytest.mark.parametrize("name", ["a.txt", "a.TXT", "a.png.txt", "a.caption", "a.png.caption"])
def test_captions_under_every_name(tmp_path, name):
    paint().save(tmp_path / "a.png")
    (tmp_path / name).write_text("\ufeffa dog on a ledge", encoding="utf-8")
    report = check_photos(tmp_path)
    assert report.photos[0].caption == "a dog on a ledge" and not report.notes


def test_captions_of_an_imagefolder(tmp_path):
    for name in ("a.png", "b.png"):
        paint(ord(name[0])).save(tmp_path / name)
    rows = [{"file_name": name, "text": f"a dog in {name[0]}"} for name in ("a.png", "b.png", "c.png")]
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (tmp_path / "b.txt").write_text("its own")
    report = check_photos(tmp_path)
    assert [p.caption for p in report.photos] == ["a dog in a", "its own"]
    assert "metadata.jsonl" in report.photos[1].notes[0] and "'c.png'" in report.notes[0]
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.png"}')
    assert "metadata.jsonl: line 1" in check_photos(tmp_path).problems[0]


def test_a_caption_without_a_photo_is_named(tmp_path):
    paint().save(tmp_path / "a.png")
    (tmp_path / "dd.txt").write_text("a dog")
    (note,) = check_photos(tmp_path).notes
    assert "dd.txt: a caption without a photo" in note


@pytest.mark.parametrize(
    "caption, said",
    [
        ("<TOK> on grass", "write <rex> or dog"),
        ("a photo of <Rex> dog", "did you mean <rex>"),
        ("[trigger] on grass", "another tool's placeholder"),
        ("a photo of {} dog", "another tool's placeholder"),
        ("<other> on grass", "not in this world"),
    ],
)
def test_placeholders_in_captions_are_refused(tmp_path, caption, said):
    paint().save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text(caption)
    with pytest.raises(PhotoError, match=said):
        Concept.read(tmp_path, "<rex>", "dog")


def test_captions_may_name_other_concepts_of_the_world(tmp_path):
    paint().save(tmp_path / "a.png")
    (tmp_path / "a.txt").write_text("<rex> dog beside <tom> cat")
    assert Concept.read(tmp_path, "<rex>", "dog", known=("<tom>",)).photos
