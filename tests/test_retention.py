"""How each method keeps the past: penalties and distillations against their literal twins, and what a world
keeps for them.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import QUICK
from learning import NAMES, TOM, begin, fresh, learn
from reference.keeping import (
    literal_correlations,
    literal_ewc,
    literal_fisher,
    literal_hold,
    literal_new_data_distillation,
    literal_self_regularization,
)
from safetensors.torch import load_file
from tiny import mini

from l2dm import World
from l2dm.errors import SettingsError, TokenError
from l2dm.learner import Learning, objective
from l2dm.retention import (
    KeptDirections,
    Past,
    Task,
    attention_errors,
    attention_outputs,
    old_prompts,
)
from l2dm.retention.fisher import diagonal
from l2dm.retention.kept_directions import KEY, SENTENCES, correlations, leading


@pytest.fixture
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


def test_ewc_is_its_literal_twin_and_0_at_the_old_weights(photos):
    first = begin(photos, "ewc")
    with first._training():
        name = next(iter(first.tuner.parameters))
        some = {name: first.tuner.parameters[name]}
        fast, slow = diagonal(some, first._photo_losses()), literal_fisher(first._photo_losses(), some)
    assert fast[name].max() > 0 and torch.allclose(fast[name], slow[name], rtol=1e-4, atol=0)
    kept = first.finish()
    assert first.penalty() == 0 and set(kept) == {f"fisher/{n}" for n in first.tuner.parameters}
    old = first.tuner.values()
    second = begin(photos, "ewc", "<tom>", first.backbone, first.tuner, Past(kept=kept))
    assert second.penalty() == 0, "nothing has moved yet"
    with torch.no_grad():
        second.tuner.parameters[name] += 0.1 * torch.randn(
            old[name].shape, generator=torch.Generator().manual_seed(0)
        )
    now = second.tuner.values()
    assert float(second.penalty()) == pytest.approx(
        literal_ewc(now, old, [{name: kept[f"fisher/{name}"]}]), rel=1e-4
    )
    both = second.finish()
    assert (both[f"fisher/{name}"] >= kept[f"fisher/{name}"]).all() and not torch.equal(
        both[f"fisher/{name}"], kept[f"fisher/{name}"]
    )


def test_what_ewc_keeps_lives_and_dies_with_its_version(photos, tmp_path):
    world, options = (
        World.create(tmp_path / "w", mini()),
        {**QUICK, "method": "ewc", "steps": 1, "fisher_samples": 1},
    )
    world.learn(photos, token="<rex>", noun="dog", **options)
    file = "kept.safetensors"
    first = load_file(world.path / "versions/0001" / file)
    assert file in world._files
    terms = []
    world.learn(
        photos,
        token="<tom>",
        noun="cat",
        **options,
        on_progress=lambda p: terms.append(p.step and p.step.terms),
    )
    assert "penalty" in terms[-1]
    second = load_file(world.path / "versions/0002" / file)
    assert any((second[n] > first[n]).any() for n in first)
    world.undo()
    assert not (world.path / "versions/0002").exists()
    world.learn(photos, token="<tom>", noun="cat", **options)
    assert all(torch.equal(t, second[n]) for n, t in load_file(world.path / "versions/0003" / file).items())
    world.forget("<tom>")
    assert (world.path / "versions/0004" / file).exists()


def test_lwf_is_its_literal_twin(photos):
    prompts = old_prompts({"<tom>": "cat"}, "dog")
    assert prompts == {"<tom>": [TOM], "dog": ["a photo of a dog"]}
    backbone = fresh()
    backbone.add_token("<tom>", backbone.word_vector("cat"))
    learning = begin(
        photos, "lwf", backbone=backbone, past=Past(prompts=prompts), batch=3, distil_weight=2.5, steps=2
    )
    next(learning.run())
    generator = torch.Generator().manual_seed(4)
    parts = learning.rows(generator)
    assert (
        parts[-1].latents is parts[0].latents
        and set(parts[-1].prompts) <= {TOM, "a photo of a dog"}
        and parts[-1].weight == 0
    )
    state = generator.get_state()
    whole, values = objective(learning.backbone, parts, generator, learning.distillation)
    with torch.no_grad():
        generator.set_state(state)
        slow = literal_new_data_distillation(learning, parts[-1], generator, 6)
    assert slow > 0 and values["distillation"] == pytest.approx(slow, rel=1e-3)
    assert float(whole.detach()) == pytest.approx(values["concept"] + 2.5 * slow, rel=1e-3)


def test_c_loras_penalty_is_its_literal_twin(photos):
    tuner, backbone = None, None
    for number, token in enumerate(NAMES):
        learning = begin(photos, "c-lora", token, backbone, tuner)
        tuner, backbone = learning.tuner, learning.backbone
        assert learning.penalty() == 0, "no past, or nothing new yet"
        with torch.no_grad():
            for layer in list(tuner.layers)[:1]:
                tuner.now[f"{number + 1:04d}/{layer}.up"].normal_(
                    generator=torch.Generator().manual_seed(number)
                )
    factors = [[tuner.now[f"{name}/{layer}.{kind}"] for name in tuner.adapters] for kind in ("up", "down")]
    assert float(learning.penalty()) == pytest.approx(literal_self_regularization(*factors), rel=1e-4)


def test_joint_sees_all_photos_and_the_world_keeps_none(photos, tmp_path, monkeypatch):
    world, options = World.create(tmp_path / "w", mini()), {**QUICK, "method": "joint", "steps": 1}
    world.learn(photos, token="<rex>", noun="dog", **options)
    with pytest.raises(SettingsError, match=r"photos of every earlier concept.*<rex>.*earlier="):
        world.learn(photos, token="<tom>", noun="cat", **options)
    with pytest.raises(TokenError, match="<ada>"):
        world.learn(photos, token="<tom>", noun="cat", earlier={"<ada>": photos}, **options)
    seen = []
    rows = Learning.rows
    monkeypatch.setattr(
        Learning, "rows", lambda self, generator: (seen.append(self), rows(self, generator))[1]
    )
    world.learn(photos, token="<tom>", noun="cat", earlier={"<rex>": photos}, **options)
    past = seen[0].past
    own = {z.numpy().tobytes() for bucket in seen[0]._buckets for views in bucket.latents for z in views}
    assert {z.numpy().tobytes() for z in past.memory["<rex>"]} == own, (
        "here both concepts have the same photos"
    )
    assert all("<rex> dog" in prompt for prompt in past.prompts["<rex>"]) and len(
        past.prompts["<rex>"]
    ) == len(past.memory["<rex>"])
    assert set(past.priors) == {"a photo of a dog", "a photo of a cat"}
    assert (
        not any("short-term" in name for name in world._files.files)
        and not (world.path / "learning").exists()
    )


def test_the_attention_term_holds_cross_attention_outputs(photos):
    past = Past(memory={"<tom>": torch.randn(2, 4, 8, 8)}, prompts={"<tom>": ["a cat", "a dog"]})
    learning = begin(photos, "l2dm-published", past=past, steps=2, batch=2, attention_weight=0.5)
    next(learning.run())
    generator = torch.Generator().manual_seed(4)
    parts = learning.rows(generator)
    state, found = generator.get_state(), {}
    for weight in (0.0, 0.5):
        generator.set_state(state)
        learning.distillation.attention_weight = weight
        _, found[weight] = objective(learning.backbone, parts, generator, learning.distillation)
    generator.set_state(state)
    times = torch.randint(
        learning.backbone.process.scheduler.config.num_train_timesteps, (4,), generator=generator
    )[2:]
    noise = torch.randn((4, 4, 8, 8), generator=generator)[2:]
    noisy, context = (
        learning.backbone.process.scheduler.add_noise(parts[-1].latents, noise, times),
        learning.backbone.read(parts[-1].prompts),
    )
    outputs = {}
    for name, state in (("teacher", learning.distillation.previous), ("student", learning.tuner.values())):
        with (
            torch.no_grad(),
            learning.tuner.holding(state),
            attention_outputs(learning.backbone.unet) as outputs[name],
        ):
            learning.backbone.predict(noisy, times, context)
    slow = [
        [float((t[row] - s[row]).square().sum() / t[row].square().sum()) for row in range(2)]
        for t, s in zip(*outputs.values())
    ]
    assert attention_errors(*outputs.values()).tolist() == pytest.approx(np.mean(slow, 0), rel=1e-4)
    assert found[0.5]["distillation"] - found[0.0]["distillation"] == pytest.approx(
        0.5 * np.mean(slow), rel=1e-3
    )


def test_kept_directions_are_their_literal_twin(photos):
    learning = begin(photos, "l2dm-directions", kept_share=0.99, learning_rate=0.05, steps=2)
    held, words = learning.retention(KeptDirections), "a dog"
    with torch.no_grad():
        features = learning.backbone.encode_text([sentence.format(words) for sentence in SENTENCES])
    assert torch.allclose(correlations(learning.backbone, words), literal_correlations(features), atol=1e-8)
    basis = leading(held.sum, 0.99)
    assert (
        torch.allclose(basis.T @ basis, torch.eye(basis.shape[1], dtype=basis.dtype), atol=1e-8)
        and basis.shape[1] < 50
    )
    left = held.sum - basis @ basis.T @ held.sum
    assert (
        float(left.trace() / held.sum.trace())
        <= 0.01
        < float((held.sum - basis[:, :-1] @ basis[:, :-1].T @ held.sum).trace() / held.sum.trace())
    )
    assert len(held.before) == len(learning.tuner.parameters), "all of them read the prompt"
    p, before = held.before[0]
    with torch.no_grad():
        p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(0))
    slow = literal_hold(p, before, basis.float())
    held.after_step()
    assert torch.allclose(p, slow, atol=1e-5) and not torch.equal(p, before)
    p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(1))
    slow = literal_hold(p.grad, torch.zeros_like(p), basis.float())
    held.before_step()
    assert torch.allclose(p.grad, slow, atol=1e-5)
    p.grad = None


def test_what_earlier_prompts_look_at_stays_however_long_one_learns(photos):
    how, earlier, own = {"learning_rate": 0.05, "steps": 3, "kept_share": 0.999}, {}, {}
    for method in ("l2dm-directions", "l2dm-published"):
        first = learn(photos, method, "<rex>", **how)
        task = Task(first.backbone, first.tuner, first.concept, Past(), first.settings)
        directions = KeptDirections(task)
        directions.begin()
        kept = directions.keep(iter(()))
        old = first.tuner.values()
        second = begin(photos, method, "<tom>", first.backbone, first.tuner, Past(kept=kept), **how)
        list(second.run())
        moves = [p - old[name] for name, p in second.tuner.parameters.items()]
        assert max(float(move.abs().max()) for move in moves) > 0.1
        with torch.no_grad():
            features = first.backbone.encode_text(["a photo of <rex> dog", "a photo of <tom> cat"])
            moved = torch.stack([(features @ move.T).square().mean((1, 2)) for move in moves]).mean(0)
        earlier[method], own[method] = moved.tolist()
        if method == "l2dm-directions":
            basis = leading(second.retention(KeptDirections).sum, 0.999).float()
            assert all(float((move @ basis).abs().max()) < 1e-4 for move in moves)
            both = second.retention(KeptDirections).keep(iter(()))[KEY]
            assert both.shape == kept[KEY].shape and float(both.trace()) > float(kept[KEY].trace())
    assert earlier["l2dm-directions"] < 0.01 * earlier["l2dm-published"]
    assert earlier["l2dm-directions"] < 0.9 * own["l2dm-directions"], "the new one's own prompt moves more"


def test_nothing_kept_is_l2dm_as_published(photos):
    told = [
        learn(photos, method, "<rex>", **changes).tuner.values()
        for method, changes in (
            ("l2dm-directions", {"kept_share": 0.0}),
            ("l2dm-published", {}),
            ("l2dm-directions", {}),
        )
    ]
    assert all(torch.equal(told[0][name], told[1][name]) for name in told[0])
    assert not all(torch.equal(told[0][name], told[2][name]) for name in told[0])
