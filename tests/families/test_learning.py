"""Every family learns by every tuner, and what it learns is what the method's literal twins say."""

from __future__ import annotations

import pytest
import torch
from learning import REX, TOM, begin, learn
from reference.objective import by_itself, literal_distillation, literal_objective

from families.contract import PLAIN, copied, predicted, weights
from l2dm.backbone.sites import text_layers
from l2dm.errors import SettingsError
from l2dm.learner.objective import objective
from l2dm.methods import METHODS
from l2dm.retention import Past

#: Tuner -> a method that has it.
TUNERS = {row.tuner: name for name, row in METHODS.items()}
#: Those whose concepts leave a prompt that names none as it is, to the last bit.
OWN_WORDS = ("gated_lora", "gated_kv", "embedding", "task_token", "widening")


@pytest.mark.parametrize("tuner", TUNERS)
def test_every_tuner_learns_two_concepts_and_touches_nothing_else(backbone, photos, tuner):
    if tuner == "gated_kv" and not text_layers(backbone.denoiser):
        with pytest.raises(SettingsError, match="share their keys and values"):
            begin(photos, TUNERS[tuner], backbone=backbone)
        return
    before = {p: p.detach().clone() for p in weights(backbone).values()}
    plain = predicted(backbone, PLAIN) if tuner in OWN_WORDS else None
    first = begin(photos, TUNERS[tuner], "<rex>", backbone=backbone, steps=1)
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
    rex = predicted(backbone, REX) if tuner in OWN_WORDS else None
    second = learn(photos, TUNERS[tuner], "<tom>", after=first, steps=1)
    own = {*second.tuner.parameters.values()}
    assert all(torch.equal(p.to(value), value) for p, value in before.items() if p not in own)
    assert torch.isfinite(predicted(backbone, TOM)).all()
    if tuner in OWN_WORDS:
        assert torch.equal(predicted(backbone, PLAIN), plain)
        assert torch.equal(predicted(backbone, REX), rex) or tuner == "widening"  # splits what moves too far


def test_prior_pairs_memory_and_distillation_are_their_literal_twins(backbone, photos):
    """Row by row, each by a forward of its own."""
    cells, g = backbone.side // backbone.factor, torch.Generator().manual_seed(5)
    drawn = [torch.randn(2, backbone.channels, cells, cells, generator=g) for _ in range(2)]
    past = Past({"a photo of a dog": drawn[0]}, {"<tom>": drawn[1]}, {"<tom>": ["a cat", "a photo of a cat"]})
    changes = {"batch": 2, "steps": 2, "distil_weight": 2.5, "prior_weight": 0.7}
    learning = begin(photos, "l2dm-published", backbone=backbone, past=past, **changes)
    next(learning.run())
    generator = torch.Generator().manual_seed(4)
    parts = learning.rows(generator)
    assert [part.term for part in parts] == ["concept", "prior", "replay"] and parts[-1].tasks
    state = generator.get_state()
    with torch.no_grad():
        fast, values = objective(backbone, parts, generator, learning.distillation)
        generator.set_state(state)
        slow = literal_objective(backbone, parts, generator, by_itself)
        generator.set_state(state)
        held = literal_distillation(learning, parts, generator, {"<tom>": 1.0})
    assert values["distillation"] == pytest.approx(held, rel=1e-3) and held > 0
    assert float(fast) == pytest.approx(slow + 2.5 * held, rel=1e-3)


def test_a_stopped_learning_goes_on_to_the_same_bits(folder, photos):
    whole, stopped, again = (
        begin(photos, "gated-lora", backbone=copied(folder), steps=2, learning_rate=0.01) for _ in range(3)
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
            "gated-lora",
            backbone=copied(folder),
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


def test_oblong_pictures_are_learnt(backbone):
    """What buckets ask of a family: another shape than the square goes in and comes out."""
    wide, high = 3 * backbone.grain, 2 * backbone.grain
    latents = backbone.encode_pictures(torch.zeros(1, 3, high, wide, device=backbone.device))
    assert latents.shape[2:] == (high // backbone.factor, wide // backbone.factor)
    t = backbone.process.sample_t(1, torch.Generator().manual_seed(0)).to(latents.device)
    with torch.no_grad():
        told = backbone.predict(latents, t, backbone.read(["a dog"]))
    assert told.shape == latents.shape and torch.isfinite(told).all()
