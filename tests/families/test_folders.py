"""Every tiny folder is a model of its family: diffusers' own pipeline loads it and draws by the prompt."""

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from families.folders import DRAWING, FAMILIES, tiny_folder
from families.tokenizers import WORDS, clip_tokenizer, qwen_tokenizer, t5_tokenizer


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tiny_folder_draws_in_diffusers_own_pipeline(family, tmp_path):
    pipe = DiffusionPipeline.from_pretrained(tiny_folder(family, tmp_path), local_files_only=True)
    assert type(pipe) is type(FAMILIES[family]())
    pipe.set_progress_bar_config(disable=True)

    def draw(prompt, seed=0):
        settings = {"num_inference_steps": 2, "height": 32, "width": 32, "output_type": "np"}
        generator = torch.Generator().manual_seed(seed)
        return pipe(prompt=prompt, generator=generator, **settings, **DRAWING.get(family, {})).images[0]

    picture = draw("a photo of a dog")
    assert picture.shape == (32, 32, 3) and np.isfinite(picture).all() and picture.std() > 0
    assert not np.array_equal(picture, draw("a photo of a cat at night")), "the text has to be read"


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
