"""Who else is told of a lesson: TensorBoard and Weights & Biases, by accelerate's trackers."""

from __future__ import annotations

import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType

import pytest
from PIL import Image
from teaching import teach
from test_watching import WATCHED, log

from l2dm.errors import SettingsError
from l2dm.world import tracking


def test_trackers_are_told_what_the_log_says(world, photos, tmp_path, monkeypatch):
    told = []

    class Board:
        def __init__(self, run, folder):
            told.append((run, str(folder)))

        def start(self):
            pass

        def log(self, values, step):
            told.append((step, values["loss"]))

        def log_images(self, values, step, dataformats):
            assert dataformats == "NHWC"
            told.append((step, values["samples"].shape[-1]))

        def finish(self):
            told.append("end")

    monkeypatch.setattr("accelerate.tracking.TensorBoardTracker", Board)
    monkeypatch.setattr(tracking, "_installed", lambda name: name == "tensorboard")
    teach(world, photos, **WATCHED, tracker="tensorboard", tracker_folder=str(tmp_path / "runs"))
    assert told[0] == ("world-rex-1", str(tmp_path / "runs")) and told[-1] == "end"
    expected = [(line["step"], line.get("loss", 3)) for line in log(world)]
    assert told[1:-1] == expected


def test_a_tracker_that_is_missing_is_told_before_anything(world, photos, monkeypatch):
    monkeypatch.setattr(tracking, "_installed", lambda name: False)
    for name in ("tensorboard", "wandb"):
        with pytest.raises(SettingsError, match=rf"tracker = {name}: needs .*pip install 'l2dm\[{name}\]'"):
            teach(world, photos, tracker=name)
    assert not (world.path / "learning").exists() and world.version == 0


def test_tensorboard_itself_reads_it(world, photos, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    teach(world, photos, **WATCHED, tracker="tensorboard", tracker_folder=tmp_path / "runs")
    read = EventAccumulator(str(tmp_path / "runs" / "world-rex-1")).Reload()
    losses = {line["step"]: line["loss"] for line in log(world) if "loss" in line}
    assert {one.step: one.value for one in read.Scalars("loss")} == pytest.approx(losses)
    assert [one.step for one in read.Images("samples")] == [2, 4]


def test_weights_and_biases_is_told_as_its_own_interface_asks(world, photos, tmp_path, monkeypatch):
    """By accelerate's own tracker, over a module that takes what ``wandb`` does, and no more."""
    told = []

    class Run:
        def log(self, data, step=None):
            told.append((step, data))

        def finish(self):
            told.append("end")

    def init(*, project, name, dir):
        assert os.path.isdir(dir), "wandb writes elsewhere where there is no such folder"
        told.append((project, name, dir))
        return Run()

    def image(picture):
        assert isinstance(picture, Image.Image)
        return picture.size

    module = ModuleType("wandb")
    module.init, module.Image, module.__spec__ = init, image, ModuleSpec("wandb", None)
    monkeypatch.setitem(sys.modules, "wandb", module)
    teach(world, photos, **WATCHED, tracker="wandb", tracker_folder=str(tmp_path / "runs"))
    assert told[0] == ("l2dm", "world-rex-1", str(tmp_path / "runs")) and told[-1] == "end"
    steps = [step for step, _ in told[1:-1]]
    assert steps == sorted(steps), "wandb drops what is told of an earlier step"
    values = {step: data["loss"] for step, data in told[1:-1] if "loss" in data}
    assert values == {line["step"]: line["loss"] for line in log(world) if "loss" in line}
    assert [step for step, data in told[1:-1] if len(data.get("samples", ())) == 1] == [2, 4]
