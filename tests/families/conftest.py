"""A tiny folder of every family, and a world that has learnt over it: made once for all that is held of
families.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from conftest import QUICK, paint

from families import ROWS

if TYPE_CHECKING:
    from l2dm import World
    from l2dm.backbone import Backbone


@pytest.fixture(scope="package", autouse=True)
def small():
    """Families whose configurations do not tell how large pictures are draw them as small as the others, none
    reads hundreds of tokens or the 27th layer of a text encoder, and few things are drawn to stand beside a
    concept.
    """
    from l2dm.backbone.families import FAMILIES
    from l2dm.learner.mixes import mixes
    from l2dm.world import past

    with pytest.MonkeyPatch.context() as patch:
        shallow(patch)
        for family in FAMILIES:
            if hasattr(family, "cells"):
                patch.setattr(type(family), "cells", 8)
            lengths = [64 if reads.length in (256, 512) else reads.length for reads in family.readers]
            short = tuple(reads._replace(length=length) for reads, length in zip(family.readers, lengths))
            patch.setattr(type(family), "readers", short)
        patch.setattr(past, "CONTEXT_NOUNS", past.CONTEXT_NOUNS[:2])
        patch.setattr(mixes, "__defaults__", (None, 4, 0.0))
        patch.setattr(past, "COMPANION_PICTURES", 1)
        yield


def shallow(patch: pytest.MonkeyPatch) -> None:
    """FLUX.2 reads three of the first layers, in its pipeline too."""
    from l2dm.backbone.families import class_named, flux2

    layers = (1, 2, 3)
    patch.setattr(flux2, "LAYERS", layers)
    pipeline = class_named("Flux2KleinPipeline")
    for name in ("__call__", "encode_prompt"):
        function = inspect.unwrap(getattr(pipeline, name))
        names = list(inspect.signature(function).parameters)[-len(function.__defaults__) :]
        told = dict(zip(names, function.__defaults__)) | {"text_encoder_out_layers": layers}
        patch.setattr(function, "__defaults__", tuple(told.values()))


#: Where several processes test (``-n 2 --dist loadgroup``) each family is one's: its world is taught once.
EACH = [pytest.param(row, marks=pytest.mark.xdist_group(row)) for row in ROWS]


@pytest.fixture(scope="package", params=EACH)
def folder(request, tmp_path_factory) -> Path:
    from families.folders import tiny_folder

    return tiny_folder(request.param, tmp_path_factory.mktemp(request.param) / request.param)


@pytest.fixture(scope="package")
def photos(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for i in range(2):
        paint(i).save(place / f"{i}.png")
    return place


@pytest.fixture
def backbone(folder) -> Backbone:
    """A copy, to be changed."""
    from families.contract import copied

    return copied(folder)


@pytest.fixture(scope="package")
def taught(folder, photos, tmp_path_factory) -> World:
    """A world of two concepts, learnt by the method with all of the paper's parts."""
    from learning import SMALL
    from tiny import tiny_clip

    from benchmarks.tiny import LITTLE
    from families.contract import PLACE
    from l2dm import World

    place = tmp_path_factory.mktemp("taught")
    world = World.create(place / "world", folder, clip=tiny_clip(place / "clip"))
    few = LITTLE | {"precision": SMALL["precision"], "device": PLACE["device"]}
    for token, noun in {"<rex>": "dog", "<tom>": "cat"}.items():
        world.learn(photos, token=token, noun=noun, **QUICK | few | {"method": "l2dm", "learning_rate": 0.01})
    world.backbone(PLACE["precision"])  # held as for drawing
    return world


@pytest.fixture
def place() -> tuple[str, torch.dtype]:
    """Where a pipeline is watched, and in which precision; ``test_on_gpu`` has others."""
    return "cpu", torch.float32
