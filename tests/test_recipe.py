"""The recipe from icons to a base that opens, on a miniature of every part; and parts that are carried in
files.
"""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file

from l2dm.backbone import Backbone
from mini_base import autoencoder, clip, composing, corpus, latents, pack, package, parts, training, unet
from mini_base.__main__ import main

STATE = {"step": 7, "pictures": 70, "seconds": 1.0, "log": []}


def tiny_autoencoder() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8,) * 4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=4,
        layers_per_block=1,
        mid_block_add_attention=False,
        sample_size=128,
    )


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A work folder with drawings, tokenizer and a finished autoencoder, and a recipe that is small in every
    number.
    """
    for module, name, few in (
        (autoencoder, "build", tiny_autoencoder),
        (unet, "WIDTHS", (32, 32)),
        (unet, "BATCH", 4),
        (unet, "SHARD", 64),
        (parts, "TRAINED", tmp_path / "trained"),
        (unet, "HELD", 64),
        (unet, "BINS", 2),
        (unet, "LENGTHS", (0.05, 0.1)),
        (clip, "STEPS", 2),
        (clip, "BATCH", 4),
        (clip, "POOL", 64),
        (package, "MEASURED", {"autoencoder": 16, "clip": 50}),
        (composing, "CHUNK", 16),
        (unet, "COMPILED", False),
        (corpus, "ICON_SIDE", 24),
    ):
        monkeypatch.setattr(module, name, few)
    monkeypatch.setattr(unet, "side_by_side", lambda work, *given: work(0, 1, *given))
    monkeypatch.setattr(latents, "swift", lambda: torch.autocast("cpu", enabled=False))
    folder = tmp_path / "work"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for style in corpus.STYLES:
        drawn = {}
        for names in corpus.NOUNS.values():
            for name in names:
                drawn[name] = np.zeros((24, 24, 4), np.uint8)
                drawn[name][2:22, 2:22] = (*rng.integers(0, 255, 3), 255)
        np.savez(corpus.sheet(folder, style, 224), **drawn)
    Backbone.load("mini").tokenizer.save_pretrained(folder / "tokenizer")
    torch.manual_seed(0)
    parts.keep(folder, "vae", tiny_autoencoder(), STATE | {"scaling_factor": 0.7})
    return folder


def test_the_autoencoder_learns_on_crops_then_on_whole_pictures(tmp_path, monkeypatch):
    for name, few in {
        "WIDTHS": (8, 8, 8, 8),
        "CROP_STEPS": 2,
        "STEPS": 3,
        "CROP_BATCH": 2,
        "BATCH": 1,
        "POOL": 4,
    }.items():
        monkeypatch.setattr(autoencoder, name, few)
    icons = [
        corpus.Icon(noun, "noto", noun, np.full((24, 24, 4), 255, np.uint8)) for noun in ("dog", "cat", "owl")
    ]
    sides, encode = [], AutoencoderKL.encode
    monkeypatch.setattr(
        AutoencoderKL, "encode", lambda self, x: (sides.append(x.shape[-1]), encode(self, x))[1]
    )
    model = autoencoder.train(icons, tmp_path)
    assert sides == [64, 64, 128]
    begun = autoencoder.build().state_dict()
    assert any(not torch.equal(p, begun[name]) for name, p in model.named_parameters())
    with torch.no_grad():
        posterior = model.encode(torch.rand(2, 3, 128, 128)).latent_dist
    assert posterior.mean.shape == (2, 16, 16, 16)
    assert torch.allclose(posterior.std, torch.full((), autoencoder.NOISE))


def test_the_trained_autoencoder_is_taken_as_it_lies_in_the_tree(tmp_path):
    vae = latents.load_autoencoder([], tmp_path)
    trained = AutoencoderKL.from_pretrained(latents.TRAINED)
    record = json.loads((latents.TRAINED / "training.json").read_text())
    assert record["step"] == autoencoder.STEPS, "trained as the recipe says"
    assert vae.config.scaling_factor == trained.config.scaling_factor == record["scaling_factor"]
    assert all(torch.equal(p, trained.state_dict()[name]) for name, p in vae.state_dict().items())
    pixels = np.zeros((1, 128, 128, 3), np.uint8)
    pixels[0, 32:96, 32:96] = (230, 40, 40)
    y = vae.decode(latents.encode(vae, pixels)).sample
    assert -10 * ((autoencoder.to_model(pixels) - y) / 2).square().mean().log10() > 25
    assert parts.settled(tmp_path, "vae", "autoencoder"), "a second load takes the work folder's"


def test_the_trained_parts_are_as_the_recipe_says(tmp_path):
    first = unet.STAGES[0]
    for part, folder, steps in (
        ("clip", "clip", clip.STEPS),
        (first.part, first.part, first.pictures // 64),
    ):
        assert parts.settled(tmp_path, part, folder, steps) and parts.record(tmp_path, part)["step"] == steps
    tokenizer = clip.load_tokenizer(tmp_path)
    assert tokenizer.decode(tokenizer("a small dog on the left").input_ids[1:-1]) == "a small dog on the left"
    pair, (networks, _) = clip.build(tokenizer), unet.load(tmp_path, 16, first.part)
    parts.load(tmp_path, "clip", pair)
    ids = clip.tokenize(tokenizer, ["a photo of a dog", "a dog", "a photo of a violin"])
    with torch.no_grad():
        told = torch.nn.functional.normalize(pair.get_text_features(ids).pooler_output, dim=-1)
        v = networks(torch.zeros(3, 16, 16, 16), torch.zeros(3).long(), ids)
    assert told[0] @ told[1] > told[0] @ told[2] + 0.2, "it knows its words"
    assert v.shape == (3, 16, 16, 16) and v.isfinite().all()


def test_a_part_comes_back_from_files_that_are_small_enough(tmp_path, monkeypatch):
    monkeypatch.setattr(parts, "LARGEST", 300)
    torch.manual_seed(0)
    net, other = (torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Linear(12, 8)) for _ in range(2))
    parts.keep(tmp_path, "net", net, STATE)
    found = parts.files(tmp_path, "net")
    assert [path.name for path in found] == ["net-1-of-2.safetensors", "net-2-of-2.safetensors"]
    assert parts.load(tmp_path, "net", other) == STATE
    assert all(
        torch.equal(a.half().float(), b)
        for a, b in zip(net.state_dict().values(), other.state_dict().values())
    )
    with pytest.raises(SystemExit, match="another architecture"):
        parts.load(tmp_path, "net", torch.nn.Linear(8, 12))
    strange = found[1].read_bytes()
    parts.keep(tmp_path, "net", torch.nn.Sequential(torch.nn.Linear(8, 12), torch.nn.Linear(12, 8)), STATE)
    found[1].write_bytes(strange)
    assert not parts.files(tmp_path, "net"), "two trainings are no part"
    with pytest.raises(SystemExit, match="no whole net here; train it with"):
        parts.load(tmp_path, "net", net)


def test_a_part_is_settled_as_its_training_left_it(tmp_path):
    assert not parts.settled(tmp_path, "net", "training")
    parts.keep(tmp_path, "net", torch.nn.Linear(1, 1), STATE)
    assert parts.settled(tmp_path, "net", "training", 9), "it came here finished"
    (tmp_path / "training").mkdir()
    for step, steps, settled in ((7, 7, True), (7, 9, False), (8, 7, False)):
        (tmp_path / "training/state.json").write_text(json.dumps(STATE | {"step": step}))
        assert parts.settled(tmp_path, "net", "training", steps) == settled


@pytest.mark.slow
def test_shards_side_by_side_are_one_shard(work):
    icons = corpus.load_icons(work, side=224)
    whole = [seen for chunk in composing.Shards(icons, latents.seen, 64, 5).chunks_of(3) for seen in chunk]
    halves = [composing.Shards(icons, latents.seen, 64, 5, rank=rank, workers=2) for rank in (0, 1)]
    first, second = ([list(chunk) for chunk in half.chunks_of(3)] for half in halves)
    apart = [seen for pair in zip(first, second) for chunk in pair for seen in chunk]
    assert len(whole) == 64 and [caption for _, caption in whole] == [caption for _, caption in apart]
    assert all(np.array_equal(a, b) for (a, _), (b, _) in zip(whole, apart))


@pytest.mark.slow
def test_scenes_that_other_processes_compose_are_the_same(work):
    icons = corpus.load_icons(work, side=224)[:40]
    here, there = (composing.Shards(icons, latents.seen, 128, 5, processes=n) for n in (0, 2))
    for index in (0, 1, 4):
        ours, theirs = ([seen for chunk in one.chunks_of(index) for seen in chunk] for one in (here, there))
        assert len(ours) == 128 and all(
            np.array_equal(a, b) and c == d for (a, c), (b, d) in zip(ours, theirs)
        )
    there.close()


@pytest.mark.slow
def test_a_denoiser_taken_up_is_the_one_never_stopped(work, tmp_path, monkeypatch):
    icons = corpus.load_icons(work, side=224)
    clip.train(icons, work)
    other = shutil.copytree(work, tmp_path / "other")
    unet.train(icons, work, steps=8)
    begun, draft = unet.begin(icons, work, 1, 4), unet.load(work, 4, "draft")[0]
    assert all(torch.equal(p, begun.state_dict()[name]) for name, p in draft.state_dict().items())
    update = training.Training.update

    def stopped(run, *given):
        update(run, *given)
        if run.step == 3:
            run.save()
            raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(training.Training, "update", stopped)
        unet.train(icons, other, steps=8)
    unet.train(icons, other, steps=8)
    for stage in unet.STAGES:
        one, two = (load_file(folder / stage.part / "state-8.safetensors") for folder in (work, other))
        assert one.keys() == two.keys() and all(
            torch.equal(tensor, two[name]) for name, tensor in one.items()
        )


@pytest.mark.slow
def test_from_a_pack_to_a_base_that_opens(work, tmp_path, capsys):
    carried, files, base = tmp_path / "pack", tmp_path / "files", tmp_path / "base"
    pack.pack(work, carried, wheels=False)
    main(["train", "--work", str(carried), "--steps", "4", "--deliver", str(files)])
    names = sorted(path.name for path in files.iterdir())
    assert names == [f"{part}-1-of-1.safetensors" for part in ("clip", "denoiser", "draft")]
    with pytest.raises(SystemExit, match="no whole denoiser"):
        main(["package", "--work", str(work), "--out", str(base)])
    for path in files.iterdir():
        shutil.copy(path, work / "finished")
    main(["package", "--work", str(work), "--out", str(base)])
    facts = json.loads((base / "facts.json").read_text())
    assert (
        facts["training_steps"] == {"autoencoder": 7, "clip": 2, "draft": 4, "unet": 4}
        and facts["side"] == 128
    )
    assert (
        str(facts["length"]) in facts["held_out_error"] and "4 steps of 4" in (base / "README.md").read_text()
    )
    backbone = Backbone.load(base)
    assert (backbone.side, backbone.factor, backbone.channels) == (128, 8, 4)
    assert backbone.decode_latents(backbone.draw_latents(["a photo of a dog"], 2, 3.0))[0].size == (128, 128)
    assert backbone.vae.config.scaling_factor == 0.7 and backbone.features is not None
    main(["train", "--work", str(carried), "--steps", "4"])
    assert "denoiser step" not in capsys.readouterr().out.rpartition("corpus")[2], "finished is finished"
