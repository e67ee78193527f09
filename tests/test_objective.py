"""The objective and its terms against their literal twins: masks, mixes, rehearsal and distillation."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from learning import fresh
from reference.objective import literal_distillation, literal_objective
from remembering import MEMORY, PAST, SETTINGS, latents, start

from l2dm.backbone.process import DiscreteBetas
from l2dm.learner import Rows, objective
from l2dm.learner.mixes import mixes
from l2dm.retention import Past
from l2dm.retention.elastic_distillation import distillation_errors


@pytest.fixture
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction", "sample"])
def test_the_objective_is_its_literal_twin(backbone, kind):
    own = backbone.process.scheduler
    other = dataclasses.replace(backbone)
    other.__dict__["process"] = DiscreteBetas(type(own).from_config(own.config, prediction_type=kind))
    g = torch.Generator().manual_seed(3)
    parts = [
        Rows(
            "concept",
            1.0,
            torch.randn(3, 4, 8, 8, generator=g),
            ["a photo of a dog", "a dog", "a photo of a dog"],
        ),
        Rows("prior", 0.7, torch.randn(2, 4, 8, 8, generator=g), ["a cat"] * 2),
    ]
    with torch.no_grad():
        fast, values = objective(other, parts, torch.Generator().manual_seed(9))
        slow = literal_objective(other, parts, torch.Generator().manual_seed(9))
    assert fast.item() == pytest.approx(slow, rel=1e-4)
    assert fast.item() == pytest.approx(values["concept"] + 0.7 * values["prior"], rel=1e-5)


def test_masked_rows_count_their_mask_alone(backbone):
    z, inside = latents(2, 3), torch.zeros(2, 1, 8, 8)
    inside[:, :, 2:5, 2:6] = 1

    def value(masks):
        rows = [Rows("concept", 1.0, z, ["a dog", ""], loss_mask=masks)]
        return objective(backbone, rows, torch.Generator().manual_seed(9))[0].item()

    with torch.no_grad():
        plain, whole, here, elsewhere = (
            value(masks) for masks in (None, torch.ones_like(inside), inside, 1 - inside)
        )
    share = 3 * 4 / 64
    assert whole == pytest.approx(plain, rel=1e-6)
    assert whole == pytest.approx(share * here + (1 - share) * elsewhere, rel=1e-5) and here != pytest.approx(
        elsewhere, rel=1e-3
    )


def test_mixes_name_both_things_and_are_learnt_beside_the_photos(photos):
    learning = start(
        photos,
        past=Past(companions={"a cat": latents(2, 1), "<tom> cat": latents(1, 2)}),
        method="gated-kv",
        mixes=3,
    )
    made = mixes(learning.backbone, learning.concept, learning.past.companions, True, seed=5, count=12)
    again = mixes(learning.backbone, learning.concept, learning.past.companions, True, seed=5, count=12)
    assert (
        made.latents.shape == (12, 4, 8, 8)
        and torch.equal(made.latents, again.latents)
        and made.prompts == again.prompts
    )
    assert all(
        "<rex> dog" in prompt and ("a cat" in prompt or "<tom> cat" in prompt) for prompt in made.prompts
    )
    assert ((made.masks.mean((1, 2, 3)) > 0.4) & (made.masks.mean((1, 2, 3)) < 0.9)).all()
    rows = learning.rows(torch.Generator().manual_seed(1))[1]
    assert rows.term == "mix" and len(rows.latents) == 3 and rows.weight == 3 / SETTINGS.batch
    list(learning.run())


def meeting(photos, method="l2dm", **changes):
    """A learning of <rex> over adapters, with two concepts in its memory."""
    past = Past(
        companions={"a cat": latents(2, 1)}, names={"<tom>": "<tom> cat", "<ada>": "<ada> owl"}, **MEMORY
    )
    return start(photos, "gated_lora", past=past, method=method, **{"mixes": 4, **changes})


def test_over_adapters_the_memory_is_rehearsed_and_held_beside_the_new_concept(photos, monkeypatch):
    learning, sizes = meeting(photos), []
    _, mix, replay = learning.rows(torch.Generator().manual_seed(1))
    assert (mix.term, len(mix.latents), mix.weight, mix.tasks) == ("mix", 2, 2 / SETTINGS.batch, ())
    assert (replay.term, len(replay.latents), replay.weight) == ("replay", 2, 2 / SETTINGS.batch)
    for prompt, task in zip(replay.prompts, replay.tasks):
        assert task in ("<tom>", "<ada>") and "<rex> dog" in prompt and learning.past.names[task] in prompt
    assert replay.teacher_prompts == [prompt.replace("<rex> dog", "a dog") for prompt in replay.prompts], (
        "the teacher does not know <rex>"
    )
    assert (replay.distil_mask <= replay.loss_mask).all()
    halves = replay.distil_mask.view(2, 8, 2, 4).sum((1, 3))
    assert ((halves == 0).sum(1) == 1).all(), "what is held is one half: the earlier concept's"
    forward = learning.backbone.unet.forward
    monkeypatch.setattr(
        learning.backbone.unet, "forward", lambda x, *a, **k: (sizes.append(len(x)), forward(x, *a, **k))[1]
    )
    assert all(step.terms["distillation"] > 0 for step in learning.run()) and sizes == [2, 6] * 3


def test_l2dm_over_adapters_without_a_part(photos):
    def parts(method, **changes):
        learning = meeting(photos, method, **changes)
        return learning, {p.term: p.weight for p in learning.rows(torch.Generator().manual_seed(1))}

    assert parts("l2dm-without-tame")[1] == {"concept": 1.0, "mix": 2.0, "replay": 0.0}, (
        "as many rows train the new concept as with rehearsal"
    )
    elastic = parts("l2dm-uniform-distillation")[0].distillation.elastic
    assert elastic.pace == 0 and parts("l2dm")[0].distillation.elastic.pace > 0
    assert parts("l2dm-without-ecd")[0].distillation is None
    assert parts("l2dm", mixes=1)[1] == {"concept": 1.0, "mix": 0.5}, "a single row has no room for a meeting"


def test_distillation_counts_where_it_is_held():
    teacher, student, where = latents(2, 1), latents(2, 2), torch.zeros(2, 1, 8, 8)
    where[0, :, 4:10, 5:12] = where[1, :, :, :8] = 1
    slow = [float((teacher - student)[row][:, where[row, 0] == 1].square().mean()) for row in range(2)]
    assert distillation_errors(teacher, student, where).tolist() == pytest.approx(slow, rel=1e-5)
    assert distillation_errors(teacher, student, torch.ones_like(where)).tolist() == pytest.approx(
        distillation_errors(teacher, student).tolist(), rel=1e-6
    )


@pytest.mark.parametrize("method", ["l2dm-published", "l2dm"])
def test_distillation_is_its_literal_twin(photos, method):
    changes = {"method": method, "distil_weight": 2.5, "steps": 2}
    learning = (
        meeting(photos, **changes)
        if method == "l2dm"
        else start(photos, past=Past(PAST.priors, **MEMORY), **changes)
    )
    next(learning.run())
    learning.distillation.elastic.drift = torch.tensor([0.5, 1.5])
    learning.distillation.elastic.seen = torch.ones(2)
    generator = torch.Generator().manual_seed(4)
    parts = learning.rows(generator)
    state = generator.get_state()
    whole, values = objective(learning.backbone, parts, generator, learning.distillation)
    generator.set_state(state)
    without, _ = objective(learning.backbone, parts, generator)
    generator.set_state(state)
    with torch.no_grad():
        slow = literal_distillation(learning, parts, generator, {"<tom>": 0.5, "<ada>": 1.5})
    assert slow > 0
    assert values["distillation"] == pytest.approx(slow, rel=1e-3)
    assert float((whole - without).detach()) == pytest.approx(2.5 * slow, rel=1e-2)


def test_without_rehearsal_the_memory_only_distils(photos):
    parts = start(photos, past=Past(PAST.priors, **MEMORY), method="l2dm-without-tame").rows(
        torch.Generator().manual_seed(0)
    )
    assert {p.term: p.weight for p in parts} == {"concept": 1.0, "prior": 1.0, "replay": 0.0}


def test_checkpoints_hold_the_elastic_weights(photos):
    past = Past(PAST.priors, **MEMORY)
    whole = start(photos, past=past, method="l2dm-published")
    list(whole.run())
    first = start(photos, past=past, method="l2dm-published")
    steps = first.run()
    next(steps), next(steps)
    saved, done = first.state(), first.done
    steps.close()
    second = start(photos, past=past, method="l2dm-published")
    second.load_state(saved, done)
    list(second.run())
    assert saved["elastic"].shape == (2, 2) and saved["elastic"][0].sum() > 0
    assert all(torch.equal(whole.state()[n], second.state()[n]) for n in saved)
