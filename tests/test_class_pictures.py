"""Regularization pictures of one's own in the place of drawn prior pairs."""

from __future__ import annotations

import pytest
import torch
from conftest import QUICK, paint
from learning import fresh
from teaching import teach, weights

from benchmarks.malformed import call
from l2dm import World
from l2dm.concept import Concept
from l2dm.concept.class_pictures import ClassPictures
from l2dm.errors import ConceptWarning, PhotoError, SettingsError
from l2dm.learner import Learning
from l2dm.learner.loop import drawing
from l2dm.memory import LongTerm
from l2dm.settings import LearnSettings
from l2dm.tuners import TUNERS
from l2dm.world.past import PastBuilder


@pytest.fixture
def dogs(tmp_path):
    """Three pictures of dogs, one with a caption."""
    folder = tmp_path / "dogs"
    folder.mkdir()
    for i in range(3):
        paint(20 + i, (90, 60)).save(folder / f"{i}.png")
    (folder / "1.txt").write_text("two dogs at the sea")
    return folder


def test_they_are_learnt_with_their_captions_and_nothing_is_drawn(photos, dogs, tmp_path):
    backbone, concept = fresh(), Concept.read(photos, "<rex>", "dog")
    settings = LearnSettings.of(
        QUICK, {"method": "custom-diffusion", "class_pictures": dogs, "precision": "float32"}
    )
    tuner, own = TUNERS["key_value"](backbone), ClassPictures.read(settings, "dog")
    builder = PastBuilder(tmp_path / "no-world", backbone, tuner, settings, 1.0, lambda *at: None)
    past, _ = builder.build(concept, {}, None, LongTerm(), {}, own)
    assert past.priors["a photo of a dog"].shape == (3, 4, 8, 8) and not (tmp_path / "no-world").exists()
    vector = backbone.add_token("<rex>", backbone.word_vector("dog"))
    learning = Learning(backbone, tuner, vector, concept, past, settings)
    seen = set()
    for seed in range(20):
        rows = learning.rows(torch.Generator().manual_seed(seed))[1]
        for prompt, latent in zip(rows.prompts, rows.latents):
            (entry,) = (i for i, z in enumerate(past.priors["a photo of a dog"]) if torch.equal(z, latent))
            seen.add((entry, prompt))
    assert seen == {(0, "a photo of a dog"), (1, "two dogs at the sea"), (2, "a photo of a dog")}
    assert learning.photo_rows(1, drawing(torch.Generator())).term == "concept"


def test_a_lesson_with_them_keeps_nothing_of_them(world, photos, dogs):
    teach(world, photos, method="custom-diffusion", class_pictures=dogs)
    assert not (world.path / "prior").exists()
    assert world.manifest.present.settings["class_pictures"] == "folder"
    assert str(dogs) not in (world.path / "manifest.json").read_text()
    other = World.create(world.path.parent / "other", world.manifest.base)
    teach(other, photos, method="custom-diffusion")
    theirs = weights(other)
    assert any(not torch.equal(tensor, theirs[name]) for name, tensor in weights(world).items())


def test_other_pictures_are_another_lesson(world, photos, dogs):
    def stop(progress):
        if progress.stage == "learn" and progress.done == 2:
            raise KeyboardInterrupt

    given = {"method": "custom-diffusion", "class_pictures": dogs, "checkpoint_every": 1}
    with pytest.raises(KeyboardInterrupt):
        teach(world, photos, **given, on_progress=stop)
    (dogs / "1.txt").write_text("a dog in the snow")
    with pytest.raises(Exception, match="an unfinished learning of <rex>"):
        teach(world, photos, **given)
    (dogs / "1.txt").write_text("two dogs at the sea")
    assert teach(world, photos, **given).version == 1


def test_too_few_are_told_and_learnt(world, photos, dogs):
    with pytest.warns(ConceptWarning, match=r"3 pictures of the class, where 5 would be drawn"):
        teach(world, photos, method="dreambooth", class_pictures=dogs, prior_pictures=5)
    given = [
        "--token",
        "<rex>",
        "--noun",
        "dog",
        "--class-pictures",
        str(dogs),
        "--method",
        "custom-diffusion",
        "--steps",
        "1",
    ]
    other = World.create(world.path.parent / "other", world.manifest.base)
    code, said = call(["learn", str(other.path), str(photos), *given])
    assert code == 0 and "3 pictures of the class, where 24 would be drawn" in said


def test_what_cannot_be_used_is_refused_before_anything(world, photos, dogs):
    def refused(kind, said, **changes):
        with pytest.raises(kind, match=said):
            teach(world, photos, **{"method": "custom-diffusion", "class_pictures": dogs, **changes})
        assert sorted(path.name for path in world.path.iterdir() if path.name[0] != ".") == [
            "manifest-copy.json",
            "manifest.json",
        ]

    empty = photos.parent / "empty"
    empty.mkdir()
    refused(
        SettingsError, "method 'gated-lora' .* learns no prior pairs.*custom-diffusion", method="gated-lora"
    )
    refused(SettingsError, "prior_weight = 0 learns no prior pairs", prior_weight=0)
    refused(PhotoError, "nowhere: no such folder", class_pictures=dogs / "nowhere")
    refused(PhotoError, "0 pictures of the class; give 1 to", class_pictures=empty)
    (dogs / "0.txt").write_text("a photo of <rex> dog")
    refused(PhotoError, "0.png: its caption says <rex>, but it is to show any dog")
    (dogs / "0.txt").unlink()
    (dogs / "0.png").write_bytes(b"no picture")
    refused(PhotoError, "0.png: a photo that this version of Pillow cannot read")
