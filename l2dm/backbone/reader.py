"""A text encoder and its tokenizer: what it reads of a prompt, token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from transformers import PreTrainedTokenizerBase

from .tokens import PersonalTokens, own_ids, spans, written_out


@dataclass(frozen=True)
class Reader:
    """``worded``: the text that the tokenizer is given for a prompt, and where in it the prompt begins."""

    tokenizer: PreTrainedTokenizerBase
    encoder: torch.nn.Module | None
    worded: Callable[[str, PreTrainedTokenizerBase], tuple[str, int]]

    @property
    def tokens(self) -> PersonalTokens:
        return self.encoder.get_input_embeddings()

    @property
    def length(self) -> int:
        """Tokens that are read of every prompt, padding and marks among them."""
        return self.tokenizer.model_max_length

    @cached_property
    def marks(self) -> int:
        """How many of them are no prompt's own: start, end, and what a template has."""
        return len(self.spans(""))

    @cached_property
    def start(self) -> int:
        """How many of these stand before the prompt."""
        return next(i for i, (low, high) in enumerate(self.spans("a")) if low < high)

    @property
    def longest(self) -> int:
        """Tokens that a prompt may have, ``marks`` left out."""
        return self.length - self.marks

    def count(self, prompt: str) -> int:
        """Tokens that ``prompt`` has, ``marks`` left out."""
        return sum(low < high for low, high in self.spans(prompt))

    def own_ids(self, token: str) -> tuple[int, ...]:
        """As ``tokens.own_ids``."""
        return own_ids(self.tokenizer, token)

    def tokenize(self, prompts: list[str]) -> torch.Tensor:
        """(B, length) token ids, padded or cut."""
        texts = written_out(self.tokenizer, [self.worded(prompt, self.tokenizer)[0] for prompt in prompts])
        padded = {"padding": "max_length", "max_length": self.length, "truncation": True}
        return self.tokenizer(texts, return_tensors="pt", **padded).input_ids.to(self.tokens.device)

    def spans(self, prompt: str) -> list[tuple[int, int]]:
        """For each token of the whole ``prompt``, marks included, the characters of it that it stands for:
        (i, i) where it stands for none.
        """
        text, first = self.worded(prompt, self.tokenizer)
        inside = [
            [min(max(place - first, 0), len(prompt)) for place in span]
            for span in spans(self.tokenizer, text)
        ]
        return [(low, high) for low, high in inside]

    def places(self, prompt: str, span: tuple[int, int]) -> list[int]:
        """Which of its tokens stand for the characters ``span`` of ``prompt``; none where not all of them are
        read.
        """
        found = [
            i
            for i, (low, high) in enumerate(self.spans(prompt))
            if low < high and low < span[1] and high > span[0]
        ]
        return found if found and found[-1] < self.start + self.longest else []

    def following(self, token: str, noun: str) -> list[int]:
        """The ids of ``noun`` right after the personal ``token``."""
        ids = self.tokenizer(f"{token} {noun}", add_special_tokens=False).input_ids
        return ids[ids.index(self.tokens.ids[token][0]) + 1 :]

    def vectors(self, words: str) -> torch.Tensor:
        """(n, width): the embeddings of the tokens of ``words``, as they stand within a sentence."""
        alone, ids = (self.tokenizer(t, add_special_tokens=False).input_ids for t in ("a", f"a {words}"))
        ids = torch.tensor([ids[len(alone) :]], device=self.tokens.device)
        return self.tokens(ids)[0].detach()

    def mean_vector(self, words: str) -> torch.Tensor:
        """(width,): their mean."""
        return self.vectors(words).mean(0)
