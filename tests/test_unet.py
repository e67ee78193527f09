"""What the base's trainings read from a scene: where things are, which words name them, and what is asked of attention."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from l2dm.backbone import Backbone
from mini_base import clip, unet
from mini_base.corpus import NOUNS, Icon
from mini_base.scenes import Item, Scene


@pytest.fixture(scope="module")
def tokenizer():
    return Backbone.load("mini").tokenizer


def scene(*things: tuple[str, tuple[int, int, int, int]]) -> Scene:
    items = tuple(Item(Icon(noun, "noto", noun, np.zeros((8, 8, 4), np.uint8)), box) for noun, box in things)
    return Scene(np.zeros((64, 64, 3), np.uint8), "", "white", items)


def words(tokenizer, caption: str, row: torch.Tensor) -> str:
    ids = tokenizer(caption).input_ids
    return tokenizer.decode([ids[int(k)] for k in row.nonzero().flatten()]).strip()


def test_patches_know_the_noun_whose_box_holds_them():
    bear, cat = (clip.NOUN_PLACE[noun] for noun in ("bear", "cat"))
    named = clip.noun_of_patches(scene(("bear", (-3, 8, 20, 64)), ("cat", (36, 8, 70, 40))))
    assert named[1:, :3].eq(bear).all() and named[1:5, 4:].eq(cat).all(), (
        "half a patch is enough; what sticks out is cut"
    )
    assert (
        named[0].eq(len(NOUNS)).all()
        and named[:, 3:4].eq(len(NOUNS)).all()
        and named[5:, 5:].eq(len(NOUNS)).all()
    )


def test_things_are_found_by_their_own_words_and_boxes(tokenizer):
    caption = "a photo of a bear and a teddy bear in the grass"
    tokens, cells = unet.whereabouts(
        tokenizer, scene(("bear", (0, 0, 32, 64)), ("teddy bear", (36, 8, 64, 40))), caption
    )
    assert [words(tokenizer, caption, row) for row in tokens[:2]] == ["bear", "teddy bear"]
    assert not tokens[2].any() and not cells[2].any()
    assert cells[0, :, :4].eq(1).all() and not cells[0, :, 4:].any()
    assert cells[1].sum() == pytest.approx(28 * 32 / 64) and cells[1, 1, 4] == pytest.approx(0.5)


def test_what_the_caption_leaves_out_is_nowhere(tokenizer):
    tokens, _ = unet.whereabouts(tokenizer, scene(("dog", (0, 0, 64, 64))), "")
    assert not tokens.any()


def test_misplaced_is_its_literal_twin():
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 5, 8, 8, generator=generator).softmax(1) * torch.rand(
        2, 5, 1, 1, generator=generator
    )
    tokens = torch.tensor(
        [[[0, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0] * 5], [[0, 0, 0, 0, 1], [0] * 5, [0] * 5]]
    ).float()
    cells, weights = torch.rand(2, 3, 8, 8, generator=generator), torch.tensor([0.3, 0.9])
    total = counted = 0.0
    for b in range(2):
        for n in range(3):
            if not tokens[b, n].any():
                continue
            own = sum(maps[b, k] for k in range(5) if tokens[b, n, k])
            inside = sum(float(own[y, x] * cells[b, n, y, x]) for y in range(8) for x in range(8))
            short = max(0.0, math.log(unet.ENOUGH / (inside / float(cells[b, n].sum()))))
            total += float(weights[b]) * (unet.PLACED * (1 - inside / float(own.sum())) + unet.FELT * short)
            counted += float(weights[b])
    assert float(unet.misplaced(maps, tokens, cells, weights)) == pytest.approx(total / counted, rel=1e-5)


def test_a_closed_pooled_door_reads_the_empty_prompt_and_attention_its_own(tokenizer):
    torch.manual_seed(0)
    denoiser = unet.Denoiser(unet.text_encoder(clip.build(tokenizer))).eval()
    ids = clip.tokenize(
        tokenizer, ["a photo of a dog", "a photo of a dog", "", ""]
    )  # the last: what a closed door reads
    noisy, t = torch.randn(1, 4, 16, 16).expand(3, -1, -1, -1), torch.full((3,), 500)
    with torch.no_grad():
        opened, closed, empty = denoiser(noisy, t, ids, torch.tensor([0, 3, 2]))[0]
        assert torch.allclose(closed, empty, atol=1e-6), (
            "attention adds nothing yet: only the door could tell them apart"
        )
        assert not torch.allclose(opened, closed, atol=1e-4)
        for name, module in denoiser.unet.named_modules():
            if name.endswith("proj_out"):
                torch.nn.init.normal_(module.weight, std=0.1)
        opened, closed, empty = denoiser(noisy, t, ids, torch.tensor([0, 3, 2]))[0]
    assert not torch.allclose(closed, empty, atol=1e-4) and not torch.allclose(opened, closed, atol=1e-4)
    assert not denoiser.unet.add_embedding._forward_pre_hooks


def test_attention_that_is_in_place_and_enough_costs_nothing():
    cells = torch.zeros(1, 3, 8, 8)
    cells[0, 0, 2:5, 2:5] = 1
    maps, tokens = torch.zeros(1, 4, 8, 8), torch.zeros(1, 3, 4)
    maps[0, 1], tokens[0, 0, 1] = 0.8 * cells[0, 0], 1
    assert float(unet.misplaced(maps, tokens, cells, torch.ones(1))) == pytest.approx(0, abs=1e-6)
    assert float(unet.misplaced(0.1 * maps, tokens, cells, torch.ones(1))) == pytest.approx(
        unet.FELT * math.log(5), rel=1e-4
    )
