"""Tokenizers of the kinds that text-to-image models have, made anew over a few words and every letter."""

from __future__ import annotations

from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer, GemmaTokenizer, Qwen2Tokenizer, T5Tokenizer

_SENTENCE = (
    "a an and at beach bird blue boat car cat city dog drawing flower forest grass hill house in lamp night "
    "of on painting person photo picture red road snow table the tree with"
)
#: Words that are one token each; all others are spelt.
WORDS = _SENTENCE.split()
_LETTERS = sorted(ByteLevel.alphabet())
#: What Qwen3's pipelines fill in: the user's words, and the opening of an answer.
_CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)


def _numbered(pieces: list[str]) -> dict[str, int]:
    return {piece: i for i, piece in enumerate(dict.fromkeys(pieces))}


def clip_tokenizer(length: int = 77) -> CLIPTokenizer:
    """Byte pairs whose words end in ``</w>``; prompts of ``length`` tokens."""
    # each word grows from its end, where no other merge can come between
    merges = [(word[-i], f"{word[1 - i :]}</w>") for word in WORDS for i in range(2, len(word) + 1)]
    merges = list(dict.fromkeys(merges))
    letters = [*_LETTERS, *(f"{letter}</w>" for letter in _LETTERS)]
    vocabulary = _numbered([*letters, *map("".join, merges), "<|startoftext|>", "<|endoftext|>"])
    return CLIPTokenizer(vocabulary, merges, model_max_length=length)


def t5_tokenizer() -> T5Tokenizer:
    """Unigrams, as sentencepiece has them: words begin with ``▁``."""
    scored = [(f"▁{word}", -2.0) for word in WORDS] + [(chr(i), -30.0) for i in (0x2581, *range(33, 127))]
    return T5Tokenizer(
        [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -100.0), *scored], extra_ids=0, model_max_length=512
    )


def gemma_tokenizer() -> GemmaTokenizer:
    """Byte pairs whose words end in ``▁``, and which begins every prompt with a mark."""
    merges = [(f"▁{word[:i]}", word[i]) for word in WORDS for i in range(len(word))]
    merges = list(dict.fromkeys(merges))
    letters = ["▁", *map(chr, range(33, 127))]
    vocabulary = _numbered(["<pad>", "<eos>", "<bos>", "<unk>", *letters, *map("".join, merges)])
    return GemmaTokenizer(vocabulary, merges, model_max_length=512, add_bos_token=True)


def qwen_tokenizer() -> Qwen2Tokenizer:
    """Byte pairs whose words begin with a space (``Ġ``), and a chat's template."""
    merges = list(dict.fromkeys((f"Ġ{word[:i]}", word[i]) for word in WORDS for i in range(len(word))))
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>"]
    tokenizer = Qwen2Tokenizer(
        _numbered([*_LETTERS, *map("".join, merges), *special]),
        merges,
        model_max_length=512,
        additional_special_tokens=special[1:],
    )
    tokenizer.chat_template = _CHAT
    return tokenizer
