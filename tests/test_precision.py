"""Attention written out is the fused one, and everything is as before afterwards."""

from __future__ import annotations

import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

from l2dm.backbone import fast_attention, frozen_in_bfloat16, multiplies_bfloat16, precision


def noisy(backbone, side: int = 16) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 4, side, side, generator=generator), torch.tensor([10, 900]), backbone.encode_text(["a dog", "a cat at night"])


def test_written_out_is_fused(backbone):
    given = noisy(backbone)
    with torch.no_grad():
        fused = backbone.predict(*given)
        with fast_attention(backbone.unet):
            written = backbone.predict(*given)
    assert not torch.equal(fused, written), "another way of adding up"
    assert torch.allclose(fused, written, atol=1e-4)


def test_in_bfloat16_it_keeps_no_float32_copy_and_rounds_as_autocast_does(backbone):
    kept = []
    layer = next(m for m in backbone.unet.modules() if hasattr(m, "get_attention_scores"))
    query, key = torch.randn(2, 8, 16, 4, generator=torch.Generator().manual_seed(1)).bfloat16().requires_grad_(True)
    with torch.autocast("cpu", torch.bfloat16):
        own = layer.get_attention_scores(query, key)
        with fast_attention(backbone.unet), torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.dtype) or t, lambda t: t):
            ours = layer.get_attention_scores(query, key)
    assert torch.equal(ours, own) and set(kept) == {torch.bfloat16}
    mask = torch.zeros(8, 16, 16)
    mask[..., 8:] = -1e4
    with fast_attention(backbone.unet):
        assert torch.allclose(layer.get_attention_scores(query, key, mask.bfloat16())[..., 8:].float(), torch.zeros(()))
    assert "get_attention_scores" not in vars(layer)


def test_pictures_of_many_pixels_stay_fused(backbone, monkeypatch):
    seen = []
    for kind in (AttnProcessor, AttnProcessor2_0):
        own = kind.__call__
        monkeypatch.setattr(
            kind, "__call__", lambda self, attn, x, *a, own=own, **k: seen.append((type(self), x.shape[1])) or own(self, attn, x, *a, **k)
        )
    monkeypatch.setattr(precision, "MOST_PIXELS", 64)
    with fast_attention(backbone.unet), torch.no_grad():
        backbone.predict(*noisy(backbone))
    assert {pixels for kind, pixels in seen if kind is AttnProcessor2_0} == {256}
    assert {pixels for kind, pixels in seen if kind is AttnProcessor} == {64, 16}


def test_processors_come_back_after_an_error_and_foreign_ones_stay(backbone):
    layers = [m for m in backbone.unet.modules() if hasattr(m, "processor")]
    own, foreign = [layer.processor for layer in layers], AttnProcessor()
    layers[0].processor = foreign
    try:
        with pytest.raises(RuntimeError, match="stop"), fast_attention(backbone.unet):
            assert layers[0].processor is foreign and type(layers[1].processor) is precision._WrittenOut
            raise RuntimeError("stop")
        assert [layer.processor for layer in layers[1:]] == own[1:]
    finally:
        layers[0].processor = own[0]


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
            with torch.autocast("cpu", torch.bfloat16, cache_enabled=False), frozen_in_bfloat16(*[unet] * held):
                loss = backbone.predict(*given).float().square().mean()
                (grad,) = torch.autograd.grad(loss, tuned)
                conv = unet.conv_out.weight
                assert (conv.dtype == torch.bfloat16) is held and tuned.dtype == torch.float32
            told.append((float(loss.detach()), grad))
    finally:
        tuned.requires_grad_(False)
    assert told[0][0] == told[1][0] and torch.equal(told[0][1], told[1][1])
    assert all(torch.equal(p, own[name]) and p.dtype == own[name].dtype for name, p in unet.named_parameters())
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
