"""Masks of photos: which are found, what they weigh, and that they are cropped and mirrored with their
photos.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import paint
from learning import begin, fresh
from PIL import Image
from teaching import teach, weights

from benchmarks.stress.ground import say
from l2dm import check_photos
from l2dm.concept import Concept
from l2dm.errors import PhotoError, SettingsError
from l2dm.learner.mixes import mixes
from l2dm.learner.photos import buckets
from l2dm.retention import Past
from l2dm.settings import LearnSettings


def mask(size=(80, 72), box=(20, 0, 45, 36)) -> Image.Image:
    """Black, and white in ``box`` (left, top, right, bottom)."""
    made = Image.new("L", size)
    made.paste(255, box)
    return made


@pytest.fixture
def masks(photos, tmp_path):
    """A folder with masks of two of three photos, the second in half the size, and one of no photo."""
    folder = tmp_path / "masks"
    folder.mkdir()
    mask().save(folder / "0.png")
    mask().resize((40, 36)).save(folder / "1.jpg")
    mask().save(folder / "other.png")
    return folder


def found(photos, kind):
    return {photo.path.name: photo.masked_by for photo in check_photos(photos, str(kind)).photos}


def test_masks_are_found_by_the_photos_names(photos, masks):
    report = check_photos(photos, str(masks))
    assert found(photos, masks) == {"0.png": "0.png", "1.png": "1.jpg", "2.png": ""}
    assert [photo.mask and photo.mask.size for photo in report.photos] == [(80, 72), (80, 72), None]
    assert report.photos[1].notes == ("mask of 40 x 36 pixels, scaled",)
    assert report.photos[2].notes == ("no mask, so it is learnt whole",)
    assert report.notes == (f"{masks / 'other.png'}: a mask without a photo",) and not report.problems


def test_masks_beside_the_photos_are_never_photos(photos):
    for i in (0, 1, 7):
        mask().save(photos / f"{i}-masklabel.png")
    without = check_photos(photos)
    assert len(without.photos) == 3 and "masks = beside uses them" in without.notes[0]
    assert not any(photo.mask for photo in without.photos)
    assert found(photos, "beside") == {"0.png": "0-masklabel.png", "1.png": "1-masklabel.png", "2.png": ""}
    assert "7-masklabel.png: a mask without a photo" in check_photos(photos, "beside").notes[0]
    assert found([photos / "1.png", photos / "2.png"], "beside") == {"1.png": "1-masklabel.png", "2.png": ""}
    for i in range(10, 37):
        paint(i).save(photos / f"{i}.png")
    assert len(check_photos(photos, "beside").photos) == 30, "masks are not counted as photos"


def test_transparency_is_a_mask_where_it_is_asked_for(tmp_path):
    seen = paint()
    seen.putalpha(mask())
    seen.save(tmp_path / "a.png")
    assert check_photos(tmp_path).photos[0].mask is None
    (photo,) = check_photos(tmp_path, "alpha").photos
    assert photo.masked_by == "alpha" and np.array_equal(np.asarray(photo.mask), np.asarray(mask()))
    (open_already,) = check_photos([seen], "alpha").photos
    assert np.array_equal(np.asarray(open_already.mask), np.asarray(mask()))


def test_a_white_subject_on_nothing_is_its_mask(photos, tmp_path):
    shape = Image.new("RGBA", (80, 72), (255, 255, 255, 0))
    shape.paste((255, 255, 255, 255), (20, 0, 45, 36))
    (tmp_path / "m").mkdir()
    shape.save(tmp_path / "m" / "0.png")
    made = check_photos(photos, str(tmp_path / "m")).photos[0].mask
    assert np.array_equal(np.asarray(made), np.asarray(mask()))


@pytest.mark.parametrize(
    "made, said",
    [
        (mask((72, 80)), "0.png: 72 x 80 pixels, but its photo 0.png has 80 x 72"),
        (Image.new("L", (80, 72)), "0.png: nothing of the mask is white"),
        (b"no picture", "0.png: a photo that this version of Pillow cannot read, or broken"),
    ],
)
def test_a_mask_that_cannot_be_used_is_named(photos, tmp_path, made, said):
    (tmp_path / "m").mkdir()
    place = tmp_path / "m" / "0.png"
    place.write_bytes(made) if isinstance(made, bytes) else made.save(place)
    report = check_photos(photos, str(tmp_path / "m"))
    assert said in report.problems[0] and len(report.photos) == 2
    code, shown = say(["check", str(photos), "--masks", str(tmp_path / "m")])
    assert code == 2 and said.split(":")[0] in shown


def test_masks_that_are_nowhere_are_refused(photos, tmp_path, world):
    with pytest.raises(PhotoError, match="nowhere: no such folder"):
        check_photos(photos, str(tmp_path / "nowhere"))
    for kind in ("beside", "alpha", str(photos)):
        for skip_bad in (False, True):
            with pytest.raises(PhotoError, match="none of the photos has one"):
                Concept.read(photos, "<rex>", "dog", skip_bad, masks=kind)
    mask().save(photos / "0-masklabel.png")
    mask((80, 72), (0, 0, 3, 3)).save(photos / "1-masklabel.png")
    with pytest.raises(PhotoError, match="nothing white in the part that is learnt, 32 x 32"):
        teach(world, photos, masks="beside")
    assert not (world.path / "prior").exists(), "refused before anything is drawn"
    with pytest.raises(SettingsError, match="leave masks and buckets out"):
        teach(world, photos, masks="beside", method="joint")


def test_check_tells_of_masks(photos, masks):
    code, said = say(["check", str(photos), "--masks", str(masks), "--json"])
    told = json.loads(said)
    assert code == 0 and [row["mask"] for row in told["photos"]] == ["0.png", "1.jpg", None]
    assert "other.png: a mask without a photo" in told["notes"][0]
    assert "1.jpg" in say(["check", str(photos), "--masks", str(masks)])[1]


def test_masks_weigh_the_error_cropped_and_mirrored_with_the_photo(photos, masks):
    concept = Concept.read(photos, "<rex>", "dog", masks=str(masks))
    settings = LearnSettings(flip=True, mask_background=0.25)
    ((only),) = buckets(fresh(), concept.photos, settings)
    assert only.latents.shape == (3, 2, 4, 8, 8) and only.masks.shape == (3, 2, 1, 8, 8)
    first, mirrored = only.masks[0, :, 0]
    assert torch.equal(mirrored, first.flip(-1)) and (only.masks[2] == 1).all(), "without a mask all counts"
    # the square is the photo's middle 72 of 80 columns, of which 9 make a cell: white are its columns 16 to
    # 41, its rows up to 36
    assert (first[4:] == 0.25).all() and (first[:4, 2:4] == 1).all() and (first[:4, 5:] == 0.25).all()
    assert first[0, 1].item() == pytest.approx(0.25) and first[0, 4].item() == pytest.approx(5 / 9, abs=0.06)
    assert buckets(fresh(), Concept.read(photos, "<rex>", "dog").photos, settings)[0].masks is None


def test_rows_of_photos_and_of_mixes_carry_their_masks(photos):
    for i in range(3):
        mask().save(photos / f"{i}-masklabel.png")
    concept, z = Concept.read(photos, "<rex>", "dog", masks="beside"), torch.randn(1, 4, 8, 8)
    made = mixes(fresh(), concept, {"a cat": z}, False, seed=1, count=6, background=0.2)
    plain = mixes(fresh(), Concept.read(photos, "<rex>", "dog"), {"a cat": z}, False, seed=1, count=6)
    assert torch.equal(made.latents, plain.latents) and (made.masks <= plain.masks).all()
    beside = made.masks.view(6, 8, 2, 4)
    assert (beside.amin((1, 3)) == 0).all() and set(plain.masks.unique().tolist()) == {0.0, 1.0}
    assert ((made.masks == plain.masks) | (made.masks >= 0.2 - 1e-6)).all() and (
        made.masks != plain.masks
    ).any()
    learning = begin(photos, "gated-kv", past=Past(companions={"a cat": z}), mixes=2)
    assert learning.photo_rows(2, lambda high, size: torch.zeros(size, dtype=torch.long)).loss_mask is None


def test_a_masked_lesson_is_another_one_and_names_no_folder_of_the_users(world, photos, masks):
    teach(world, photos, masks=masks, mask_background=0.0, buckets=True)
    other = type(world).create(world.path.parent / "other", world.manifest.base)
    teach(other, photos)
    theirs = weights(other)
    assert any(not torch.equal(tensor, theirs[name]) for name, tensor in weights(world).items())
    assert world.manifest.present.settings["masks"] == "folder"
    assert str(masks) not in (world.path / "manifest.json").read_text()
