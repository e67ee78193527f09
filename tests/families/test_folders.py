"""Tiny folders are made alike of one seed, and their tokenizers read as published ones do."""

import pytest
import torch

from families.folders import tiny_folder
from families.tokenizers import WORDS, clip_tokenizer, qwen_tokenizer, t5_tokenizer


def test_the_same_seed_makes_the_same_folder(tmp_path):
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (tiny_folder("pixart", tmp_path / str(i), seed) for i, seed in enumerate((0, 0, 1)))
    weights = [
        (f / "transformer/diffusion_pytorch_model.safetensors").read_bytes() for f in (one, same, other)
    ]
    assert weights[0] == weights[1] != weights[2] and torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("make", [clip_tokenizer, t5_tokenizer, qwen_tokenizer])
def test_words_are_one_token_each_and_all_others_are_spelt(make):
    tokenizer = make()
    for word in WORDS:
        assert len(tokenizer(f"of {word}", add_special_tokens=False).input_ids) == 1 + len(
            tokenizer("of", add_special_tokens=False).input_ids
        )
    spelt = tokenizer("a dog, Xylo", add_special_tokens=False).input_ids
    assert tokenizer.unk_token_id not in spelt and "ylo" in tokenizer.decode(spelt)
