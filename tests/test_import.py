"""In, from files: a concept from elsewhere is drawn as stock diffusers draws its file, is one of the world's
own, and leaves all other prompts alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from crash import kill_at_each_change
from safetensors.torch import load_file, save_file
from travel import FAMILIES, FEW, LESSON, PLAIN, another, copied, draw_stock, drawn, known, taught

from l2dm import World
from l2dm.backbone.sites import picture_layers
from l2dm.errors import PromptError, SettingsError
from l2dm.report.card import card
from l2dm.world.repair import examine

LAMP = "a photo of lamp dog"


@pytest.fixture(scope="module", params=FAMILIES)
def sent(request, tmp_path_factory) -> tuple[World, Path]:
    """A taught world of each family, and <rex> of it as a LoRA file."""
    world, place = known(request.param), tmp_path_factory.mktemp(request.param)
    return world, world.export("<rex>", out=place / "lora", strength=0.5).folder / "rex.safetensors"


@pytest.fixture(scope="module")
def sd(tmp_path_factory) -> tuple[World, Path]:
    world = known("sd")
    return world, world.export("<rex>", out=tmp_path_factory.mktemp("sd") / "lora").folder


def test_an_imported_lora_is_drawn_as_stock_diffusers_draws_it_and_changes_no_other_prompt(sent, tmp_path):
    source, file = sent
    world = copied(source, tmp_path / "world")
    before = drawn(world, "a photo of <rex> dog")
    arrived = world.import_file(file, token="<max>", noun="dog", trigger="lamp dog", **FEW)
    assert (
        arrived.notes == ["<max> dog is read as 'lamp dog', as --trigger says"]
        and arrived.version.concepts["<max>"] == "dog"
    )
    theirs = draw_stock(world, LAMP, file)
    assert np.array_equal(drawn(world, "a photo of <max> dog"), theirs)
    assert not np.array_equal(theirs, draw_stock(world, LAMP))
    assert np.array_equal(drawn(world, PLAIN), draw_stock(world, PLAIN))
    assert np.array_equal(drawn(world, "a photo of <rex> dog"), before)


@pytest.mark.parametrize(
    "phrase, given, words, where",
    [
        ("lamp dog, best quality", "", "lamp dog", "the file's own trigger phrase"),
        ("Lamp Dog", "", "Lamp dog", "the file's own trigger phrase"),
        ("lamp dog", "tree", "tree dog", "as --trigger says"),
        ("", "", "max dog", "the token's name: the file says none"),
        ("<rex> dog", "", "max dog", "the token's name: the file's own '<rex> dog' is not read here"),
        ("dog", "", "max dog", "the token's name: the file's own 'dog' is not read here"),
        ("lamp \x1b[2J dog", "", "max dog", "the token's name"),
        ("lamp " * 4000, "", "max dog", "the token's name: the file's own 'lamp lamp"),
    ],
)
def test_a_files_own_trigger_phrase_is_read_unless_another_is_given(
    sd, tmp_path, phrase, given, words, where
):
    """And one that cannot be read is told and left."""
    source, folder = sd
    file, world = tmp_path / "lora.safetensors", copied(source, tmp_path / "world")
    save_file(load_file(folder / "rex.safetensors"), file, {"modelspec.trigger_phrase": phrase})
    done = world.import_file(file, token="<max>", noun="dog", trigger=given, **FEW)
    assert done.notes[0].startswith(f"<max> dog is read as {words!r}, {where}") and len(done.notes[0]) < 250
    assert world.history()[-1]["trigger"] == words
    own = world.backbone().vectors_of(words.removesuffix(" dog"))
    assert torch.equal(world._files.tensors("tokens.safetensors")["<max>"], own)


def test_a_lora_that_is_imported_and_exported_is_the_same_file_of_weights(sent, tmp_path):
    source, file = sent
    world = another(source, tmp_path / "world")
    for given in (
        file,
        source.export("<rex>", format="diffusers", out=tmp_path / "peft", strength=0.5).folder,
    ):
        token = "<max>" if given == file else "<ada>"
        world.import_file(given, token=token, noun="dog", trigger="lamp", **FEW)
        out = world.export(token, out=tmp_path / token[1:-1]).folder / f"{token[1:-1]}.safetensors"
        before, after = load_file(file), load_file(out)
        assert before.keys() == after.keys()
        assert all(
            torch.equal(before[key], after[key]) and before[key].dtype == after[key].dtype for key in before
        )


def test_an_imported_concept_is_one_like_any_other(sd, tmp_path):
    source, folder = sd
    world = copied(source, tmp_path / "world")
    done = world.import_file(folder, token="<max>", noun="dog", **FEW)
    assert done.notes == [] and done.version.drawn == ["<max>"]
    version = done.version
    assert torch.equal(
        world._files.tensors("tokens.safetensors")["<max>"],
        world._files.tensors("tokens.safetensors")["<rex>"],
    )
    line = world.history()[-1]
    assert (line["action"], line["kind"], line["token"]) == ("import", "lora", "<max>") and len(
        line["sha256"]
    ) == 64
    assert examine(world.path, deep=True).faults == []
    world.learn(
        source.path.parent / "photos",
        token="<ada>",
        noun="cat",
        **LESSON | {"mixes": 2, "method": "l2dm", "report_pictures": 1},
    )
    assert {row["token"] for row in card(world.manifest)["concepts"]} == {"<rex>", "<tom>", "<max>", "<ada>"}
    together = drawn(world, "a <max> dog and a <ada> cat", composition="none")
    assert not np.array_equal(together, drawn(world, "a <max> dog and a cat", composition="none"))
    halves = {"layout": "<max>: left, <ada>: right", "composition": "confined"}
    apart = drawn(world, "a <max> dog and a <ada> cat", **halves)
    mirrored = drawn(
        world, "a <max> dog and a <ada> cat", **{**halves, "layout": "<max>: right, <ada>: left"}
    )
    assert not np.array_equal(apart, together) and not np.array_equal(apart, mirrored), (
        "it has a part of its own"
    )
    world.forget("<max>")
    with pytest.raises(PromptError, match="not in this world"):
        drawn(world, "a <max> dog")
    world.undo(), world.undo(), world.undo()
    assert world.version == version.parent and "<max>" not in world.concepts
    assert np.array_equal(drawn(world, "a <rex> dog"), drawn(source, "a <rex> dog"))


def test_it_is_remembered_by_photos_where_there_are_some(sd, tmp_path):
    source, folder = sd
    world = copied(source, tmp_path / "world")
    done = world.import_file(folder, token="<max>", noun="dog", photos=source.path.parent / "photos", **FEW)
    assert done.version.photos == 2 and done.version.drawn == []
    assert len(world._files.tensors("memory-max.safetensors")["features"]) == 2


@pytest.mark.slow
def test_a_locon_of_uneven_ranks_and_convolutions_outside_of_blocks(sd, tmp_path):
    """Samplers' convolutions too, which no lesson of ours changes; alone, and with another while a third is
    learnt.
    """
    source, _ = sd
    unet = source.backbone("float32").denoiser
    layers = {name.removesuffix(".layer"): layer for name, layer in picture_layers(unet).items()}
    layers |= {name: layer for name, layer in unet.named_modules() if name.endswith(("samplers.0.conv",))}
    tensors, generator = {}, torch.Generator().manual_seed(5)
    for i, (name, layer) in enumerate(layers.items()):
        (out, *into), rank, stem = layer.weight.shape, 1 + i % 3, f"lora_unet_{name.replace('.', '_')}"
        tensors[f"{stem}.lora_down.weight"] = torch.randn(rank, *into, generator=generator)
        tensors[f"{stem}.lora_up.weight"] = 0.05 * torch.randn(
            out, rank, *[1] * (len(into) - 1), generator=generator
        )
    save_file(tensors, tmp_path / "locon.safetensors")
    world = another(source, tmp_path / "world")
    world.import_file(tmp_path / "locon.safetensors", token="<max>", noun="dog", trigger="lamp", **FEW)
    theirs = draw_stock(world, LAMP, tmp_path / "locon.safetensors")
    assert np.array_equal(drawn(world, "a photo of <max> dog"), theirs)
    assert np.array_equal(drawn(World.open(world.path), "a photo of <max> dog"), theirs)
    assert np.array_equal(drawn(world, PLAIN), draw_stock(world, PLAIN))
    four = drawn(world, "a photo of <max> dog", n=4, batch=4).astype(int)
    assert abs(four - theirs).max() <= 1, "added to the weights"
    world.learn(
        source.path.parent / "photos", token="<ada>", noun="cat", **LESSON | {"mixes": 2, "method": "l2dm"}
    )
    assert np.array_equal(drawn(world, "a photo of <max> dog"), theirs)


@pytest.mark.parametrize("count", [1, 3])
def test_an_embedding_of_one_or_several_vectors_is_read_as_stock_diffusers_reads_it(sd, tmp_path, count):
    source, _ = sd
    vectors = torch.randn(count, 16, generator=torch.Generator().manual_seed(1))
    save_file({"<gem>": vectors}, tmp_path / "gem.safetensors")
    world = copied(source, tmp_path / "world")
    world.import_file(tmp_path / "gem.safetensors", token="<gem>", noun="cat", **FEW)
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(tmp_path / "gem.safetensors")
    theirs = draw_stock(world, "a photo of <gem> cat", pipe=pipe)
    assert np.array_equal(drawn(world, "a photo of <gem> cat"), theirs)
    assert np.array_equal(drawn(World.open(world.path), "a photo of <gem> cat"), theirs)
    out = world.export("<gem>", format="embedding", out=tmp_path / "out").folder / "gem-embedding.safetensors"
    assert torch.equal(load_file(out)["<gem>"], vectors)
    with pytest.raises(SettingsError, match="export with --format embedding"):
        world.export("<gem>", out=tmp_path / "lora")


@pytest.mark.slow
def test_an_embedding_comes_into_worlds_of_every_tuner(tmp_path):
    world = taught("sd", tmp_path, "<rex>", method="custom-diffusion", prior_weight=0.0)
    save_file({"emb_params": torch.ones(16)}, tmp_path / "gem.safetensors")
    world.import_file(tmp_path / "gem.safetensors", token="<gem>", noun="cat", **FEW)
    assert not np.array_equal(drawn(world, "a <gem> cat"), drawn(world, "a <rex> cat"))
    save_file({"unet.x.lora_A.weight": torch.ones(1, 1)}, tmp_path / "lora.safetensors")
    with pytest.raises(SettingsError, match="learnt by key_value, which has no place for an adapter"):
        world.import_file(tmp_path / "lora.safetensors", token="<max>", noun="dog", **FEW)


@pytest.mark.slow
def test_an_import_may_be_killed_at_any_change_of_a_file(sd, tmp_path):
    source, _ = sd
    save_file({"<gem>": torch.ones(16)}, tmp_path / "gem.safetensors")
    place, opened = tmp_path / "world", []

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        opened[:] = [copied(source, place)]
        opened[0]._backbone, opened[0].tuner, opened[0]._loaded = source.backbone("float32"), source.tuner, 2

    def take():
        opened[0].import_file(tmp_path / "gem.safetensors", token="<gem>", noun="cat", **FEW)

    for _ in kill_at_each_change(place, fresh, take):
        after = World.open(place)
        assert list(after.concepts) in (["<rex>", "<tom>"], ["<rex>", "<tom>", "<gem>"])
        assert examine(place).faults == []
        source.unload_unless("")
    assert "<gem>" in World.open(place).concepts
