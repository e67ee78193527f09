"""What each method tunes, by the property that defines it."""

from __future__ import annotations

import pytest
import torch
from learning import PLAIN, REX, TOM, begin, fresh, learn, predicted
from reference.keeping import (
    literal_aggregation,
)

from l2dm import LearnSettings
from l2dm.concept import Concept
from l2dm.methods import METHODS
from l2dm.retention import PENALTIES
from l2dm.tuners import TUNERS
from l2dm.tuners.aggregated import aggregation


@pytest.fixture(scope="module")
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


@pytest.fixture(scope="module")
def weights(backbone):
    return {name: p.clone() for name, p in backbone.unet.named_parameters()}


def test_the_table_names_what_exists():
    wanted = (
        "sequential dreambooth textual-inversion custom-diffusion svdiff lora ewc lwf den der dytox "
        "c-lora cidm replay l2dm gated-kv gated-lora"
    )
    assert {*wanted.split(), "separate", "joint"} <= set(METHODS)
    assert {m.tuner for m in METHODS.values()} == set(TUNERS)
    assert {m.penalty for m in METHODS.values()} == {"nothing", *PENALTIES}
    ours = {"sequential", "gated-kv", "gated-lora", "replay", "separate", "separate-key-value", "joint"}
    assert all("arXiv" in m.text or name in ours or "-without-" in name for name, m in METHODS.items())


def test_dreambooth_tunes_the_whole_denoiser_and_nothing_else(photos, weights, backbone):
    learning = learn(photos, "dreambooth", "<rex>")
    now = dict(learning.backbone.unet.named_parameters())
    assert sum(not torch.equal(p, weights[n]) for n, p in now.items()) > 0.95 * len(weights)
    read = dict(learning.backbone.text_encoder.named_parameters())
    assert all(torch.equal(p, read[name]) for name, p in backbone.text_encoder.named_parameters())


def test_svdiff_moves_singular_values_and_keeps_singular_vectors(photos, weights, plain):
    learning = learn(photos, "svdiff", "<rex>", steps=2)
    names = ["conv_in", "mid_block.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1"]
    for name in names:
        w0, w = (
            weights[f"{name}.weight"].flatten(1),
            learning.backbone.unet.get_submodule(name).weight.flatten(1),
        )
        u, s, v = torch.linalg.svd(w0, full_matrices=False)
        seen = u.mT @ w @ v.mT
        assert torch.allclose(seen, torch.diag((s + learning.tuner.now[name]).relu()), atol=1e-4)
        assert not torch.allclose(seen.diag(), s, atol=1e-3), "the values did move"
        assert torch.allclose(u @ seen @ v, w, atol=1e-4), (
            "nothing lies outside of the pretrained singular vectors"
        )
    with learning.tuner.pretrained():
        assert torch.equal(predicted(learning.backbone, PLAIN), plain)


def test_loras_whole_change_has_its_rank(photos, weights):
    tuner = learn(photos, "lora", "<rex>", "<tom>", steps=2).tuner
    kept = {n.replace(".layer.", "."): p for n, p in tuner.backbone.unet.named_parameters()}
    assert all(torch.equal(kept[n], p) for n, p in weights.items())
    for layer in tuner.layers:
        change = tuner.change(layer, tuner.adapters)
        assert int(torch.linalg.matrix_rank(change, rtol=1e-5)) == 2 and change.abs().max() > 0


@pytest.mark.parametrize("name", TUNERS)
def test_before_anything_is_learnt_every_tuner_is_the_pretrained_model(name, plain, photos):
    backbone = fresh()
    tuner = TUNERS[name](backbone)
    assert torch.equal(predicted(backbone, PLAIN), plain)
    assert not tuner.state() or name in ("key_value", "full")
    backbone.add_token("<ada>", backbone.word_vector("cat"))
    tuner.begin(Concept.read(photos, "<ada>", "teddy bear"), LearnSettings())
    assert torch.equal(predicted(backbone, PLAIN), plain), "a new adapter starts by changing nothing"


def test_ders_earlier_adapters_stay_as_they_are_and_act_in_every_prompt(photos, plain):
    first = learn(photos, "der", "<rex>", steps=2)
    before, drawn = first.tuner.state(), predicted(first.backbone, PLAIN)
    second = begin(photos, "der", "<tom>", first.backbone, first.tuner)
    assert second.tuner.adapters == ["0001", "0002"] and not set(before) & set(second.tuner.parameters)
    list(second.run())
    now = second.tuner.state()
    assert all(torch.equal(now[n], t) for n, t in before.items()) and len(now) == 2 * len(before)
    assert not torch.equal(drawn, plain) and not torch.equal(predicted(second.backbone, PLAIN), drawn)
    with second.tuner.holding(before):
        assert torch.equal(predicted(second.backbone, PLAIN), drawn), (
            "an earlier model is an earlier dictionary"
        )


def test_den_splits_what_moved_and_widens_only_where_needed(photos):
    """By hand: of three earlier components one moves far and one a little; two new ones matter in one layer
    alone.
    """
    first = begin(photos, "den", rank=3)
    tuner, backbone = first.tuner, first.backbone
    layers = list(tuner.layers)
    here, there = layers[0], layers[1]
    with torch.no_grad():
        tuner.now[f"0001/{here}.up"].normal_(generator=torch.Generator().manual_seed(0))
    tuner.finish()
    assert {layer: len(tuner.now[f"0001/{layer}.down"]) for layer in layers} == {
        layer: 3 * (layer == here) for layer in layers
    }
    old = {kind: tuner.now[f"0001/{here}.{kind}"].clone() for kind in ("down", "up")}
    second = begin(photos, "den", "<tom>", backbone, tuner)
    assert f"0001/{here}.up" in tuner.parameters, "what is there is trained again"
    with torch.no_grad():
        tuner.now[f"0001/{here}.up"][:, 0] *= 2
        tuner.now[f"0001/{here}.up"][:, 1] *= 1.01
        tuner.now[f"0002/{there}.up"][:, :2] = 1
    trained = {layer: tuner.change(layer, tuner.adapters) for layer in layers}
    second.finish()
    assert torch.equal(tuner.now[f"0001/{here}.up"][:, 0], old["up"][:, 0]), "it moved too far: split"
    assert torch.allclose(tuner.now[f"0001/{here}.up"][:, 1], 1.01 * old["up"][:, 1]), (
        "it moved a little: shared"
    )
    ranks = {layer: len(tuner.now[f"0002/{layer}.down"]) for layer in layers}
    assert ranks == {layer: int(layer in (here, there)) for layer in layers}, (
        "the move is of rank 1, and so is what two equal columns make"
    )
    assert all(
        torch.allclose(tuner.change(layer, tuner.adapters), trained[layer], atol=1e-5) for layer in layers
    )
    gates = tuner.gates(backbone.read([PLAIN, REX, TOM, f"{REX} and {TOM}"]))[:, 0]
    assert gates.tolist() == [[0, 0], [1, 0], [1, 1], [1, 1]], (
        "a prompt is served by what was there when its newest concept was learnt"
    )


def test_den_retrains_no_more_earlier_components_than_it_adds(photos):
    """Of six earlier ones of a layer, three a task, the three that the new prompts excite most."""
    first = begin(photos, "den", rank=3)
    tuner, layer = first.tuner, next(iter(first.tuner.layers))
    tuner.now = {
        f"000{k}/{name}.{kind}": t.detach()
        for k in (1, 2)
        for name in tuner.layers
        for kind, t in zip(("down", "up"), tuner.factors("0001", name))
    }
    with torch.no_grad():
        tuner.now = {
            n: torch.randn(t.shape, generator=torch.Generator().manual_seed(i))
            for i, (n, t) in enumerate(tuner.now.items())
        }
        tuner.now[f"0001/{layer}.up"][:, 1] *= 100
    second = begin(photos, "den", "<tom>", first.backbone, tuner, rank=3)
    before = tuner.values()
    next(second.run())
    changed = {
        n: (tuner.now[f"{n}/{layer}.up"] != before[f"{n}/{layer}.up"]).any(0) for n in ("0001", "0002")
    }
    assert changed["0001"][1] and sum(int(c.sum()) for c in changed.values()) == 3, changed


def test_dytox_keeps_earlier_task_tokens_and_all_shared_weights(photos, weights, plain):
    first = learn(photos, "dytox", "<rex>")
    before, drawn = first.tuner.state(), predicted(first.backbone, REX)
    second = learn(photos, "dytox", "<tom>", after=first)
    state = second.tuner.state()
    assert (
        torch.equal(state["<rex>/task_token"], before["<rex>/task_token"])
        and state["<tom>/task_token"].abs().max() > 0
    )
    assert all(torch.equal(p, weights[n]) for n, p in second.backbone.unet.named_parameters())
    assert torch.equal(predicted(second.backbone, PLAIN), plain) and torch.equal(
        predicted(second.backbone, REX), drawn
    )
    ids = second.backbone.tokenizer(
        [f"{TOM} and {REX}"], padding="max_length", max_length=32, return_tensors="pt"
    ).input_ids
    placed = second.tuner.placed(ids)[0]
    assert torch.equal(placed[-1], state["<rex>/task_token"]) and torch.equal(
        placed[-2], state["<tom>/task_token"]
    )
    assert not placed[:-2].any()


def test_cidm_aggregates_by_the_prompt(photos):
    g = torch.Generator().manual_seed(2)
    features, keys = torch.randn(3, 7, 5, generator=g), torch.randn(4, 5, generator=g)
    slow = [literal_aggregation(row, keys) for row in features]
    assert torch.allclose(aggregation(features, keys), torch.tensor(slow), atol=1e-5)
    learning = begin(photos, "cidm")
    assert learning.tuner.gates(learning.backbone.read([PLAIN])).eq(1).all(), (
        "alone and fully, while it is learnt"
    )
    learning.finish()
    following = begin(photos, "cidm", "<tom>", learning.backbone, learning.tuner)
    assert following.tuner.gates(following.backbone.read([REX]))[0, 0].tolist() == [0, 1]
    following.finish()
    weights = following.tuner.gates(following.backbone.read([REX, TOM]))[:, 0]
    assert torch.allclose(weights.norm(dim=1), torch.ones(2), atol=1e-5)
    assert weights[0, 0] > weights[0, 1] and weights[1, 1] > weights[1, 0]


@pytest.mark.parametrize("method", ["den", "cidm"])
def test_a_growing_tuner_taken_up_again_ends_with_the_same_bits(photos, method):
    first = learn(photos, method, "<rex>")
    past = first.tuner.state()
    ends = []
    for broken in (False, True):
        learning = resumed(photos, method, past)
        if broken:
            next(steps := learning.run())
            saved = learning.state()
            steps.close()
            learning = resumed(photos, method, past)
            learning.load_state(saved, 1)
        list(learning.run())
        learning.finish()
        ends.append(learning.tuner.state())
    assert ends[0].keys() == ends[1].keys() and len(ends[0]) > len(past)
    assert all(torch.equal(ends[0][n], t) for n, t in ends[1].items())


def resumed(photos, method, state):
    """A learning of <tom> over a fresh backbone that holds ``state``, in which <rex> is known."""
    backbone = fresh()
    backbone.add_token("<rex>", backbone.word_vector("dog"))
    tuner = TUNERS[METHODS[method].tuner](backbone)
    tuner.load(state)
    return begin(photos, method, "<tom>", backbone, tuner, steps=2)
