"""The objective against its literal twin; the loop's promises."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from learning import fresh
from reference.objective import literal_distillation, literal_objective
from tiny import mini

from l2dm.backbone import Backbone
from l2dm.backbone.process import DiscreteBetas
from l2dm.concept import Concept
from l2dm.errors import SettingsError
from l2dm.learner import Learning, Rows, objective
from l2dm.learner.loop import falling
from l2dm.learner.mixes import mixes
from l2dm.retention import Past
from l2dm.retention.elastic_distillation import distillation_errors
from l2dm.settings import LearnSettings
from l2dm.tuners import TUNERS

SETTINGS = LearnSettings(steps=3, batch=2, learning_rate=1e-3, seed=5, precision="float32")


@pytest.fixture
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


def latents(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


PAST = Past({"a photo of a dog": latents(3, 1)})
MEMORY = {
    "memory": {"<tom>": latents(2, 2), "<ada>": latents(3, 3)},
    "prompts": {"<tom>": ["a cat"] * 2, "<ada>": ["an owl"] * 3},
}


def start(photos, tuner="key_value", past=PAST, **changes):
    """A fresh learning of <rex> over a backbone of its own."""
    backbone = Backbone.load(mini())
    concept = Concept.read(photos, "<rex>", "dog")
    chosen = TUNERS[tuner](backbone)
    vector = backbone.add_token("<rex>", backbone.word_vector("dog"))
    return Learning(backbone, chosen, vector, concept, past, dataclasses.replace(SETTINGS, **changes))


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
        rows = [Rows("concept", 1.0, z, ["a dog", ""], masks=masks)]
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
        method="isolated",
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
    return start(photos, "switched", past=past, method=method, **{"mixes": 4, **changes})


def test_over_adapters_the_memory_is_rehearsed_and_held_beside_the_new_concept(photos, monkeypatch):
    learning, sizes = meeting(photos), []
    _, mix, replay = learning.rows(torch.Generator().manual_seed(1))
    assert (mix.term, len(mix.latents), mix.weight, mix.tasks) == ("mix", 2, 2 / SETTINGS.batch, ())
    assert (replay.term, len(replay.latents), replay.weight) == ("replay", 2, 2 / SETTINGS.batch)
    for prompt, task in zip(replay.prompts, replay.tasks):
        assert task in ("<tom>", "<ada>") and "<rex> dog" in prompt and learning.past.names[task] in prompt
    assert replay.known == [prompt.replace("<rex> dog", "a dog") for prompt in replay.prompts], (
        "the teacher does not know <rex>"
    )
    assert (replay.held <= replay.masks).all()
    halves = replay.held.view(2, 8, 2, 4).sum((1, 3))
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


def test_key_value_tunes_keys_values_and_the_new_vector_only(photos):
    learning = start(photos)
    before = {n: p.clone() for n, p in learning.backbone.unet.named_parameters()}
    table = learning.backbone.tokens.base.weight.clone()
    encoder = {
        n: p.clone() for n, p in learning.backbone.text_encoder.named_parameters() if "vectors" not in n
    }
    vector = learning.named["token"].clone()
    list(learning.run())
    changed = {n for n, p in learning.backbone.unet.named_parameters() if not torch.equal(p, before[n])}
    assert changed == {n for n in before if ".attn2.to_k." in n or ".attn2.to_v." in n}
    assert torch.equal(table, learning.backbone.tokens.base.weight)
    assert all(
        torch.equal(p, encoder[n])
        for n, p in learning.backbone.text_encoder.named_parameters()
        if "vectors" not in n
    )
    assert not torch.equal(vector, learning.named["token"])
    assert not any(
        p.requires_grad
        for p in [*learning.backbone.unet.parameters(), *learning.backbone.text_encoder.parameters()]
    )


def test_embedding_tunes_no_weight_at_all(photos):
    learning = start(photos, "embedding")
    before = {n: p.clone() for n, p in learning.backbone.unet.named_parameters()}
    vector = learning.named["token"].clone()
    list(learning.run())
    assert all(torch.equal(p, before[n]) for n, p in learning.backbone.unet.named_parameters())
    assert not torch.equal(vector, learning.named["token"])


def test_same_seed_same_weights_other_seed_other_weights(photos):
    ends = []
    for seed in (5, 5, 6):
        learning = start(photos, seed=seed)
        list(learning.run())
        ends.append(learning.state())
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])
    assert any(not torch.equal(ends[0][n], ends[2][n]) for n in ends[0])


@pytest.mark.parametrize("kind", ["constant", "cosine"])
def test_taking_up_a_checkpoint_changes_nothing(photos, kind):
    whole = start(photos, lr_scheduler=kind)
    list(whole.run())
    first = start(photos, lr_scheduler=kind)
    next(steps := first.run())
    saved, done = first.state(), first.done
    steps.close()
    second = start(photos, lr_scheduler=kind)
    second.load_state(saved, done)
    list(second.run())
    assert all(torch.equal(whole.state()[n], second.state()[n]) for n in saved)


def test_rates_fall_as_told(photos):
    assert [falling(kind, 0.0) for kind in ("constant", "linear", "cosine")] == [1.0] * 3
    assert [round(falling(kind, 0.75), 3) for kind in ("constant", "linear", "cosine")] == [1.0, 0.25, 0.146]
    learning = start(photos, lr_scheduler="linear")
    rates = [[group["lr"] for group in learning.optimizer.param_groups] for _ in learning.run()]
    assert rates == [[pytest.approx(rate * (1 - k / 3)) for rate in learning.rates] for k in range(3)]


def test_steps_report_their_terms(photos):
    steps = list(start(photos).run())
    assert [s.step for s in steps] == [1, 2, 3]
    assert all(s.loss == pytest.approx(s.terms["concept"] + s.terms["prior"], rel=1e-5) for s in steps)
    assert set(next(start(photos, past=Past()).run()).terms) == {"concept"}


def test_the_pretrained_weights_come_back_within_the_block(photos):
    learning = start(photos)
    list(learning.run())
    tuned = learning.tuner.state()
    with learning.tuner.pretrained():
        assert all(
            torch.equal(p, learning.tuner.pretrained_values[n]) for n, p in learning.tuner.parameters.items()
        )
    assert all(torch.equal(p.cpu(), tuned[n]) for n, p in learning.tuner.parameters.items())
    with pytest.raises(RuntimeError), learning.tuner.pretrained():
        raise RuntimeError
    assert all(torch.equal(p.cpu(), tuned[n]) for n, p in learning.tuner.parameters.items())


def test_l2dm_without_memory_and_teacher_is_custom_diffusion_bit_for_bit(photos):
    ends = []
    for method in ("custom-diffusion", "l2dm-published"):
        learning = start(photos, method=method)
        list(learning.run())
        ends.append(learning.state())
    assert ends[0].keys() == ends[1].keys()
    assert all(torch.equal(ends[0][n], ends[1][n]) for n in ends[0])


def test_a_step_is_one_forward_and_the_teacher_sees_the_replayed_rows_only(photos, monkeypatch):
    past = Past(PAST.priors, **MEMORY)
    learning = start(photos, past=past, method="l2dm-published", batch=3)
    sizes = []
    forward = learning.backbone.unet.forward
    monkeypatch.setattr(
        learning.backbone.unet, "forward", lambda x, *a, **k: (sizes.append(len(x)), forward(x, *a, **k))[1]
    )
    terms = next(learning.run()).terms
    assert sizes == [3, 9], "the teacher on 3 replayed rows, then the student on 3 new, 3 prior, 3 replayed"
    assert set(terms) == {"concept", "prior", "replay", "distillation"}
    assert terms["distillation"] < 1e-9, "at the first step the student is the teacher"


def test_in_bfloat16_the_student_computes_with_its_own_weights(photos):
    """Autocast keeps casted weights: with the teacher's, nothing would ever differ from the teacher."""
    told = {}
    for precision in ("float32", "bfloat16"):
        learning = start(
            photos,
            past=Past(PAST.priors, **MEMORY),
            method="l2dm-published",
            precision=precision,
            learning_rate=1e-2,
        )
        told[precision] = [step.terms["distillation"] for step in learning.run()]
    assert told["bfloat16"][0] == pytest.approx(0, abs=1e-6) and told["float32"][1] > 1e-5
    assert told["bfloat16"][1:] == pytest.approx(told["float32"][1:], rel=0.5)


def test_a_compiled_denoiser_learns_and_is_gone_afterwards(photos, monkeypatch):
    class Compiled(torch.nn.Module):
        def __init__(self, own):
            super().__init__()
            self.own, self.calls, self.config = own, 0, own.config
            made.append(self)

        def forward(self, *args, **kwargs):
            self.calls += 1
            return self.own(*args, **kwargs)

    made: list[Compiled] = []
    monkeypatch.setattr(torch, "compile", Compiled)
    learning = start(photos, compile=True)
    unet = learning.backbone.unet
    losses = [step.loss for step in learning.run()]
    assert [(c.own, c.calls) for c in made] == [(unet, 3)] and learning.backbone.unet is unet
    assert losses == [step.loss for step in start(photos).run()]


def test_compiling_without_a_compiler_is_refused_before_anything_is_learnt(photos, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    learning = start(photos, compile=True)
    with pytest.raises(SettingsError, match=r"compile = true needs a C\+\+ compiler"):
        next(learning.run())
    assert learning.done == 0 and not any(p.requires_grad for p in learning.named.values())


@pytest.mark.slow
def test_compiled_steps_are_the_plain_ones(photos):
    told = [[step.loss for step in start(photos, compile=how).run()] for how in (False, True)]
    assert told[1] == pytest.approx(told[0], rel=1e-3)


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


def test_prompts_without_the_new_token_are_encoded_once(photos):
    learning = start(photos)
    encoded, read, encode = [], learning.backbone.tokenizer.batch_decode, learning.backbone.encode_text
    learning.backbone.text_encoder.register_forward_hook(
        lambda module, args, out: encoded.extend(read(args[0], skip_special_tokens=True))
    )
    list(learning.run())
    assert encoded.count("a photo of a dog") == 1
    assert sum("<rex>" in p for p in encoded) >= 3, "the token's own prompts change with every step"
    mixed = ["a photo of a dog", "a <rex> dog", "a photo of a dog"]
    assert torch.allclose(learning.texts(mixed).features, encode(mixed), atol=1e-5)
