"""The tokenizer and the CLIP pair: a byte-level BPE in CLIP's format, a small text and a small image encoder.

Trained contrastively on scenes and their captions (Radford et al., arXiv 2103.00020), with helpers that know
the scene exactly: which nouns are in it, which one is at each patch (as in token labeling, arXiv 2104.10858),
which background. The UNet begins with the pair's text encoder and trains a copy of it on; the pair itself,
which measures, stays as it is.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTokenizer, CLIPVisionConfig

from . import parts
from .autoencoder import to_model
from .composing import SIDE, Shards
from .corpus import NOUNS, STYLES, Icon, fetch
from .places import PLACES, PLAIN
from .scenes import INKS, Scene
from .training import DEVICE, Training, swift

LENGTH, VOCABULARY, WIDTH, HEADS = 32, 3072, 192, 6
PATCH = 16
BATCH, STEPS, POOL, PASSES = 64, 6000, 4096, 4
SHARES = (
    0.45,
    0.4,
    0.15,
)  # of scenes of one thing, of two and of three: telling them apart is what it is for
KINDS = [*PLACES, *PLAIN]
START, END = "<|startoftext|>", "<|endoftext|>"
NOUN_PLACE = {noun: i for i, noun in enumerate(NOUNS)}
SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def make_tokenizer(words: Counter, folder: Path) -> CLIPTokenizer:
    """A CLIP tokenizer of ``VOCABULARY`` pieces learnt from ``words``; every byte has a piece, so nothing is
    unknown.
    """
    tokenizer = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
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
        vocab=str(folder / "vocab.json"),
        merges=str(folder / "merges.txt"),
        bos_token=START,
        eos_token=END,
        unk_token=END,
        pad_token=END,
        model_max_length=LENGTH,
    )
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
    grammar = (
        "a an and of the on in at to next left right top bottom corner above below photo picture small large "
        "big drawing background "
        "floor wall toy plushie style painting red"
    )
    styles = " ".join(word for _, _, word in STYLES.values())
    for text in [grammar, styles, *NOUNS, *PLAIN, *INKS, *PLACES.values()]:
        for word in text.split():
            words[word] += 200
    for package in ("noto", "fluent-emoji-flat"):
        for name in fetch(package, work)["icons"]:
            for word in name.split("-"):
                words[word] += 2
    return words


def build(tokenizer: CLIPTokenizer) -> CLIPModel:
    text = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=3,
        num_attention_heads=HEADS,
        max_position_embeddings=LENGTH,
        projection_dim=128,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    vision = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=4 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=HEADS,
        image_size=SIDE,
        patch_size=PATCH,
        projection_dim=128,
    )
    return CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=128)
    )


class Pair(torch.nn.Module):
    """The CLIP pair and the heads that help it learn; the heads are thrown away."""

    def __init__(self, model: CLIPModel):
        super().__init__()
        self.model = model
        self.nouns = torch.nn.Linear(WIDTH, len(NOUNS))
        self.backgrounds = torch.nn.Linear(WIDTH, len(KINDS))

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
    """Of each patch ``(8, 8)`` the noun whose box covers half of it, as its place in ``NOUNS``;
    ``len(NOUNS)`` where none does.
    """
    count = SIDE // PATCH
    nouns = torch.full((count, count), len(NOUNS))
    for item in scene.items:
        nouns[torch.from_numpy(item.cells(len(scene.pixels), count) >= 0.5)] = NOUN_PLACE[item.icon.noun]
    return nouns


def told(scene: Scene) -> tuple[np.ndarray, str, torch.Tensor, int, torch.Tensor]:
    """What is learnt from: pixels, caption, nouns that are there ``(64,)``, background, and the noun of each
    patch.
    """
    there = torch.zeros(len(NOUNS))
    there[[NOUN_PLACE[item.icon.noun] for item in scene.items]] = 1
    return scene.pixels, scene.caption, there, KINDS.index(scene.background), noun_of_patches(scene)


def load_tokenizer(work: Path) -> CLIPTokenizer:
    """The tokenizer, kept in ``work``: that of the trained parts, or where there are none learnt on the first
    call.
    """
    folder, trained = work / "tokenizer", parts.TRAINED / "tokenizer"
    if not (folder / "tokenizer_config.json").exists():
        if trained.is_dir():
            shutil.copytree(trained, folder, dirs_exist_ok=True)
        else:
            make_tokenizer(word_counts(work), folder)
    return CLIPTokenizer.from_pretrained(folder)


def train(icons: list[Icon], work: Path, seed: int = 2) -> CLIPModel:
    """The finished pair; trained first (or taken up) where it is not there."""
    if not parts.settled(work, "clip", "clip", STEPS):
        pair = _trained(icons, work, seed)
        parts.keep(work, "clip", pair, parts.record_of(work / "clip"))
    pair = build(load_tokenizer(work))
    parts.load(work, "clip", pair)
    return pair.to(DEVICE).eval()


def _trained(icons: list[Icon], work: Path, seed: int) -> CLIPModel:
    torch.manual_seed(seed)
    tokenizer = load_tokenizer(work)
    pair = Pair(build(tokenizer))
    pair.model.set_attn_implementation("eager")  # the fused one is slow in bfloat16 on CPUs
    run = Training(work / "clip", pair, lr=1e-3, total=STEPS, warmup=100, decay=0.998, weight_decay=0.05)
    shards, per_shard, shard = (
        Shards(icons, told, POOL, 1000 + seed, SHARES),
        max(1, PASSES * POOL // BATCH),
        -1,
    )
    while not run.done:
        if run.step // per_shard != shard:
            shard = run.step // per_shard
            scenes = [scene for chunk in shards.chunks_of(shard) for scene in chunk]
        rng = np.random.default_rng([seed, run.step])
        picked = [scenes[i] for i in rng.choice(len(scenes), size=BATCH, replace=False)]
        pixels, captions, there, where, patches = zip(*picked)
        known = [part.to(DEVICE) for part in (torch.stack(there), torch.tensor(where), torch.stack(patches))]
        with swift():
            loss, helpers, logits = pair(
                tokenize(tokenizer, list(captions)), to_model(np.stack(pixels)), *known
            )
        if run.step % 100 == 0:
            right = (logits.argmax(1) == torch.arange(BATCH, device=DEVICE)).float().mean()
            print(
                f"clip step {run.step} contrastive {loss.item():.3f} helpers {helpers.item():.3f} right in "
                f"batch {right:.2f}",
                flush=True,
            )
        run.update(loss + helpers, BATCH)
    shards.close()
    return run.averaged().model.eval()
