"""Every common format and trouble of photos."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from conftest import paint
from PIL import Image, ImageCms

from benchmarks.stress.photos import checked
from l2dm import check_photos
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


@pytest.mark.parametrize("size", [36, 48])
def test_a_shrunken_picture_counts_where_it_is_itself(size):
    image = Image.fromarray(np.random.default_rng(0).integers(256, size=(64, 64, 3), dtype=np.uint8))
    part, own = shrunken(image, size, (32, 64), (17.0, 30.0))
    rows, columns = own.any(1).nonzero()[0], own.any(0).nonzero()[0]
    assert part.shape == (64, 32, 3) and own.sum() == len(rows) * len(columns)
    assert rows.tolist() == list(range(30 - size // 2, 30 + size // 2)) and columns.tolist() == list(
        range(32)
    )
    small = np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))
    left = size // 2 - 17
    assert (part[own].reshape(size, 32, 3) == small[:, left : left + 32]).all()
    assert (part[: rows[0]] == part[rows[0]]).all() and (part[rows[-1] :] == part[rows[-1]]).all(), (
        "edges are drawn out"
    )


def exchanged() -> bytes:
    """A colour profile whose red is sRGB's blue, and the other way round."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[at : at + 4]): at for at in range(132, 132 + 12 * count, 12)}
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    data[red + 4 : red + 12], data[blue + 4 : blue + 12] = (
        data[blue + 4 : blue + 12],
        data[red + 4 : red + 12],
    )
    return bytes(data)


@pytest.mark.parametrize("kind, mode", [("PNG", "RGB"), ("PNG", "RGBA"), ("TIFF", "RGB"), ("JPEG", "RGB")])
def test_colours_are_read_by_the_photos_own_profile(tmp_path, kind, mode):
    data = encoded(Image.new(mode, (50, 50), "red"), kind, icc_profile=exchanged())
    photo = one(tmp_path, f"a.{kind.lower()}", data).photos[0]
    assert np.abs(np.array(photo.image.getpixel((5, 5))) - (0, 0, 255)).max() <= 4
    assert any("to sRGB" in note for note in photo.notes)


def test_a_profile_of_srgb_changes_nothing(tmp_path):
    own = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    photo = one(tmp_path, "a.png", encoded(paint(), "PNG", icc_profile=own)).photos[0]
    assert (np.asarray(photo.image) == np.asarray(paint())).all() and not photo.notes


@pytest.mark.parametrize(
    "mode, profile", [("RGB", b"no profile at all"), ("RGB", exchanged()[:300]), ("CMYK", exchanged())]
)
def test_a_broken_profile_is_left_out_and_said(tmp_path, mode, profile):
    image = paint().convert(mode)
    photo = one(tmp_path, "a.jpg", encoded(image, "JPEG", icc_profile=profile)).photos[0]
    assert "taken as sRGB" in photo.notes[0]


@pytest.mark.parametrize("most", [0.5, 1.0])
def test_float_pictures_go_from_0_to_1(tmp_path, most):
    values = np.full((50, 50), most, np.float32)
    photo = one(tmp_path, "a.tiff", encoded(Image.fromarray(values), "TIFF")).photos[0]
    assert abs(photo.image.getpixel((5, 5))[0] - 255 * most) <= 1


def test_sixteen_bit_is_scaled_by_its_range_not_by_what_it_holds(tmp_path):
    for kind in ("PNG", "TIFF"):
        data = encoded(Image.fromarray(np.full((50, 50), 200, np.uint16)), kind)
        assert one(tmp_path, f"a.{kind.lower()}", data).photos[0].image.getpixel((5, 5))[0] == 1
        (tmp_path / f"a.{kind.lower()}").unlink()


def test_avif_is_read_and_heic_too_or_the_way_out_named(tmp_path, monkeypatch):
    assert not one(tmp_path, "a.avif", encoded(paint(), "AVIF")).problems
    (tmp_path / "b.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    assert "HEIC: install l2dm[heic], or save it as JPEG" in check_photos(tmp_path).problems[0]


def test_heic_is_read(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.register_heif_opener()
    photo = one(tmp_path, "a.heic", encoded(paint(), "HEIF")).photos[0]
    assert np.abs(np.asarray(photo.image, float) - np.asarray(paint(), float)).mean() < 6


def test_wide_photos_say_what_share_is_learnt(tmp_path):
    photo = one(tmp_path, "a.png", encoded(paint(size=(300, 1200)), "PNG")).photos[0]
    assert photo.notes == ("the middle 25% is learnt, the centre square; more of it with buckets",)
    assert not one(tmp_path, "b.png", encoded(paint(1, (400, 300)), "PNG")).photos[1].notes


def test_large_photos_are_kept_small(tmp_path):
    for kind in ("JPEG", "PNG", "GIF"):
        paint(size=(4000, 3000)).save(tmp_path / f"a.{kind.lower()}")
        photo = check_photos(tmp_path).photos[0]
        assert photo.size == (4000, 3000) and min(photo.image.size) == 1024
        (tmp_path / f"a.{kind.lower()}").unlink()


def png_header(width: int, height: int, bits: int, colours: int) -> bytes:
    import zlib

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("bits, colours", [(16, 0), (8, 2), (16, 6)])
def test_what_takes_too_much_memory_is_refused_by_its_header(tmp_path, bits, colours):
    (problem,) = one(tmp_path, "a.png", png_header(13000, 13000, bits, colours)).problems
    assert "13000 x 13000" in problem and "GiB to decode" in problem and "save it smaller" in problem


@pytest.mark.skipif(not hasattr(os, "wait4"), reason="peaks are told by wait4")
def test_five_thousand_photos_are_refused_at_once(tmp_path):
    """Before any is opened, by a command that has not even loaded what would open it."""
    for i in range(5000):
        (tmp_path / f"{i}.jpg").touch()
    found = checked(tmp_path)
    assert "5,000 photos; a concept takes at most 30" in found["said"] and found["exit_code"] == 2
    assert found["processor_seconds"] < 1 and found["peak_mb"] < 100
    code = (
        "import sys; from l2dm.cli.terminal import run; from l2dm.cli import app; run(app, ['check', "
        "sys.argv[1]])"
    )
    code += "; print({'PIL', 'numpy', 'torch'} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"


@pytest.mark.parametrize(("size", "usable"), [((200, 31), 0), ((31, 200), 0), ((200, 32), 1)])
def test_a_photos_short_side_decides_whether_it_is_too_small(tmp_path, size, usable):
    Image.new("RGB", size, "red").save(tmp_path / "a.png")
    assert len(check_photos(tmp_path).photos) == usable
