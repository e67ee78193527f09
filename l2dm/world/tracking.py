"""Losses and samples for TensorBoard or Weights & Biases, by accelerate's trackers, if installed."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import SettingsError
from ..settings import LearnSettings

_NEEDS = {"tensorboard": ("tensorboard", "tensorboardX"), "wandb": ("wandb",)}


class Tracker:
    """Tells nobody."""

    def log(self, values: dict[str, float], step: int) -> None:
        """Values by name, after ``step``."""

    def picture(self, sheet: Image.Image, step: int) -> None:
        """Samples, after ``step``."""

    def close(self) -> None:
        """Nothing more will be told."""


class _Accelerated(Tracker):
    def __init__(self, settings: LearnSettings, run: str):
        from accelerate import PartialState
        from accelerate.tracking import TensorBoardTracker, WandBTracker

        PartialState()
        if settings.tracker == "tensorboard":
            self.own: Any = TensorBoardTracker(run, Path(settings.tracker_folder).expanduser())
        else:
            folder = Path(settings.tracker_folder).expanduser()
            folder.mkdir(parents=True, exist_ok=True)
            self.own = WandBTracker("l2dm", name=run, dir=str(folder))
        self.is_wandb = settings.tracker == "wandb"
        self.own.start()

    def log(self, values: dict[str, float], step: int) -> None:
        self.own.log(values, step=step)

    def picture(self, sheet: Image.Image, step: int) -> None:
        if self.is_wandb:
            self.own.log_images({"samples": [sheet]}, step=step)
        else:
            self.own.log_images({"samples": np.asarray(sheet)[None]}, step=step, dataformats="NHWC")

    def close(self) -> None:
        self.own.finish()


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def check_tracker(settings: LearnSettings) -> None:
    """Raises SettingsError where the tracker is not installed."""
    if settings.tracker == "none":
        return
    if not any(map(_installed, _NEEDS[settings.tracker])):
        raise SettingsError(
            f"tracker = {settings.tracker}: needs {settings.tracker}: pip install "
            f"'l2dm[{settings.tracker}]', or leave it out (losses and "
            "samples are in the world in any case)"
        )


def tracker(settings: LearnSettings, run: str) -> Tracker:
    """The one that ``settings`` ask for; ``run``: what this lesson is called there."""
    return Tracker() if settings.tracker == "none" else _Accelerated(settings, run)
