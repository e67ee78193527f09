"""The objective against its literal twin; the loop's promises."""

from __future__ import annotations

import pytest
import torch
from learning import fresh
from remembering import MEMORY, PAST, start

from l2dm.errors import SettingsError
from l2dm.learner.loop import falling
from l2dm.retention import Past


@pytest.fixture
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


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
@pytest.mark.filterwarnings("default")  # torch has some of its own, as it compiles
def test_compiled_steps_are_the_plain_ones(photos):
    told = [[step.loss for step in start(photos, compile=how).run()] for how in (False, True)]
    assert told[1] == pytest.approx(told[0], rel=1e-3)


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
