"""What holds of every family: one suite, and a row for each."""

from __future__ import annotations

import copy
import functools
import inspect
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from diffusers import DiffusionPipeline
from learning import REX, TOM, begin, learn
from tiny import tiny_clip
from torch.utils._pytree import tree_leaves

from families.folders import DRAWING, tiny_folder
from l2dm import World
from l2dm.backbone import Backbone, Conditioning, find_base
from l2dm.backbone.families import FAMILIES, Family
from l2dm.backbone.sites import map_size, reads_features, text_layers
from l2dm.errors import BaseModelError, PromptError, SettingsError
from l2dm.generation.solver import model_input
from l2dm.guidance.attention import AttentionMaps, of_words, without_start
from l2dm.guidance.collage import ALONE
from l2dm.methods import METHODS
from l2dm.settings import GUIDANCES

ROWS = ("sd", "sdxl", "pixart", "sd3", "flux", "flux2", "z_image", "deepfloyd_if")
PLAIN, BOTH = "a photo of a cat at night", "a <rex> dog and a <tom> cat"
DRAW = {"n": 1, "steps": 2, "seed": 3, "height": 16, "width": 16}
#: Tuner -> a method that has it.
TUNERS = {row.tuner: name for name, row in METHODS.items()}
#: Those whose concepts leave a prompt that names none as it is, to the last bit.
OWN_WORDS = ("switched", "isolated", "embedding", "task_token", "widening")


@pytest.fixture(scope="module", autouse=True)
def small():
    """Families whose configurations do not tell how large pictures are draw them as small as the others, and none reads hundreds of tokens."""
    with pytest.MonkeyPatch.context() as patch:
        for family in FAMILIES:
            if hasattr(family, "cells"):
                patch.setattr(type(family), "cells", 8)
            lengths = [64 if reads.length in (256, 512) else reads.length for reads in family.readers]
            short = tuple(reads._replace(length=length) for reads, length in zip(family.readers, lengths))
            patch.setattr(type(family), "readers", short)
        yield


@pytest.fixture(scope="module", params=ROWS)
def folder(request, tmp_path_factory) -> Path:
    return tiny_folder(request.param, tmp_path_factory.mktemp(request.param) / request.param)


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("photos")
    for i in range(2):
        paint(i).save(place / f"{i}.png")
    return place


@functools.cache
def loaded(folder: Path) -> Backbone:
    return Backbone.load(folder)


@pytest.fixture
def backbone(folder) -> Backbone:
    """A copy, to be changed."""
    return copy.deepcopy(loaded(folder))


@pytest.fixture(scope="module")
def taught(folder, photos, tmp_path_factory) -> World:
    """A world of two concepts, learnt by the method with all of the paper's parts."""
    place = tmp_path_factory.mktemp("taught")
    world = World.create(place / "world", folder, clip=tiny_clip(place / "clip"))
    few = {
        "steps": 2,
        "batch": 1,
        "mixes": 2,
        "candidates": 1,
        "budget": 1,
        "prior_steps": 2,
        "precision": "float32",
    }
    for token, noun in {"<rex>": "dog", "<tom>": "cat"}.items():
        world.learn(photos, token=token, noun=noun, **QUICK | few | {"method": "l2dm", "learning_rate": 0.01})
    world.backbone("auto")  # held as for drawing
    return world


def drawn(world: World, prompt: str, **changes) -> np.ndarray:
    return np.asarray(world.generate(prompt, **DRAW | changes)[0].image)


def bare(folder: Path, prompt: str, **options) -> np.ndarray:
    """What diffusers' own pipeline over the folder draws."""
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=loaded(folder).dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    if "max_sequence_length" in inspect.signature(pipe.__call__).parameters:
        options["max_sequence_length"] = find_base(folder).family.most_tokens
    options |= DRAWING.get(folder.name, {}) | {name: DRAW[name] for name in ("height", "width")}
    generator = torch.Generator().manual_seed(DRAW["seed"])
    return np.asarray(
        pipe(prompt=prompt, generator=generator, num_inference_steps=DRAW["steps"], **options).images[0]
    )


def weights(backbone: Backbone) -> dict[str, torch.nn.Parameter]:
    """All that a base has, in whatever order adapters stand beside it."""
    return {
        f"{part}.{n}": p
        for part in backbone.family.networks
        for n, p in backbone.parts[part].named_parameters()
    }


@torch.no_grad()
def predicted(backbone: Backbone, *prompts: str) -> torch.Tensor:
    cells = backbone.side // backbone.factor
    z = torch.randn(1, backbone.channels, cells, cells, generator=torch.Generator().manual_seed(1))
    t = backbone.process.sample_t(1, torch.Generator().manual_seed(2)).expand(len(prompts))
    return backbone.predict(z.expand(len(prompts), -1, -1, -1), t, backbone.read(list(prompts)))


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("negative", ["", "a road"])
def test_a_prompt_that_names_no_concept_draws_the_bits_of_the_bare_pipeline(taught, folder, negative):
    """In a world that has learnt: so in a fresh one too, whose adapters are fewer."""
    if negative and not taught.backbone().family.negatives:
        with pytest.raises(SettingsError, match="leave it out"):
            drawn(taught, PLAIN, negative_prompt=negative)
        return
    told = taught.backbone().family.call(4.0, negative or None)
    theirs = bare(folder, PLAIN, **told)
    assert np.array_equal(theirs, drawn(taught, PLAIN, guidance_scale=4.0, negative_prompt=negative))
    assert theirs.std() > 0 and not np.array_equal(theirs, bare(folder, "a car", **told))


def test_concepts_are_drawn_alone_and_together_by_every_composition(taught):
    assert not np.array_equal(drawn(taught, REX), drawn(taught, TOM))
    much = {"guidance_scale": 50.0}  # of what is said: untrained models heed little of it
    plain, backbone = drawn(taught, BOTH, guidance="none", **much), taught.backbone()
    cannot = {"structure": not reads_features(backbone.denoiser)}
    for guidance in set(GUIDANCES) - {"none"}:
        if cannot.get(guidance):
            with pytest.raises(SettingsError, match="choose another guidance"):
                drawn(taught, BOTH, guidance=guidance)
            continue
        moved = drawn(taught, BOTH, guidance=guidance, guidance_step=1e4, guidance_refinements=1, **much)
        assert not np.array_equal(moved, plain), guidance


def test_a_collage_takes_the_steps_that_its_parts_leave(taught):
    backbone, calls = taught.backbone(), []
    one_call_a_step = {} if backbone.family.flow else {"sampler": "dpm-solver"}
    hook = backbone.denoiser.register_forward_hook(lambda *_: calls.append(1))
    drawn(taught, BOTH, guidance="collage", steps=4, guidance_scale=1.0, **one_call_a_step)
    hook.remove()
    apart = round(4 * ALONE)
    assert len(calls) == 2 * apart + 4 - apart


def test_a_sampler_of_betas_is_refused_by_flows(backbone):
    if backbone.family.flow:
        with pytest.raises(SettingsError, match="it goes by betas"):
            backbone.pipeline("dpm-solver")


def test_where_a_thing_was_looked_for_is_shown(taught):
    (picture,) = taught.generate(BOTH, **DRAW, show_attention=(0, 1))
    assert [(shot.step, shot.name) for shot in picture.attention] == [
        (step, name) for step in (0, 1) for name in ("<rex>", "<tom>")
    ]
    assert all(0 <= shot.map.min() < shot.map.max() <= 1 for shot in picture.attention)


def test_every_forward_is_told_what_it_reads(taught):
    """Of prompts and of what they are guided away from, in whatever order and number of forwards."""
    backbone, told = taught.backbone(), []
    negative = "a road" if backbone.family.negatives else ""
    hook = backbone.denoiser.register_forward_hook(lambda *_: told.append(backbone.conditioning))
    drawn(taught, REX, n=2, guidance_scale=4.0, negative_prompt=negative)
    hook.remove()
    everything = Conditioning.cat(told)
    assert everything.named.tolist() == [[True, False]] * len(everything), (
        "on for a prompt, on for its negative"
    )
    for beside, text in ((False, REX), (True, negative)):
        ids = everything.ids[everything.negative == beside]
        assert len(ids) and (ids == backbone.tokenize([text])).all()
    assert everything.negative.float().mean() == 0.5


@torch.no_grad()
def test_what_is_shown_is_what_the_prompt_looked_for_and_not_its_negative(taught):
    """At the first step, from the noise that the pipeline draws by itself."""
    backbone = taught.backbone()
    scale = 1.0 if backbone.denoiser.config.get("guidance_embeds") else 4.0
    (picture,) = taught.generate(BOTH, **DRAW, show_attention=(0,), guidance_scale=scale, guidance="none")
    sampler, cells = backbone.pipeline().scheduler, 16 // backbone.factor
    noise = backbone.family.noise(backbone, [torch.Generator().manual_seed(DRAW["seed"])], cells, cells)
    backbone.family.set_timesteps(backbone, sampler, DRAW["steps"], cells, cells)
    t = sampler.timesteps[0]
    z = model_input(sampler, noise * getattr(sampler, "init_noise_sigma", 1.0), t)
    maps = AttentionMaps(map_size(backbone.denoiser, cells, cells))
    seen = without_start(maps.of(backbone, z, t[None], backbone.read([BOTH])), backbone.start)
    for shot, thing in zip(picture.attention, ("<rex> dog", "<tom> cat")):
        at = backbone.places(BOTH, (BOTH.index(thing), BOTH.index(thing) + len(thing)))
        assert np.allclose(shot.map, of_words(seen, [at])[0, 0].numpy(), atol=1e-4)


# ---------------------------------------------------------------- reading


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
    pipe, family, cells = backbone.pipeline(), backbone.family, 16 // backbone.factor
    z = torch.randn(1, backbone.channels, cells, cells, generator=torch.Generator().manual_seed(1))
    z = z.to(backbone.dtype)
    given = {
        "num_inference_steps": 2,
        "height": 16,
        "width": 16,
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


# ---------------------------------------------------------------- learning


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_tuner_learns_two_concepts_and_touches_nothing_else(backbone, photos, tuner):
    if tuner == "isolated" and not text_layers(backbone.denoiser):
        with pytest.raises(SettingsError, match="share their keys and values"):
            begin(photos, TUNERS[tuner], backbone=backbone)
        return
    before = {p: p.detach().clone() for p in weights(backbone).values()}
    plain = predicted(backbone, PLAIN)
    first = begin(photos, TUNERS[tuner], "<rex>", backbone=backbone, steps=2, prior_weight=0.0)
    start = first.named["token"].detach().clone()
    steps = first.run()
    next(steps)
    assert not [p for p in before if p.requires_grad and p not in {*first.tuner.parameters.values()}]
    list(steps)
    first.finish()
    moved = (first.named["token"].detach() - start).split(
        [reader.tokens.width for reader in backbone.readers]
    )
    assert all(part.abs().max() > 0 for part in moved), "the vector in every encoder"
    rex = predicted(backbone, REX)
    second = learn(photos, TUNERS[tuner], "<tom>", after=first, steps=1)
    own = {*second.tuner.parameters.values()}
    assert all(torch.equal(p.to(value), value) for p, value in before.items() if p not in own)
    assert torch.isfinite(predicted(backbone, TOM)).all()
    if tuner in OWN_WORDS:
        assert torch.equal(predicted(backbone, PLAIN), plain)
        assert torch.equal(predicted(backbone, REX), rex) or tuner == "widening"  # splits what moves too far


def test_a_stopped_learning_goes_on_to_the_same_bits(folder, photos):
    whole, stopped, again = (
        begin(photos, "switched", backbone=copy.deepcopy(loaded(folder)), steps=3, learning_rate=0.01)
        for _ in range(3)
    )
    list(whole.run())
    steps = stopped.run()
    next(steps)
    saved, done = stopped.state(), stopped.done
    steps.close()
    again.load_state(saved, done)
    list(again.run())
    wanted, found = whole.state(), again.state()
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_what_is_worked_out_again_in_the_backward_is_the_same(folder, photos):
    states = []
    for again in (False, True):
        learning = begin(
            photos,
            "switched",
            backbone=copy.deepcopy(loaded(folder)),
            gradient_checkpointing=again,
            learning_rate=0.01,
        )
        calls = []
        for layer in learning.tuner.layers.values():
            layer.register_forward_hook(lambda *_, calls=calls: calls.append(1))
        list(learning.run())
        states.append((learning.state(), len(calls)))
    (plain, once), (found, twice) = states
    assert all(torch.equal(plain[name], found[name]) for name in plain) and twice > once > 0


def test_a_concept_is_forgotten_and_a_change_undone(taught, folder, tmp_path):
    shutil.copytree(taught.path, tmp_path / "world")
    world = World.open(tmp_path / "world")
    tom = drawn(world, TOM)
    world.forget("<rex>")
    assert np.array_equal(drawn(world, TOM), tom), "each concept has adapters of its own"
    with pytest.raises(PromptError, match="not in this world"):
        world.generate(REX, **DRAW)
    world.undo()
    assert np.array_equal(drawn(world, BOTH), drawn(taught, BOTH))


# ---------------------------------------------------------------- what is refused


def test_an_unknown_family_is_refused_by_its_index_alone(tmp_path):
    (tmp_path / "model_index.json").write_text(
        json.dumps({"_class_name": "KandinskyPipeline", "movq": ["a", "b"]})
    )
    with pytest.raises(BaseModelError, match="it is a KandinskyPipeline; l2dm knows Stable Diffusion"):
        find_base(tmp_path)


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
