"""Aspect-ratio buckets, and photos given as lists."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import paint
from learning import begin, fresh
from PIL import Image
from teaching import teach, weights

from l2dm import World, check_photos
from l2dm.concept import Concept
from l2dm.errors import PhotoError
from l2dm.learner import Rows, objective
from l2dm.learner.photos import buckets, shape_for
from l2dm.retention import Past
from l2dm.settings import LearnSettings


class Base:
    side, grain = 512, 64


@pytest.mark.parametrize(
    "size, shape",
    [
        ((900, 900), (512, 512)),
        ((3000, 2000), (640, 384)),
        ((2000, 3000), (384, 640)),
        ((1000, 980), (512, 512)),
        ((4000, 500), (704, 320)),
    ],
)
def test_a_photo_goes_to_the_nearest_shape_of_the_bases_area(size, shape):
    wide, high = shape_for(size, Base)
    assert (wide, high) == shape and wide * high <= 512 * 512 and wide % 64 == high % 64 == 0


def test_every_shape_is_near_its_photos(tmp_path):
    for width in range(500, 1001, 10):
        wide, high = shape_for((width, 500), Base)
        assert abs(math.log(wide / high) - math.log(width / 500)) < 0.25 and wide * high > 0.8 * 512 * 512


@pytest.fixture
def long(tmp_path):
    """Two wide photos, a tall one and a square one."""
    folder = tmp_path / "long"
    folder.mkdir()
    for i, size in enumerate([(160, 90), (90, 160), (170, 92), (80, 80)]):
        paint(i, size).save(folder / f"{i}.png")
    return folder


def test_photos_are_learnt_in_their_own_shape(long):
    concept = Concept.read(long, "<rex>", "dog")
    found = buckets(fresh(), concept.photos, LearnSettings(buckets=True, flip=True))
    assert {tuple(b.latents.shape): b.photos for b in found} == {
        (2, 2, 4, 6, 10): [0, 2],
        (1, 2, 4, 10, 6): [1],
        (1, 2, 4, 8, 8): [3],
    }
    (square,) = buckets(fresh(), concept.photos, LearnSettings())
    assert square.latents.shape == (4, 1, 4, 8, 8) and square.photos == [0, 1, 2, 3]


def test_a_step_has_one_bucket_and_every_photo_is_as_likely(long):
    learning = begin(long, "textual-inversion", buckets=True, batch=2)
    generator, seen = torch.Generator().manual_seed(0), dict.fromkeys([(6, 10), (10, 6), (8, 8)], 0)
    for _ in range(400):
        rows = learning.photo_rows(2, lambda high, size: torch.randint(high, (size,), generator=generator))
        seen[tuple(rows.latents.shape[2:])] += 1
        assert all("<rex> dog" in prompt for prompt in rows.prompts)
    assert seen[6, 10] == pytest.approx(200, abs=40) and seen[8, 8] == pytest.approx(100, abs=35)


def test_rows_of_other_shapes_are_learnt_in_the_same_step(long, monkeypatch):
    prior = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    learning, sizes = (
        begin(long, "custom-diffusion", past=Past({"a dog": prior}), buckets=True, steps=4),
        set(),
    )
    forward = learning.backbone.unet.forward
    monkeypatch.setattr(
        learning.backbone.unet,
        "forward",
        lambda x, *a, **k: (sizes.add(tuple(x.shape)), forward(x, *a, **k))[1],
    )
    assert all(set(step.terms) == {"concept", "prior"} for step in learning.run())
    assert {shape[2:] for shape in sizes} > {(8, 8)} and sizes <= {
        (1, 4, 8, 8),
        (2, 4, 8, 8),
        (1, 4, 6, 10),
        (1, 4, 10, 6),
    }


def test_two_shapes_add_up_to_the_sum_of_their_losses():
    backbone, g = fresh(), torch.Generator().manual_seed(2)
    wide = Rows("concept", 1.0, torch.randn(2, 4, 6, 10, generator=g), ["a dog", "a cat"])
    square = Rows("prior", 0.5, torch.randn(2, 4, 8, 8, generator=g), ["a cat"] * 2)
    with torch.no_grad():
        both, told = objective(backbone, [wide, square], torch.Generator().manual_seed(9))
        generator = torch.Generator().manual_seed(9)
        apart = [objective(backbone, [rows], generator) for rows in (wide, square)]
    assert both.item() == pytest.approx(sum(loss.item() for loss, _ in apart), rel=1e-6)
    assert told == {**apart[0][1], **apart[1][1]}


def test_a_lesson_in_buckets_is_taken_up_as_it_was(world, long):
    def stop(progress):
        if progress.stage == "learn" and progress.done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        teach(world, long, buckets=True, on_progress=stop)
    teach(world, long, buckets=True)
    other = World.create(world.path.parent / "other", world.manifest.base)
    teach(other, long, buckets=True)
    theirs = weights(other)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(world).items())


def test_photos_as_a_list_of_paths_and_pictures(photos, world):
    (photos / "1.txt").write_text("a dog on a ledge")
    (photos / "2.txt").write_text("not asked for")
    asked = [photos / "0.png", str(photos / "1.png"), paint(5), paint(6).convert("RGBA")]
    report = check_photos(asked)
    assert not report.problems and not report.notes
    assert [photo.caption for photo in report.photos] == [None, "a dog on a ledge", None, None]
    assert [photo.path.name for photo in report.photos] == ["0.png", "1.png", "picture 3", "picture 4"]
    assert all(photo.image.mode == "RGB" for photo in report.photos)
    turned = Image.Exif()
    turned[0x0112] = 6
    paint(7, (60, 40)).save(photos / "turned.jpg", exif=turned)
    with Image.open(photos / "turned.jpg") as picture:
        assert check_photos([picture]).photos[0].size == (40, 60) and picture.size == (60, 40)
    assert teach(world, asked).photos == 4


@pytest.mark.parametrize(
    "asked, said",
    [
        (["nowhere.png"], "nowhere.png: no such file"),
        (["."], "a folder in a list of photos"),
        ([7], "photo 1: a int; give a path or a picture of Pillow"),
        ([paint(i) for i in range(31)], "31 photos; a concept takes at most 30"),
        ([], "no usable photo"),
        ([paint(), paint()], "picture 2: the same picture as picture 1"),
    ],
)
def test_a_list_that_cannot_be_used(asked, said):
    with pytest.raises(PhotoError, match=said):
        check_photos(asked).usable()


def test_a_tilde_is_the_users_own_folder(photos, tmp_path, monkeypatch, world):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(check_photos("~/photos").photos) == 3 and len(check_photos(["~/photos/0.png"]).photos) == 1
    assert World.open("~/world").path == tmp_path / "world"
    made = World.create("~/other", world.manifest.base)
    assert (tmp_path / "other/manifest.json").exists() and teach(made, "~/photos").photos == 3
