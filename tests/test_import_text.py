"""In: what a LoRA file has for text encoders acts in the prompts that name its concept, as in stock diffusers
with the file loaded; nowhere else.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from travel import FAMILIES, FEW, PLAIN, another, copied, draw_stock, drawn, known, options, stock

from l2dm import World
from l2dm.errors import ExchangeError, SettingsError
from l2dm.exchange.lora import Layers, diffusers_file, lora_file
from l2dm.tuners.factors import Factors
from l2dm.world.repair import examine

LAMP, MAX = "a photo of lamp dog", "a photo of <max> dog"


def adapter_of(known: Layers) -> dict[str, Factors]:
    """Random factors of rank 2 for some of the denoiser's attention, and for all of the text encoders."""
    generator, found = torch.Generator().manual_seed(7), {}
    for layer in [name for name in known.of_denoiser if name.endswith("to_q")] + known.of_text:
        out, into = known.shapes[layer]
        down, up = torch.randn(2, into, generator=generator), torch.randn(out, 2, generator=generator)
        found[layer] = Factors(down, 0.2 * up, 1.0)
    return found


def layers_of(world: World, convention: str = "") -> Layers:
    backbone = world.backbone("float32")
    family = backbone.family
    return Layers(
        backbone.denoiser, family.denoiser, convention or family.lora_names, backbone.encoder_layers
    )


def file_of(world: World, place: Path) -> Path:
    """Such an adapter as the family's files have it."""
    layers = layers_of(world)
    save_file(lora_file(adapter_of(layers), layers), place / "lamp.safetensors")
    return place / "lamp.safetensors"


@pytest.fixture(params=FAMILIES[:3])  # those that read CLIP
def source(request) -> World:
    return known(request.param)


def test_a_text_encoders_part_acts_where_the_prompt_names_its_concept(source, tmp_path):
    file, world = file_of(source, tmp_path), copied(source, tmp_path / "world")
    before = drawn(world, "a photo of <rex> dog")
    done = world.import_file(file, token="<max>", noun="dog", trigger="lamp dog", **FEW)
    assert (
        done.notes == ["<max> dog is read as 'lamp dog', as --trigger says"]
        and examine(world.path, deep=True).faults == []
    )
    own = {
        key: tensor
        for key, tensor in load_file(file).items()
        if "lora_te" not in key and "text_encoder" not in key
    }
    save_file(own, tmp_path / "denoiser.safetensors")
    theirs = draw_stock(world, LAMP, file)
    assert not np.array_equal(theirs, draw_stock(world, LAMP, tmp_path / "denoiser.safetensors"))
    for opened in (world, World.open(world.path)):
        assert np.array_equal(drawn(opened, MAX), theirs)
        assert np.array_equal(drawn(opened, PLAIN), draw_stock(world, PLAIN))
        assert np.array_equal(drawn(opened, "a photo of <rex> dog"), before)
    fresh = World.open(world.path).pipeline(
        precision="float32"
    )  # its adapters are read when a prompt names them
    assert np.array_equal(np.asarray(fresh(prompt=MAX, **options()).images[0]), theirs)


def test_a_batch_of_prompts_has_each_read_as_it_asks(source, tmp_path):
    """And beside each what it is guided away from: read with the file where its prompt names the concept,
    without it where not.
    """
    file, world = file_of(source, tmp_path), another(source, tmp_path / "world")
    world.import_file(file, token="<max>", noun="dog", trigger="lamp dog", **FEW)
    told = {"negative_prompt": ["a blue cat", "a blue cat"], "num_images_per_prompt": 2}

    def noises() -> dict:
        return options() | told | {"generator": [torch.Generator().manual_seed(i) for i in range(4)]}

    ours = [
        np.asarray(image) for image in world.pipeline(precision="float32")([MAX, PLAIN], **noises()).images
    ]
    pipe = stock(world.manifest.base)
    bare = [np.asarray(image) for image in pipe([LAMP, PLAIN], **noises()).images]
    pipe.load_lora_weights(file.parent, weight_name=file.name)
    try:
        loaded = [np.asarray(image) for image in pipe([LAMP, PLAIN], **noises()).images]
    finally:
        pipe.unload_lora_weights()
    for mine, theirs in zip(ours, [*loaded[:2], *bare[2:]]):
        assert np.array_equal(mine, theirs)
    assert not np.array_equal(loaded[2], bare[2])


def test_what_came_in_goes_out_again_in_every_format(source, tmp_path):
    file, world = file_of(source, tmp_path), another(source, tmp_path / "world")
    world.import_file(file, token="<max>", noun="dog", trigger="lamp", **FEW)
    again = load_file(world.export("<max>", out=tmp_path / "lora").folder / "max.safetensors")
    before = load_file(file)
    assert before.keys() == again.keys() and all(torch.equal(before[key], again[key]) for key in before)
    peft = world.export("<max>", format="diffusers", out=tmp_path / "peft").folder
    theirs = draw_stock(world, LAMP, file)
    assert np.array_equal(draw_stock(world, LAMP, peft / "pytorch_lora_weights.safetensors"), theirs)
    other = another(source, tmp_path / "other")
    other.import_file(
        peft / "pytorch_lora_weights.safetensors", token="<ada>", noun="dog", trigger="lamp", **FEW
    )
    other.import_concept(world.path, "<max>", **FEW)
    for token in ("<ada>", "<max>"):
        assert np.array_equal(drawn(other, f"a photo of {token} dog"), theirs)
    merged = stock(str(world.export("<max>", format="pipeline", out=tmp_path / "whole").folder))
    assert abs(draw_stock(world, MAX, pipe=merged).astype(int) - theirs).max() <= 1
    with pytest.raises(SettingsError, match=r"a text encoder's|no cross-attention"):
        world.export("<max>", format="custom-diffusion", out=tmp_path / "custom")


def test_a_text_encoders_part_alone_is_enough(tmp_path):
    world, layers = another(known("sd"), tmp_path / "world"), layers_of(known("sd"))
    adapter = {layer: one for layer, one in adapter_of(layers).items() if layer in layers.of_text}
    tensors, settings = diffusers_file(adapter, layers_of(known("sd"), "peft"))
    told = {name: json.dumps(value) for name, value in settings.items()}
    save_file(tensors, tmp_path / "text.safetensors", told)
    world.import_file(tmp_path / "text.safetensors", token="<max>", noun="dog", trigger="lamp", **FEW)
    assert not np.array_equal(drawn(world, MAX), draw_stock(world, LAMP))
    assert np.array_equal(drawn(world, MAX), draw_stock(world, LAMP, tmp_path / "text.safetensors"))


def test_it_is_left_out_where_that_is_asked_for(tmp_path):
    source = known("sd")
    file, world = file_of(source, tmp_path), another(source, tmp_path / "world")
    done = world.import_file(file, token="<max>", noun="dog", trigger="lamp", denoiser_only=True, **FEW)
    assert done.notes[0].startswith("left out: the text encoder's part, 12 layers")
    own = {key: tensor for key, tensor in load_file(file).items() if "lora_te" not in key}
    save_file(own, tmp_path / "denoiser.safetensors")
    assert np.array_equal(drawn(world, MAX), draw_stock(world, LAMP, tmp_path / "denoiser.safetensors"))


def test_layers_of_other_encoders_are_refused_unless_they_are_left_out(tmp_path):
    source = known("sd")
    stem, world = "lora_te3_encoder_block_0_layer_0_SelfAttention_q", another(source, tmp_path / "world")
    tensors = load_file(file_of(source, tmp_path))
    tensors |= {f"{stem}.lora_down.weight": torch.ones(1, 16), f"{stem}.lora_up.weight": torch.ones(16, 1)}
    save_file(tensors, tmp_path / "t5.safetensors")
    with pytest.raises(ExchangeError, match=f"1 of its layers .*{stem}.* add --denoiser-only"):
        world.import_file(tmp_path / "t5.safetensors", token="<max>", noun="dog", **FEW)
    world.import_file(tmp_path / "t5.safetensors", token="<max>", noun="dog", denoiser_only=True, **FEW)
