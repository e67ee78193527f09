"""What the base's trainings read from a scene, and the denoiser's own: noise, text through cross-attention
alone, tiles.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from l2dm.backbone import Backbone
from mini_base import clip, muon, unet
from mini_base.corpus import NOUNS, Icon
from mini_base.scenes import Item, Scene


@pytest.fixture(scope="module")
def denoiser():
    torch.manual_seed(0)
    return unet.Denoiser(unet.text_encoder(clip.build(Backbone.load("mini").tokenizer)), 16).eval()


def scene(*things: tuple[str, tuple[int, int, int, int]]) -> Scene:
    items = tuple(Item(Icon(noun, "noto", noun, np.zeros((8, 8, 4), np.uint8)), box) for noun, box in things)
    return Scene(np.zeros((64, 64, 3), np.uint8), "two things", "snow", items)


def test_patches_know_the_noun_whose_box_holds_them():
    bear, cat = (clip.NOUN_PLACE[noun] for noun in ("bear", "cat"))
    pixels, caption, there, background, named = clip.told(
        scene(("bear", (-3, 8, 20, 64)), ("cat", (36, 8, 70, 40)))
    )
    assert named[1:, :3].eq(bear).all() and named[1:5, 4:].eq(cat).all(), (
        "half a patch is enough; what sticks out is cut"
    )
    nothing = len(NOUNS)
    assert named[0].eq(nothing).all() and named[:, 3:4].eq(nothing).all() and named[5:, 5:].eq(nothing).all()
    assert there.nonzero().flatten().tolist() == sorted((bear, cat)) and clip.KINDS[background] == "snow"
    assert pixels.shape == (64, 64, 3) and caption == "two things"


def test_text_reaches_the_picture_through_cross_attention_alone(denoiser):
    ids = clip.tokenize(Backbone.load("mini").tokenizer, ["a photo of a dog", "a photo of a cat"])
    noisy, t = torch.randn(1, 16, 16, 16).expand(2, -1, -1, -1), torch.full((2,), 500)
    with torch.no_grad():
        dog, cat = denoiser(noisy, t, ids)
        assert torch.allclose(dog, cat, atol=1e-6), "attention adds nothing yet, and there is no other door"
        for name, module in denoiser.unet.named_modules():
            if ".attn2." in name and name.endswith("to_out.0"):
                module.bias.data.normal_()
            if name.endswith("proj_out"):
                torch.nn.init.normal_(module.weight, std=0.1)
        dog, cat = denoiser(noisy, t, ids)
    assert not torch.allclose(dog, cat, atol=1e-4)
    assert denoiser.unet.config.addition_embed_type is None


def test_widths_and_heads_fill_tiles_and_hidden_weights_are_muons(denoiser):
    attentions = [m for n, m in denoiser.unet.named_modules() if n.endswith(("attn1", "attn2"))]
    assert {m.to_q.out_features // m.heads for m in attentions} == {32} and len(attentions) == 20
    assert all(m.to_q.out_features % 32 == 0 for m in attentions)
    turned, rest = muon.hidden(denoiser), dict(denoiser.named_parameters())
    left = {name for name in rest if name not in turned and rest[name].ndim > 1}
    assert left == {
        "text.embeddings.token_embedding.weight",
        "text.embeddings.position_embedding.weight",
        "unet.conv_in.weight",
        "unet.conv_out.weight",
    }


def test_v_gives_back_picture_and_noise():
    noising, generator = unet.Noising(), torch.Generator().manual_seed(0)
    z, noise = torch.randn(6, 4, 4, 4, generator=generator), torch.randn(6, 4, 4, 4, generator=generator)
    t = torch.tensor([0, 100, 300, 600, 900, 999])
    noisy, v = noising.noisy(z, t, noise)
    a, s = noising.bars[t].sqrt()[:, None, None, None], (1 - noising.bars[t]).sqrt()[:, None, None, None]
    assert torch.allclose(a * noisy - s * v, z, atol=1e-5) and torch.allclose(
        s * noisy + a * v, noise, atol=1e-5
    )
    assert noising.bars[-1] < 1e-6, "the last step is noise alone"


def test_details_have_their_turn_later():
    noising, generator = unet.Noising(), torch.Generator().manual_seed(0)
    early, late = (noising.levels(4000, at, generator).float().mean() for at in (0.0, 1.0))
    assert early > late + 30
