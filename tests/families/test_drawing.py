"""Every family draws as diffusers' own pipeline where no concept is named, and concepts alone and together by
every composition.
"""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch
from learning import REX, TOM
from torch.utils._pytree import tree_leaves

from families.contract import BOTH, DRAW, PLAIN, bare, drawn
from l2dm import World
from l2dm.backbone import Conditioning
from l2dm.backbone.sites import looks_at_itself, map_size, reads_features
from l2dm.errors import PromptError, SettingsError
from l2dm.generation.solver import model_input
from l2dm.guidance.attention import AttentionMaps, of_words, without_start
from l2dm.guidance.collage import ALONE
from l2dm.settings import COMPOSITIONS


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
    assert theirs.std() > 0
    assert negative or not np.array_equal(theirs, bare(folder, "a car", **told)), "the text has to be read"


def last_predicted(world: World, **changes) -> torch.Tensor:
    """All numbers of the last forward while BOTH is drawn: pictures round, and untrained models heed little
    of what they read.
    """
    outputs, denoiser = [], world.backbone().denoiser
    hook = denoiser.register_forward_hook(lambda *called: outputs.append(called[-1][0]))
    drawn(world, BOTH, **changes)
    hook.remove()
    return torch.cat([leaf.flatten() for leaf in tree_leaves(outputs[-1])])


def test_concepts_are_drawn_alone_and_together_by_every_composition(taught):
    assert not np.array_equal(drawn(taught, REX), drawn(taught, TOM))
    plain, backbone = last_predicted(taught, composition="none"), taught.backbone()
    cannot = {
        "structure": not reads_features(backbone.denoiser),
        "self-cross": not looks_at_itself(backbone.denoiser),
    }
    for guidance in set(COMPOSITIONS) - {"none", "auto"}:  # which is one of the others
        if cannot.get(guidance):
            with pytest.raises(SettingsError, match="choose another composition"):
                drawn(taught, BOTH, composition=guidance)
            continue
        moved = last_predicted(taught, composition=guidance, guidance_step=1e4, guidance_refinements=1)
        assert not torch.equal(moved, plain), guidance


def test_a_collage_takes_the_steps_that_its_parts_leave(taught):
    backbone, calls = taught.backbone(), []
    one_call_a_step = {} if backbone.family.flow else {"sampler": "dpm-solver"}
    hook = backbone.denoiser.register_forward_hook(lambda *_: calls.append(1))
    drawn(taught, BOTH, composition="collage", steps=4, guidance_scale=1.0, **one_call_a_step)
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
    (picture,) = taught.generate(BOTH, **DRAW, show_attention=(0,), guidance_scale=scale, composition="none")
    sampler, cells = backbone.pipeline().scheduler, backbone.side // backbone.factor
    noise = backbone.family.noise(backbone, [torch.Generator().manual_seed(DRAW["seed"])], cells, cells)
    backbone.family.set_timesteps(backbone, sampler, DRAW["steps"], cells, cells)
    t = sampler.timesteps[0]
    z = model_input(sampler, noise * getattr(sampler, "init_noise_sigma", 1.0), t)
    maps = AttentionMaps(map_size(backbone.denoiser, cells, cells))
    seen = without_start(maps.of(backbone, z, t[None], backbone.read([BOTH])), backbone.start)
    for shot, thing in zip(picture.attention, ("<rex> dog", "<tom> cat")):
        at = backbone.places(BOTH, (BOTH.index(thing), BOTH.index(thing) + len(thing)))
        assert np.allclose(shot.map, of_words(seen, [at])[0, 0].cpu().numpy(), atol=1e-4)


def test_a_concept_is_forgotten_and_a_change_undone(taught, folder, tmp_path):
    shutil.copytree(taught.path, tmp_path / "world")
    world = World.open(tmp_path / "world")
    world.forget("<rex>")
    assert np.array_equal(drawn(world, TOM), drawn(taught, TOM)), "each concept has adapters of its own"
    with pytest.raises(PromptError, match="not in this world"):
        world.generate(REX, **DRAW)
    world.undo()
    both = [drawn(of, BOTH, composition="none") for of in (world, taught)]
    assert np.array_equal(*both)
