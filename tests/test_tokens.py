"""Tokens that a base has already, vocabularies that are padded, and what both may not change."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import QUICK
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file
from test_backbone import PROMPT, tiny_base
from transformers import CLIPTextModel, CLIPTokenizer

from l2dm import World
from l2dm.backbone import Backbone
from l2dm.backbone.tokens import PersonalTokens
from l2dm.errors import BaseModelError, TokenError
from l2dm.generation import mentions
from l2dm.world.manifest import Manifest

WHOLE = ("<rex>", "<rex>_1", "<rex>_2")
TINY = {**QUICK, "steps": 2, "batch": 1, "prior_pictures": 1, "report_pictures": 0}


def baked(folder, backbone, tokens, pad=None):
    """A tiny base whose text encoder has textual inversions of ``tokens``, saved as diffusers' users save
    them.
    """
    torch.manual_seed(0)
    tiny_base(folder, backbone)
    tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer")
    text = CLIPTextModel.from_pretrained(folder / "text_encoder")
    tokenizer.add_tokens(list(tokens))
    text.resize_token_embeddings(len(tokenizer), pad_to_multiple_of=pad)
    tokenizer.save_pretrained(folder / "tokenizer")
    text.save_pretrained(folder / "text_encoder")
    return folder


def drawn(world, prompt=PROMPT):
    return np.asarray(world.generate(prompt, n=1, seed=7, steps=2)[0].image)


@pytest.mark.parametrize("tokens", [WHOLE[:1], WHOLE])
def test_a_baked_in_token_is_adopted_and_learnt_from_there(tmp_path, backbone, photos, tokens):
    base = baked(tmp_path / "base", backbone, tokens)
    before = Backbone.load(base).own_vector("<rex>")
    assert before.shape == (16,) if len(tokens) == 1 else before.shape == (3, 16)
    world = World.create(tmp_path / "w", base, clip="none")
    plain = drawn(world)
    version = world.learn(photos, token="<rex>", noun="dog", **TINY, token_learning_rate=0.01)
    assert version.adopted == len(tokens)
    assert world.history()[-1]["adopted"] == len(tokens)
    after = load_file(tmp_path / "w/versions/0001/tokens.safetensors")["<rex>"]
    moved = (after - before).abs().view(len(tokens), 16).amax(1)
    assert ((moved > 0) & (moved < 0.1)).all(), "every vector was learnt, from where it was"
    again = World.open(tmp_path / "w")
    assert np.array_equal(drawn(again), plain), "a prompt that names no concept draws the same bits"
    assert not np.array_equal(drawn(again, "a <rex> dog"), drawn(again, "a dog"))
    again.forget("<rex>")
    assert torch.equal(again.backbone().own_vector("<rex>"), before), (
        "the base's own vector is in place again"
    )
    assert Manifest.read(tmp_path / "w").present.adopted == 0


def test_a_token_of_several_vectors_is_read_as_diffusers_reads_it(tmp_path, backbone):
    base = baked(tmp_path / "base", backbone, WHOLE)
    ours, theirs = Backbone.load(base), StableDiffusionPipeline.from_pretrained(base)
    ours.add_token("<rex>", ours.own_vector("<rex>"))
    for prompt in ("a photo of <rex> dog on the beach", PROMPT, "<rex>" * 12):
        features, _ = theirs.encode_prompt(prompt, "cpu", 1, False)
        assert torch.equal(ours.encode_text([prompt]), features)
    row = ours.read(["a <rex> dog"])
    pieces = ours.tokenizer.convert_ids_to_tokens(row.ids[0].tolist())
    assert pieces[2:6] == [*WHOLE, "dog</w>"] and row.named.tolist() == [[True]]
    (rex, cat) = mentions("a <rex> dog and a cat", {"<rex>": "dog"}, ours)
    assert (rex.personal, rex.noun, cat.noun) == ((2, 3, 4), (5,), (8,))
    assert ours.count_tokens("a <rex> dog") == 5


def test_new_tokens_in_a_padded_vocabulary_leave_other_prompts_alone(tmp_path, backbone, photos):
    base = baked(tmp_path / "base", backbone, ["<old>"], pad=64)
    loaded = Backbone.load(base)
    assert loaded.tokens.base.num_embeddings > len(loaded.tokenizer)
    world = World.create(tmp_path / "w", base, clip="none")
    plain = drawn(world)
    world.learn(photos, token="<rex>", noun="dog", **TINY)
    assert world.backbone().tokens.ids == {"<rex>": (len(loaded.tokenizer),)}
    again = World.open(tmp_path / "w")
    assert np.array_equal(drawn(again), plain)
    assert not np.array_equal(drawn(again, "a <rex> dog"), drawn(again, "a dog"))


def test_more_tokens_than_rows_are_refused(tmp_path, backbone):
    base = tiny_base(tmp_path / "base", backbone)
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    tokenizer.add_tokens(["<rex>"])
    tokenizer.save_pretrained(base / "tokenizer")
    with pytest.raises(BaseModelError, match="its tokenizer has 3073 tokens, its text encoder 3072"):
        World.create(tmp_path / "w", base, clip="none")


def test_tokens_that_cannot_be_adopted_are_refused_before_anything_is_drawn(tmp_path, backbone, photos):
    base = baked(tmp_path / "base", backbone, ["<pad>", "<tom>_1"])
    tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer")
    tokenizer.pad_token = "<pad>"
    tokenizer.save_pretrained(base / "tokenizer")
    world = World.create(tmp_path / "w", base, clip="none")
    for token, said in (
        ("<pad>", "marks every prompt with it"),
        ("<tom>", "has <tom>_1, but not <tom> itself"),
    ):
        with pytest.raises(TokenError, match=said):
            world.learn(photos, token=token, noun="dog", **TINY)
    assert not world.concepts and not (tmp_path / "w/prior").exists()


def test_a_token_written_otherwise_in_the_tokenizer_is_adopted_too(tmp_path, backbone):
    """CLIP's tokenizer reads ``<rex>`` as a baked-in ``<Rex>``: a vector beside that is never looked up."""
    loaded = Backbone.load(baked(tmp_path / "base", backbone, ["<Rex>"]))
    own = loaded.own_vector("<rex>")
    assert torch.equal(own, loaded.tokens.base.weight[-1])
    loaded.add_token("<rex>", own + 1)
    assert torch.equal(loaded.word_vector("<rex>"), own + 1)
    with pytest.raises(TokenError, match="known already"):
        loaded.add_token("<rex>", own)


def test_personal_ids_may_lie_anywhere():
    tokens = PersonalTokens(torch.nn.Embedding(6, 3))
    one, two = torch.randn(3), torch.randn(2, 3)
    tokens.add("<a>", (4,), one)
    tokens.add("<b>", (9, 2), two)
    read = tokens(torch.tensor([[0, 4, 9, 2, 5]]))[0]
    table = tokens.base.weight
    assert torch.equal(read, torch.stack([table[0], one, two[0], two[1], table[5]]))
