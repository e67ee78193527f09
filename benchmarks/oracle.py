"""Pairs of things with the layout given by hand: what guidance of attention could reach at most on a base.

Two ways, each thing in a half of its own: its words are read by that half alone (attention confined), or each
half is drawn for a prompt of its own (regional prompts, as in MultiDiffusion, arXiv 2302.08113). Where
neither beats the plain prompt, pairs do not fail for want of attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from PIL import Image

from l2dm.backbone import Backbone
from l2dm.backbone.sites import text_attention
from l2dm.concept.words import article

KINDS = ("plain", "confined", "regional")


def prompt(pair: tuple[str, str]) -> str:
    return "a photo of " + " and ".join(article(noun) for noun in pair)


def words_of(backbone: Backbone, text: str, noun: str) -> list[int]:
    """Positions of the tokens of ``noun`` in ``text``."""
    begin = text.rindex(noun)
    offsets = backbone.tokenizer(text, return_offsets_mapping=True)["offset_mapping"]
    return [i for i, (a, b) in enumerate(offsets) if a < b and a < begin + len(noun) and b > begin]


def halves(side: int) -> torch.Tensor:
    """(2, side * side): which pixels are in the left half, and which in the right."""
    left = torch.zeros(side, side, dtype=torch.bool)
    left[:, : side // 2] = True
    return torch.stack([left, ~left]).flatten(1)


class _Confined:
    """A processor around a processor: the last rows' words (``words``: of each picture two lists) are seen
    from their half alone.
    """

    def __init__(self, processor, words: list[tuple[list[int], list[int]]]):
        self.processor, self.words = processor, words

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *args, **kwargs):
        rows, pixels = hidden_states.shape[:2]
        mask = hidden_states.new_zeros(rows, pixels, encoder_hidden_states.shape[1])
        parts = halves(int(pixels**0.5)).to(mask.device)
        for row, pair in enumerate(self.words, start=rows - len(self.words)):
            for part, positions in zip(parts, pair):
                mask[row][:, positions] = torch.where(part, 0.0, -1e4)[:, None].to(mask)
        return self.processor(attn, hidden_states, encoder_hidden_states, mask, *args, **kwargs)


@contextmanager
def confined(denoiser: torch.nn.Module, words: list[tuple[list[int], list[int]]]) -> Iterator[None]:
    """Within the block the left half of each picture does not see its second thing's words, nor the right
    half the first's.
    """
    layers = list(text_attention(denoiser).values())
    own = [layer.processor for layer in layers]
    try:
        for layer in layers:
            layer.processor = _Confined(layer.processor, words)
        yield
    finally:
        for layer, processor in zip(layers, own):
            layer.processor = processor


@torch.no_grad()
def draw(
    backbone: Backbone, pairs: list[tuple[str, str]], kind: str, steps: int, scale: float, seed: int
) -> list[Image.Image]:
    """One picture of each pair, from seeds in a row; ``kind``: of ``KINDS``. "plain" is the pipeline's own
    picture.
    """
    scheduler, side = backbone.pipeline().scheduler, backbone.unet.config.sample_size
    generators = [torch.Generator().manual_seed(seed + i) for i in range(len(pairs))]
    z = torch.cat([torch.randn((1, backbone.channels, side, side), generator=g) for g in generators])
    scheduler.set_timesteps(steps, device=backbone.device)
    z = z.to(backbone.device) * scheduler.init_noise_sigma
    texts = [prompt(pair) for pair in pairs]
    empty = backbone.encode_text([""]).expand(len(pairs), -1, -1)
    predict = _regional(backbone, pairs, empty) if kind == "regional" else _whole(backbone, texts, empty)
    words = [tuple(words_of(backbone, text, noun) for noun in pair) for text, pair in zip(texts, pairs)]
    noise = {"generator": generators} if scheduler.config.get("algorithm_type", "").startswith("sde") else {}
    with confined(backbone.unet, words if kind == "confined" else [([], [])] * len(pairs)):
        for t in scheduler.timesteps:
            plain, asked = predict(scheduler.scale_model_input(z, t), t)
            z = scheduler.step(plain + scale * (asked - plain), t, z, return_dict=False, **noise)[0]
    return backbone.decode_latents(z)


def _whole(backbone: Backbone, texts: list[str], empty: torch.Tensor) -> Callable:
    features = torch.cat([empty, backbone.encode_text(texts)])

    def predict(z: torch.Tensor, t: torch.Tensor):
        return backbone.unet(torch.cat([z, z]), t, features, return_dict=False)[0].chunk(2)

    return predict


def _regional(backbone: Backbone, pairs: list[tuple[str, str]], empty: torch.Tensor) -> Callable:
    own = [backbone.encode_text([f"a photo of {article(pair[i])}" for pair in pairs]) for i in (0, 1)]
    features, side = torch.cat([empty, *own]), backbone.unet.config.sample_size
    left = halves(side)[0].view(side, side).to(backbone.device)

    def predict(z: torch.Tensor, t: torch.Tensor):
        plain, first, second = backbone.unet(torch.cat([z] * 3), t, features, return_dict=False)[0].chunk(3)
        return plain, torch.where(left, first, second)

    return predict
