"""What measures a base: the layouts given by hand, and the ImageNet network."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import Attention

from benchmarks import imagenet, oracle

PAIRS = [("bear", "teddy bear"), ("dog", "ice cream")]


def test_plain_is_the_pipelines_own_picture(backbone):
    images = oracle.draw(backbone, PAIRS, "plain", 2, 3.0, 5)
    own = backbone.decode_latents(
        backbone.draw_latents([oracle.prompt(pair) for pair in PAIRS], 2, 3.0, 5, batch=2)
    )
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(images, own))
    for kind in ("confined", "regional"):
        assert not np.array_equal(
            np.asarray(oracle.draw(backbone, PAIRS, kind, 2, 3.0, 5)[1]), np.asarray(own[1])
        )


def test_words_of_a_noun_are_found(backbone):
    text = oracle.prompt(PAIRS[1])
    ids = backbone.tokenizer(text).input_ids
    for noun in PAIRS[1]:
        positions = oracle.words_of(backbone, text, noun)
        assert backbone.tokenizer.decode([ids[i] for i in positions]).strip() == noun


def test_a_half_does_not_see_the_other_things_words():
    torch.manual_seed(0)
    layer = Attention(query_dim=8, cross_attention_dim=6, heads=2, dim_head=4).requires_grad_(False)
    layer.processor = oracle._Confined(layer.processor, [([1], [2, 3])])
    x, text = torch.randn(2, 16, 8), torch.randn(2, 5, 6)
    other = text.clone()
    other[:, 2:4] += 1.0
    before, after = (layer(x, encoder_hidden_states=read).view(2, 4, 4, 8) for read in (text, other))
    assert torch.allclose(before[1, :, :2], after[1, :, :2], atol=1e-6), (
        "the left half, of the picture that is asked for"
    )
    assert (before[1, :, 2:] - after[1, :, 2:]).abs().amax(-1).min() > 1e-4
    assert (before[0] - after[0]).abs().amax(-1).min() > 1e-4, "nothing is confined of the empty prompt"


def test_the_imagenet_network_has_the_published_shape():
    net = imagenet.EfficientNetLite0().eval()
    assert sum(p.numel() for p in net.parameters()) == 4_652_008
    assert net(torch.zeros(1, 3, 64, 64)).shape == (1, 1280)


@pytest.mark.parametrize(
    "pixels, kernel, stride, out", [(8, 3, 2, 4), (7, 3, 2, 4), (8, 5, 2, 4), (8, 5, 1, 8)]
)
def test_same_convolutions_pad_last_what_is_odd(pixels, kernel, stride, out):
    conv = imagenet.SameConv(1, 1, kernel, stride, bias=False)
    torch.nn.init.ones_(conv.weight)
    counted = conv(torch.ones(1, 1, pixels, pixels))[0, 0]
    need = (out - 1) * stride + kernel - pixels
    reach = [sum(0 <= i * stride - need // 2 + k < pixels for k in range(kernel)) for i in range(out)]
    assert counted.shape == (out, out) and torch.equal(
        counted, torch.outer(*[torch.tensor(reach).float()] * 2)
    )
