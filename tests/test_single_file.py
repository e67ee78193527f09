"""A single-file checkpoint, its weights named as Stable Diffusion's first release has them."""

import huggingface_hub
import numpy as np
import pytest
import torch
from families.folders import tiny_folder
from ldm import single_file
from safetensors.torch import load_file, save_file

from benchmarks.malformed import call
from l2dm import World
from l2dm.backbone import Backbone, find_base
from l2dm.errors import BaseModelError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder("sd", tmp_path_factory.mktemp("sd") / "folder")


@pytest.fixture(scope="module")
def checkpoint(folder):
    return single_file(folder, folder.parent / "model.safetensors")


def test_every_weight_of_it_is_read_and_draws_as_the_folder_does(folder, checkpoint, tmp_path):
    plain, single = Backbone.load(folder), Backbone.load(find_base(checkpoint, config=str(folder)))
    for part in plain.family.networks:
        ours, theirs = plain.parts[part].state_dict(), single.parts[part].state_dict()
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    worlds = [
        World.create(tmp_path / "folder", folder, "none"),
        World.create(tmp_path / "single", checkpoint, "none", config=str(folder)),
    ]
    drawn = [World.open(world.path).generate("a dog", n=1, steps=2, seed=1)[0].image for world in worlds]
    assert np.array_equal(*map(np.asarray, drawn)), "and is found again, with its configurations"


@pytest.mark.parametrize(
    "lacking", ["middle_block.0.in_layers.2.weight", "text_model.final_layer_norm.weight"]
)
def test_one_that_lacks_a_weight_says_so(folder, checkpoint, tmp_path, lacking):
    weights = {name: t for name, t in load_file(checkpoint).items() if not name.endswith(lacking)}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BaseModelError, match=r"lacks weights .* download it again, whole, or .*--config"):
        Backbone.load(find_base(tmp_path / "model.safetensors", config=str(folder)))


@pytest.mark.parametrize("part", ["first_stage_model", "cond_stage_model"])
def test_one_without_a_whole_network_says_which(folder, checkpoint, tmp_path, part):
    weights = {name: t for name, t in load_file(checkpoint).items() if not name.startswith(part)}
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(BaseModelError, match=r"AutoencoderKL|CLIPTextModel"):
        Backbone.load(find_base(tmp_path / "model.safetensors", config=str(folder)))


def test_without_configurations_and_network_it_asks_for_them(checkpoint, tmp_path, monkeypatch):
    def unplugged(*given, **named):
        raise OSError("no network")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unplugged)
    code, said = call(["init", str(tmp_path / "w"), "--base", str(checkpoint)])
    assert (
        code == 2 and said.count("\n") == 1 and "stable-diffusion-v1-5" in said and "--config FOLDER" in said
    )


def test_a_family_whose_checkpoints_diffusers_cannot_read_says_so_at_once(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    folder = tiny_folder("sana", tmp_path / "folder")
    with pytest.raises(BaseModelError, match="no single-file checkpoint of Sana; give"):
        find_base(tmp_path / "model.safetensors", config=str(folder))
