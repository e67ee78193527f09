"""The tokenizer and the CLIP pair: a byte-level BPE in CLIP's format, a small text and a small image encoder.

Trained contrastively on scenes and their captions (Radford et al., arXiv 2103.00020), with helpers that know the scene
exactly: which nouns are in it, which one is at each patch (as in token labeling, arXiv 2104.10858), which background. The
UNet begins with the pair's text encoder and trains a copy of it on; the pair itself, which measures, stays as it is.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from .autoencoder import to_model
from .corpus import NOUNS, Icon, fetch
from .scenes import PLACES, PLAIN, Composer, Scene
from .training import DEVICE, Training, swift

LENGTH, VOCABULARY, WIDTH = 32, 3072, 192
SIDE, PATCH = 64, 8
BATCH, STEPS, POOL = 64, 6000, 4096
START, END = "<|startoftext|>", "<|endoftext|>"
NOUN_PLACE = {noun: i for i, noun in enumerate(NOUNS)}
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def make_tokenizer(words: Counter, folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of ``VOCABULARY`` pieces learnt from ``words``; every byte has a piece, so nothing is unknown."""
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = letters + [letter + "</w>" for letter in letters]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, initial_alphabet=letters, end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator((f"{word} " * count for word, count in sorted(words.items())), trainer)
    merges = [
        tuple(m) if isinstance(m, list) else tuple(m.split(" "))
        for m in json.loads(tokenizer.to_str())["model"]["merges"]
    ]
    merges = merges[: VOCABULARY - len(pieces) - 2]
    pieces += [a + b for a, b in merges] + [START, END]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(
        json.dumps({piece: i for i, piece in enumerate(dict.fromkeys(pieces))}, ensure_ascii=False)
    )
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(m) for m in merges) + "\n")
    loaded = CLIPTokenizer(
        vocab=str(folder / "vocab.json"), merges=str(folder / "merges.txt"), bos_token=START, eos_token=END, unk_token=END,
        pad_token=END, model_max_length=LENGTH,
    )  # fmt: skip
    loaded.save_pretrained(folder)
    return loaded


def tokenize(tokenizer: CLIPTokenizer, captions: list[str]) -> torch.Tensor:
    """Token ids ``(captions, LENGTH)`` on the training device."""
    tokens = tokenizer(
        captions, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
    )
    return tokens.input_ids.to(DEVICE)


def word_counts(work: Path) -> Counter:
    """The words the tokenizer must hold whole: the captions' own, often; every icon's name, once."""
    words: Counter = Counter()
    grammar = "a an and of the on in at to next left right above below photo picture small big drawing background floor wall"
    for text in [
        grammar,
        *NOUNS,
        *PLAIN,
        *PLACES.values(),
        "soft glossy flat bold pale grass toy plushie style painting",
    ]:
        for word in text.split():
            words[word] += 200
    for package in ("noto", "fluent-emoji-flat"):
        for name in fetch(package, work)["icons"]:
            for word in name.split("-"):
                words[word] += 2
    return words


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=LENGTH, projection_dim=128, bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    vision = CLIPVisionConfig(
        hidden_size=WIDTH, intermediate_size=4 * WIDTH, num_hidden_layers=4, num_attention_heads=4, image_size=SIDE, patch_size=PATCH,
        projection_dim=128,
    )  # fmt: skip
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )


class Pair(torch.nn.Module):
    """The CLIP pair and the heads that help it learn; the heads are thrown away."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        self.model = model
        self.nouns = torch.nn.Linear(WIDTH, len(NOUNS))
        self.backgrounds = torch.nn.Linear(WIDTH, len(PLACES) + len(PLAIN))

    def forward(self, ids, pixels, nouns, background, patches):
        vision = self.model.vision_model(pixel_values=pixels, output_hidden_states=True)
        seen = vision.pooler_output
        image = F.normalize(self.model.visual_projection(seen), dim=-1)
        read = self.model.text_model(input_ids=ids).pooler_output
        text = F.normalize(self.model.text_projection(read), dim=-1)
        logits = self.model.logit_scale.exp().clamp(max=100) * text @ image.T
        target = torch.arange(len(ids), device=ids.device)
        pair = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        helpers = 8 * F.binary_cross_entropy_with_logits(self.nouns(seen), nouns)
        helpers = helpers + 0.3 * F.cross_entropy(self.backgrounds(seen), background)
        gathered = self.nouns(
            self.model.vision_model.post_layernorm(vision.hidden_states[-2][:, 1:])
        )  # what the last layer pools
        named = F.cross_entropy(
            F.pad(gathered, (0, 1)).flatten(0, 1), patches.flatten()
        )  # no noun: a logit of 0
        return pair, helpers + named, logits


def noun_of_patches(scene: Scene) -> torch.Tensor:
    """Of each patch ``(8, 8)`` the noun whose box covers half of it, as its place in ``NOUNS``; ``len(NOUNS)`` where none does."""
    nouns = torch.full((SIDE // PATCH, SIDE // PATCH), len(NOUNS))
    for item in scene.items:
        nouns[torch.from_numpy(item.cells(SIDE, SIDE // PATCH) >= 0.5)] = NOUN_PLACE[item.icon.noun]
    return nouns


def load_tokenizer(work: Path) -> CLIPTokenizer:
    """The tokenizer, learnt on the first call and kept in ``work``."""
    folder = work / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        make_tokenizer(word_counts(work), folder)
    return CLIPTokenizer.from_pretrained(folder)


def train(icons: list[Icon], work: Path, seed: int = 2) -> CLIPModel:
    """Train (or take up, or just load) the pair, on scenes made a pool at a time."""
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(work)
    pair = Pair(build(tokenizer))
    pair.model.set_attn_implementation("eager")  # the fused one is slow in bfloat16 on CPUs
    run = Training(work / "clip", pair, lr=1e-3, total=STEPS, warmup=100, decay=0.998, weight_decay=0.05)
    composer = Composer(icons, seed=1000 + seed + run.step)
    rng = np.random.default_rng(seed + run.step)
    kinds = [*PLACES, *PLAIN]
    pool: list = []
    while not run.done:
        if run.step % (4 * POOL // BATCH) == 0 or not pool:
            pool = [composer.scene(int(rng.choice([1, 2, 3], p=[0.45, 0.4, 0.15]))) for _ in range(POOL)]
        picked = [pool[i] for i in rng.choice(len(pool), size=BATCH, replace=False)]
        there = torch.zeros(BATCH, len(NOUNS))
        for row, scene in enumerate(picked):
            there[row, [NOUN_PLACE[item.icon.noun] for item in scene.items]] = 1
        where = torch.tensor([kinds.index(s.background) for s in picked])
        ids, pixels = (
            tokenize(tokenizer, [s.caption for s in picked]),
            to_model(np.stack([s.pixels for s in picked])),
        )
        known = [
            part.to(DEVICE) for part in (there, where, torch.stack([noun_of_patches(s) for s in picked]))
        ]
        with swift():
            loss, helpers, logits = pair(ids, pixels, *known)
        if run.step % 100 == 0:
            right = (logits.argmax(1) == torch.arange(BATCH, device=DEVICE)).float().mean()
            print(
                f"clip step {run.step} contrastive {loss.item():.3f} helpers {helpers.item():.3f} right in batch {right:.2f}",
                flush=True,
            )
        run.update(loss + helpers, BATCH)
    return run.averaged().model.eval()
