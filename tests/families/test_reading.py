"""Every family reads what its pipeline reads, and calls its denoiser as that does."""

from __future__ import annotations

import pytest
import torch
from learning import REX
from torch.utils._pytree import tree_leaves

from families.contract import PLAIN, predicted, weights
from families.folders import tiny_folder
from l2dm.backbone import Backbone, precision
from l2dm.backbone.families import Family
from l2dm.backbone.sites import entering, reads_features, text_layers
from l2dm.errors import SettingsError, TokenError


def test_what_is_learnt_from_is_what_the_pipeline_reads(backbone):
    backbone.add_token("<rex>", backbone.word_vector("dog"))
    read, theirs = backbone.read([REX, PLAIN]), Family.encode(backbone.family, backbone, [REX, PLAIN])
    for part in ("features", "pooled", "mask"):
        ours, own = getattr(read, part), getattr(theirs, part)
        assert (ours is own is None) or torch.equal(ours, own), part
    assert read.named.tolist() == [[True], [False]] and read.ids.shape == read.features.shape[:2]


def test_a_token_with_a_words_vectors_reads_as_that_word(backbone):
    backbone.add_token("<rex>", backbone.word_vector("dog"))
    ours, word = (backbone.read([f"a photo of a {thing} on grass"]) for thing in ("<rex>", "dog"))
    assert torch.equal(ours.features, word.features)
    assert ours.pooled is None or torch.equal(ours.pooled, word.pooled)


def test_a_token_that_is_never_read_as_it_is_written_is_refused(backbone):
    if backbone.family.worded("A", backbone.tokenizer)[0] == "a":
        with pytest.raises(TokenError, match="in small letters, as '<rex>'; choose that"):
            backbone.own_vector("<Rex>")
        return
    assert backbone.own_vector("<Rex>") is None
    backbone.add_token("<Rex>", backbone.word_vector("dog"))
    assert backbone.read(["a <Rex> dog"]).named.all()


def test_places_are_those_of_the_words(backbone):
    backbone.add_token("<rex>", backbone.word_vector("dog"))
    prompt = "a cat and a <rex> dog"
    ids = backbone.tokenize([prompt])[0]
    at = backbone.places(prompt, (prompt.index("<rex>"), len(prompt)))
    assert len(at) == 2 * len(backbone.row)
    for part, reader in enumerate(backbone.row):
        token, *noun = (ids[place].item() for place in at[2 * part : 2 * part + 2])
        assert (token,) == reader.tokens.ids["<rex>"] and noun == reader.following("<rex>", "dog")
    assert (
        backbone.places("cat " * backbone.longest_prompt + prompt, (4 * backbone.longest_prompt, 9999)) == ()
    )


@torch.no_grad()
def test_what_enters_the_blocks_is_what_keys_and_values_read(backbone):
    """Where all of them read the same: kept directions and structure go by that."""
    if not reads_features(backbone.denoiser):
        pytest.skip("each block reads what the last has made of it")
    seen = []
    for layer in text_layers(backbone.denoiser).values():
        layer.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    predicted(backbone, PLAIN)
    wanted = entering(backbone.denoiser, backbone.read([PLAIN]).features)
    assert seen and all(torch.equal(one, wanted) for one in seen)


def called(backbone: Backbone, run) -> list[torch.Tensor]:
    """All numbers that the denoiser is first called with while ``run`` runs."""
    calls = []
    hook = backbone.denoiser.register_forward_pre_hook(
        lambda module, args, kwargs: calls.append(tree_leaves((args, sorted(kwargs.items())))),
        with_kwargs=True,
    )
    run()
    hook.remove()
    numbers = [leaf for leaf in calls[0] if isinstance(leaf, torch.Tensor) and leaf.numel()]
    return sorted(numbers, key=lambda leaf: (tuple(leaf.shape), leaf.flatten()[0].item()))


def check_predicting(backbone: Backbone) -> None:
    """Predicting calls the denoiser with what the pipeline calls it with at the same noise and time."""
    pipe, family, side = backbone.pipeline(), backbone.family, 32
    cells = side // backbone.factor
    z = torch.randn(1, backbone.channels, cells, cells, generator=torch.Generator().manual_seed(1))
    z = z.to(backbone.device, backbone.dtype)
    given = {
        "num_inference_steps": 2,
        "height": side,
        "width": side,
        "output_type": "latent",
        "latents": family.begun(z),
    }
    theirs = called(backbone, lambda: pipe(prompt=PLAIN, **given, **family.call(1.0, None)))
    t, read, noisy = pipe.scheduler.timesteps[0], backbone.read([PLAIN]), z
    if not family.flow:
        sampler = backbone.pipeline().scheduler
        sampler.set_timesteps(2)
        noisy = sampler.scale_model_input(z * sampler.init_noise_sigma, t)
    ours = called(backbone, lambda: backbone.predict(noisy, t, read))
    assert [leaf.flatten().tolist() for leaf in ours] == [leaf.flatten().tolist() for leaf in theirs]


@torch.no_grad()
def test_predicting_calls_the_denoiser_as_the_pipeline_does(backbone):
    check_predicting(backbone)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["pixart_1024", "pixart_sigma"])
def test_other_kinds_of_pixart_are_told_sizes_and_longer_prompts(tmp_path, kind):
    backbone = Backbone.load(tiny_folder(kind, tmp_path))
    check_predicting(backbone)
    assert backbone.text_length == {"pixart_1024": 120, "pixart_sigma": 300}[kind]
    if kind == "pixart_1024":
        with pytest.raises(SettingsError, match="draws in 2 steps or more"):
            backbone.pipeline()(PLAIN, num_inference_steps=1)


def test_parts_that_are_idle_leave_a_large_bases_memory_and_come_back(backbone, monkeypatch):
    monkeypatch.setattr(precision, "LARGE", 0)
    backbone.add_token("<rex>", backbone.word_vector("dog"))
    parts = [name for name in backbone.family.networks if name != backbone.family.denoiser]
    before, words = {name: p.detach().clone() for name, p in weights(backbone).items()}, backbone.read([REX])

    def held() -> int:
        return sum(p.numel() for part in parts for p in backbone.parts[part].parameters())

    whole = held()
    with backbone.aside.leave(*parts, "safety_checker"):
        assert held() == sum(vector.numel() for vector in backbone.tokens.vectors) * len(backbone.readers)
        with backbone.aside.back():
            assert held() == whole
        assert held() < whole
    assert before.keys() == weights(backbone).keys()
    assert all(torch.equal(p, before[name]) for name, p in weights(backbone).items())
    assert torch.equal(backbone.read([REX]).features, words.features)
