"""What is of no family, or half of one, is refused in one clear line."""

from __future__ import annotations

import json
import shutil

import pytest

from families.folders import tiny_folder
from l2dm.backbone import Backbone, find_base
from l2dm.backbone.families import FAMILIES
from l2dm.errors import BaseModelError


def test_an_unknown_family_is_refused_by_its_index_alone(tmp_path):
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "KandinskyPipeline", "movq": ["a", "b"]})
    )
    with pytest.raises(BaseModelError, match="it is a KandinskyPipeline; l2dm knows Stable Diffusion"):
        find_base(tmp_path)


def test_defaults_of_a_model_distilled_in_steps_are_few(tmp_path):
    folder = tiny_folder("flux2", tmp_path)
    assert find_base(folder).defaults["generate"] == {"steps": 50, "guidance_scale": 4.0, "batch": 1}
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"is_distilled": True}))
    assert find_base(folder).defaults["generate"] == {"steps": 4, "guidance_scale": 1.0, "batch": 1}


def test_half_a_folder_is_named(folder, tmp_path):
    family = find_base(folder).family
    assert sum(type(family) is type(other) for other in FAMILIES) == 1
    for part in family.parts:
        half = tmp_path / part
        shutil.copytree(folder, half)
        shutil.rmtree(half / part)
        with pytest.raises(BaseModelError, match=part) as told:
            Backbone.load(half)
        assert "\n" not in str(told.value)
