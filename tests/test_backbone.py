"""The backbone against diffusers itself, and bases of other shapes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    PNDMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from benchmarks.tiny import PLAIN
from l2dm import World
from l2dm.backbone import Backbone
from l2dm.backbone.tokens import PersonalTokens
from l2dm.errors import WorldError

PROMPT = "a photo of a dog on the beach"


def stock(folder, **options):
    pipe = StableDiffusionPipeline.from_pretrained(folder, dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    generators = [torch.Generator().manual_seed(7 + i) for i in range(2)]
    return [
        np.asarray(i) for i in pipe(PROMPT, num_images_per_prompt=2, generator=generators, **options).images
    ]


def test_a_fresh_world_draws_what_diffusers_draws_bit_for_bit(tmp_path, backbone):
    world = World.create(tmp_path / "w")
    theirs = stock(backbone.folder, num_inference_steps=4, guidance_scale=5.0, negative_prompt="a cat")
    ours = world.generate(PROMPT, n=2, seed=7, steps=4, guidance_scale=5.0, negative_prompt="a cat")
    assert all(np.array_equal(a, b.image) for a, b in zip(theirs, ours))


def test_learnt_tokens_do_not_touch_prompts_without_them(backbone):
    taught = Backbone.load()
    before = taught.encode_text([PROMPT])
    taught.add_token("<rex>", torch.randn(taught.tokens.base.embedding_dim))
    assert torch.equal(before, taught.encode_text([PROMPT]))
    assert not torch.equal(taught.encode_text(["a <rex> dog"]), taught.encode_text(["a dog dog"]))


def test_a_token_with_a_words_vector_reads_as_that_word():
    taught = Backbone.load()
    taught.add_token("<rex>", taught.word_vector("dog"))
    assert torch.equal(taught.encode_text(["a <rex> on grass"]), taught.encode_text(["a dog on grass"]))


def test_latents_come_back_as_the_picture(backbone):
    x = torch.linspace(-1, 1, 64).expand(1, 3, 64, 64)
    back = backbone.decode_latents(backbone.encode_pictures(x))[0]
    assert np.abs(np.asarray(back, float) / 127.5 - 1 - x[0].permute(1, 2, 0).numpy()).mean() < 0.06


def test_each_distinct_prompt_is_encoded_once(backbone, monkeypatch):
    seen = []
    forward = backbone.text_encoder.forward
    monkeypatch.setattr(
        backbone.text_encoder,
        "forward",
        lambda ids, *a, **k: (seen.append(len(ids)), forward(ids, *a, **k))[1],
    )
    out = backbone.encode_text(["a dog", "a cat", "a dog"])
    assert seen == [2] and torch.equal(out[0], out[2])


def tiny_base(folder, backbone, kl=True, prediction="epsilon"):
    """A Stable-Diffusion-shaped folder of another shape: AutoencoderKL, noise prediction, PNDM."""
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(backbone.tokenizer),
            hidden_size=16,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            eos_token_id=backbone.tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=16,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(block_out_channels=(8, 8), norm_num_groups=4, **blocks) if kl else AutoencoderTiny()
    scheduler = PNDMScheduler(skip_prk_steps=True, prediction_type=prediction, beta_schedule="scaled_linear")
    parts = {"vae": vae, "text_encoder": text, "tokenizer": backbone.tokenizer, "unet": unet}
    StableDiffusionPipeline(**parts, scheduler=scheduler, **PLAIN).save_pretrained(folder)
    return folder


def test_a_base_of_ones_own_goes_the_whole_way(tmp_path, backbone, photos):
    world = World.create(tmp_path / "w", tiny_base(tmp_path / "base", backbone), clip="none")
    world.learn(
        photos,
        token="<rex>",
        noun="dog",
        steps=2,
        batch=1,
        prior_pictures=1,
        prior_steps=2,
        report_pictures=1,
    )
    again = World.open(tmp_path / "w")
    assert again.generate("a <rex> dog", n=1, steps=2)[0].image.size == (16, 16)


def test_a_world_refuses_another_base_in_its_bases_place(tmp_path, backbone):
    folder = tiny_base(tmp_path / "base", backbone)
    World.create(tmp_path / "w", folder, clip="none")
    tiny_base(folder, backbone)
    with pytest.raises(WorldError, match="made over another base"):
        World.open(tmp_path / "w").backbone()


def test_a_tokens_gradient_is_the_same_every_time():
    """Many prompts, several threads: nothing may be added up in an order of its own, or a resumed learning
    ends elsewhere.
    """
    torch.manual_seed(0)
    tokens = PersonalTokens(torch.nn.Embedding(50, 192))
    vector = tokens.add("<rex>", (50,), torch.randn(192)).requires_grad_(True)
    ids, towards = torch.randint(52, (64, 32)).clamp(max=50), torch.randn(64, 32, 192)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = [torch.autograd.grad((tokens(ids) * towards).sum(), vector)[0] for _ in range(20)]
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(gradient, found[0]) for gradient in found)
    assert torch.allclose(found[0], towards[ids == 50].sum(0), atol=1e-4)
