"""Every common format and trouble of photos."""

from __future__ import annotations

import io

import numpy as np
import pytest
from conftest import paint
from PIL import Image

from l2dm import Concept, check_photos
from l2dm.concept import shrunken
from l2dm.errors import PhotoError


def one(folder, name, data: bytes):
    (folder / name).write_bytes(data)
    return check_photos(folder)


def encoded(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_format_gives_the_same_picture(tmp_path, kind):
    report = one(tmp_path, f"a.{kind.lower()}", encoded(paint(), kind))
    assert not report.problems
    difference = np.abs(np.asarray(report.photos[0].image, float) - np.asarray(paint(), float)).mean()
    assert difference < 6, "lossy formats may differ a little, not more"


def test_exif_rotation_is_applied(tmp_path):
    image, exif = paint(size=(80, 40)), Image.Exif()
    exif[0x0112] = 6
    report = one(tmp_path, "a.jpg", encoded(image, "JPEG", exif=exif))
    assert report.photos[0].image.size == (40, 80)
    assert "EXIF" in report.photos[0].notes[0]


def test_transparency_is_laid_on_white(tmp_path):
    image = Image.new("RGBA", (50, 50), (255, 0, 0, 0))
    assert one(tmp_path, "a.png", encoded(image, "PNG")).photos[0].image.getpixel((5, 5)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "1"])
def test_modes_become_rgb(tmp_path, mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    photo = one(tmp_path, "a." + kind.lower(), encoded(paint().convert(mode), kind)).photos[0]
    assert photo.image.mode == "RGB"
    assert f"{mode} converted" in photo.notes[-1]


def test_sixteen_bit_keeps_its_brightness(tmp_path):
    values = np.full((50, 50), 32768, np.uint16)
    photo = one(tmp_path, "a.png", encoded(Image.fromarray(values), "PNG")).photos[0]
    assert abs(photo.image.getpixel((5, 5))[0] - 128) <= 1


def test_first_frame_of_an_animation(tmp_path):
    data = encoded(paint(0), "GIF", save_all=True, append_images=[paint(1), paint(2)])
    photo = one(tmp_path, "a.gif", data).photos[0]
    assert "first of 3 frames" in photo.notes


def test_bad_files_are_named_one_by_one(tmp_path):
    data = encoded(paint(0, (300, 300)), "JPEG", quality=95)
    (tmp_path / "good.png").write_bytes(encoded(paint(), "PNG"))
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    (tmp_path / "notes.docx").write_bytes(b"hello")
    (tmp_path / "twice.png").write_bytes(encoded(paint(), "PNG"))
    (tmp_path / "tiny.png").write_bytes(encoded(paint(1, (8, 8)), "PNG"))
    report = check_photos(tmp_path)
    assert [p.path.name for p in report.photos] == ["good.png"]
    said = "\n".join(report.problems)
    for words in (
        "empty.jpg: the file is empty",
        "cut.jpg: broken",
        "notes.docx: not a photo",
        "twice.png: the same picture as good.png",
        "tiny.png: 8 x 8",
    ):
        assert words in said
    with pytest.raises(PhotoError, match="--skip-bad"):
        report.usable()
    assert report.usable(skip_bad=True) == report.photos


def test_folders(tmp_path):
    with pytest.raises(PhotoError, match="no such folder"):
        check_photos(tmp_path / "nowhere")
    with pytest.raises(PhotoError, match="no usable photo"):
        check_photos(tmp_path).usable()
    for i in range(31):
        paint(i).save(tmp_path / f"{i}.png")
    with pytest.raises(PhotoError, match="at most 30"):
        check_photos(tmp_path).usable()


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


@pytest.mark.parametrize("size", [36, 48])
def test_a_shrunken_picture_counts_where_it_is_itself(size):
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    part, own = shrunken(image, size, (32, 64), (17.0, 30.0))
    rows, columns = own.any(1).nonzero()[0], own.any(0).nonzero()[0]
    assert part.shape == (64, 32, 3) and own.sum() == len(rows) * len(columns)
    assert rows.tolist() == list(range(30 - size // 2, 30 + size // 2)) and columns.tolist() == list(
        range(32)
    )
    small = np.asarray(image.resize((size, size), Image.LANCZOS))
    left = size // 2 - 17
    assert (part[own].reshape(size, 32, 3) == small[:, left : left + 32]).all()
    assert (part[: rows[0]] == part[rows[0]]).all() and (part[rows[-1] :] == part[rows[-1]]).all(), (
        "edges are drawn out"
    )
