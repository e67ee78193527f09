"""Layers in another form compute what they did, and everything is as before afterwards."""

from __future__ import annotations

import ctypes

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from transformers import Qwen3Config, Qwen3Model

from l2dm.backbone import allocator, fast_layers, frozen_in_bfloat16, layers, multiplies_bfloat16, precision


def noisy(backbone, side: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(2, 4, side, side, generator=generator),
        torch.tensor([10, 900]),
        backbone.encode_text(["a dog", "a cat at night"]),
    )


def test_written_out_is_fused(backbone):
    given = noisy(backbone)
    with torch.no_grad():
        fused = backbone.predict(*given)
        with fast_layers(backbone.unet):
            written = backbone.predict(*given)
    assert not torch.equal(fused, written), "another way of adding up"
    assert torch.allclose(fused, written, atol=1e-4)


def literal(query, key, value, scale):
    """softmax(scale Q Kᵀ) V, each row by itself."""
    rows = []
    for q, k, v in zip(query, key, value):
        weights = [(scale * (k @ one)).exp() for one in q]
        rows.append(torch.stack([(w[:, None] * v).sum(0) / w.sum() for w in weights]))
    return torch.stack(rows)


@pytest.mark.parametrize("loud", [1.0, 30.0], ids=["as it is", "exponents beyond the range"])
def test_attention_that_keeps_no_probabilities_is_the_literal_one(loud):
    generator = torch.Generator().manual_seed(1)
    given = [torch.randn(2, n, 5, generator=generator, dtype=torch.float64) for n in (7, 9, 9)]
    given[0] *= loud
    given = [x.requires_grad_(True) for x in given]
    wanted, found = literal(*given, 0.4), layers.RecomputedAttention.apply(*given, 0.4)
    grad = torch.randn(wanted.shape, generator=generator, dtype=torch.float64)
    assert torch.allclose(found, wanted)
    for ours, theirs in zip(
        torch.autograd.grad(found, given, grad), torch.autograd.grad(wanted, given, grad)
    ):
        assert torch.allclose(ours, theirs, atol=1e-12)


def test_attention_survives_what_would_be_infinite():
    query, key, value = (torch.full((1, 3, 4), 100.0).bfloat16().requires_grad_(True) for _ in range(3))
    found = layers.RecomputedAttention.apply(query, key, value, 1.0)
    found.sum().backward()
    assert torch.equal(found, value) and all(torch.isfinite(x.grad).all() for x in (query, key, value))


def test_in_bfloat16_nothing_of_the_size_of_the_probabilities_is_kept(backbone):
    kept, given = [], noisy(backbone)
    tuned = next(
        m for name, m in backbone.unet.named_modules() if name.endswith("attn2.to_k")
    ).weight.requires_grad_(True)
    try:
        with (
            torch.autocast("cpu", torch.bfloat16),
            fast_layers(backbone.unet),
            torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t),
        ):
            backbone.predict(*given)
        assert not [t for t in kept if t.shape[-2:] == (256, 256)], "16 x 16 pixels, each with each"
        few = [t for t in kept if t.shape[-2:] == (64, 64)]
        assert few and all(t.dtype == torch.bfloat16 for t in few)
    finally:
        tuned.requires_grad_(False)


def test_pictures_of_many_pixels_stay_fused(backbone, monkeypatch):
    seen, own = [], AttnProcessor2_0.__call__
    monkeypatch.setattr(
        AttnProcessor2_0,
        "__call__",
        lambda self, attn, x, *a, **k: seen.append(x.shape[1]) or own(self, attn, x, *a, **k),
    )
    monkeypatch.setattr(layers, "MOST_PIXELS", 64)
    with fast_layers(backbone.unet), torch.no_grad():
        backbone.predict(*noisy(backbone))
    assert set(seen) == {256}


@pytest.mark.parametrize("linear", [True, False])
def test_a_transformer_keeps_channels_last(linear):
    torch.manual_seed(0)
    one = Transformer2DModel(
        2, 8, in_channels=16, norm_num_groups=4, cross_attention_dim=12, use_linear_projection=linear
    )
    given = torch.randn(2, 16, 4, 5), torch.randn(2, 3, 12)
    own = one(*given, return_dict=False)[0]
    one.to(memory_format=torch.channels_last)
    with fast_layers(one):
        found = one(given[0].to(memory_format=torch.channels_last), given[1], return_dict=False)[0]
    assert torch.allclose(found, own, atol=1e-5)
    assert found.is_contiguous(memory_format=torch.channels_last) and not own.is_contiguous(
        memory_format=torch.channels_last
    )


def test_group_norm_of_bfloat16_is_the_rounded_one_of_float32():
    norm = torch.nn.GroupNorm(4, 16)
    x = (3 + torch.randn(2, 16, 8, 8)).bfloat16().to(memory_format=torch.channels_last)
    with fast_layers(norm), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(norm(x), norm(x.float()).bfloat16())
    assert norm(x.float()).dtype == torch.float32


def test_processors_come_back_after_an_error_and_foreign_ones_stay(backbone):
    attention = [m for m in backbone.unet.modules() if hasattr(m, "processor")]
    own, foreign = [layer.processor for layer in attention], AttnProcessor()
    attention[0].processor = foreign
    try:
        with pytest.raises(RuntimeError, match="stop"), fast_layers(backbone.unet):
            assert (
                attention[0].processor is foreign
                and type(attention[1].processor) is layers.MatmulAttnProcessor
            )
            raise RuntimeError("stop")
        assert [layer.processor for layer in attention[1:]] == own[1:]
        assert not any(
            {"forward", "_get_output_for_continuous_inputs"} & vars(m).keys() for m in backbone.unet.modules()
        )
    finally:
        attention[0].processor = own[0]


def test_frozen_weights_in_bfloat16_are_autocasts_own_to_the_last_bit(backbone):
    unet, given, told = backbone.unet, noisy(backbone), []
    tuned = next(m for name, m in unet.named_modules() if name.endswith("attn2.to_k")).weight
    whole = unet.conv_out.weight.data
    unet.conv_out.weight.data = whole + 1e-6  # float16 would lose something of it
    own = {name: p.detach().clone() for name, p in unet.named_parameters()}
    assert not torch.equal(own["conv_out.weight"].half().float(), own["conv_out.weight"])
    tuned.requires_grad_(True)
    try:
        for held in (False, True):
            with (
                torch.autocast("cpu", torch.bfloat16, cache_enabled=False),
                frozen_in_bfloat16(*[unet] * held),
            ):
                loss = backbone.predict(*given).float().square().mean()
                (grad,) = torch.autograd.grad(loss, tuned)
                conv = unet.conv_out.weight
                assert (conv.dtype == torch.bfloat16) is held and tuned.dtype == torch.float32
            told.append((float(loss.detach()), grad))
    finally:
        tuned.requires_grad_(False)
    assert told[0][0] == told[1][0] and torch.equal(told[0][1], told[1][1])
    assert all(
        torch.equal(p, own[name]) and p.dtype == own[name].dtype for name, p in unet.named_parameters()
    )
    with pytest.raises(RuntimeError, match="stop"), frozen_in_bfloat16(unet):
        raise RuntimeError("stop")
    assert unet.conv_out.weight.dtype == torch.float32
    unet.conv_out.weight.data = whole


@pytest.mark.parametrize("amx, avx, fast", [(False, False, False), (True, False, True), (False, True, True)])
def test_bfloat16_is_for_hardware_that_multiplies_it(monkeypatch, amx, avx, fast):
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx)
    assert multiplies_bfloat16(torch.device("cpu")) is fast
    assert not multiplies_bfloat16(torch.device("meta"))


def test_a_byte_beside_its_bfloat16_gives_every_float16_number_back():
    every = torch.arange(-(2**15), 2**15).to(torch.int16).view(torch.float16)
    every = every[torch.isfinite(every)].float()
    away = precision._fp16_residual(every)
    assert away.dtype == torch.int8 and torch.equal(
        precision._restored(every.bfloat16(), away).float(), every
    )
    assert precision._fp16_residual(every + 2.0**-30) is None


@pytest.mark.parametrize("said", [None, "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_freed_memory_is_kept_unless_the_environment_says_how(monkeypatch, said):
    called = []
    for name in ("MALLOC_ARENA_MAX", "MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES"):
        monkeypatch.delenv(name, raising=False)
    if said:
        monkeypatch.setenv(said, "1")
    library = type("Library", (), {"mallopt": lambda self, *given: called.append(given)})
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library())
    monkeypatch.setattr(allocator.sys, "platform", "linux")
    allocator.keep_freed_memory()
    assert called == ([] if said else [(-3, 32 << 20), (-1, 1 << 30)])


def test_what_a_network_works_out_for_itself_keeps_its_precision():
    """Rotary frequencies, rounded, turn all that stands far from the beginning."""
    sizes = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8}
    network = Qwen3Model(Qwen3Config(**sizes, **heads))
    turns = network.rotary_emb.inv_freq.clone()
    precision.cast(network, torch.bfloat16)
    assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert turns.dtype == torch.float32 and torch.equal(network.rotary_emb.inv_freq, turns)
    assert not torch.equal(turns.bfloat16().float(), turns)
