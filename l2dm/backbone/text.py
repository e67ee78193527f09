"""What text encoders do together: personal tokens in each of them, and the row of tokens that the denoiser
reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property

import torch
from diffusers.loaders import TextualInversionLoaderMixin

from ..errors import BaseModelError, TokenError
from .conditioning import Conditioning
from .reader import Reader
from .tokens import PersonalTokens, add_tokens


def blocks_holder(encoder: torch.nn.Module) -> torch.nn.Module:
    """The module of a CLIP text encoder whose ``encoder.layers`` its blocks are: itself, or where there is a
    projection on top what is under it.
    """
    return getattr(encoder, "text_model", encoder)


class Text:
    """The part of a backbone that is about text; it has ``family``, ``parts``, ``name``, ``device``,
    ``changes`` and ``conditioning`` from there.

    ``named`` (B, personal tokens) of bool: while encoders read B prompts, the concepts that each names or,
    for a negative one, those of the prompt that it stands beside.
    """

    named: torch.Tensor | None = None
    #: Called with ``named`` before encoders read.
    before_reading: Callable[[torch.Tensor], None] | None = None

    @cached_property
    def readers(self) -> tuple[Reader, ...]:
        """The text encoders, each with its tokenizer."""
        return tuple(
            Reader(self.parts[tokenizer], self.parts[encoder], self.family.worded)
            for encoder, tokenizer, _ in self.family.readers
        )

    @property
    def row(self) -> list[Reader]:
        """Those whose tokens stand in the row that the denoiser reads, one after another."""
        return [self.readers[number] for number in self.family.row]

    @property
    def _longest(self) -> Reader:
        return max(self.row, key=lambda reader: reader.length)

    @property
    def longest_prompt(self) -> int:
        """Tokens that a prompt may have, start and end left out."""
        return self._longest.longest

    @property
    def start(self) -> int:
        """Tokens at the beginning of the row that are no words of the prompt's."""
        return self.row[0].start

    @property
    def tokens(self) -> PersonalTokens:
        """The personal tokens, as the first encoder knows them."""
        return self.readers[0].tokens

    def own_vector(self, token: str) -> torch.Tensor | None:
        """``(width,)`` of ``token`` in the base itself, in one encoder after another, ``(n, width)`` of
        several vectors; None for a new one. Raises TokenError as ``own_ids``, where the tokenizers have it in
        different numbers, and where the family never reads it so.
        """
        for reader in self.readers:
            if token not in (text := reader.worded(token, reader.tokenizer)[0]):
                raise TokenError(
                    f"token {token!r}: {self.family.name} reads every prompt in small letters, as {text!r}; "
                    "choose that"
                )
        known = [reader.own_ids(token) for reader in self.readers]
        if not any(known):
            return None
        if len({len(ids) for ids in known}) > 1:
            raise TokenError(
                f"token {token!r}: not all of the base's tokenizers have it alike; choose another token"
            )
        ids = [torch.tensor([ids], device=self.device) for ids in known]
        vectors = torch.cat([reader.tokens(i)[0] for reader, i in zip(self.readers, ids)], -1).detach()
        return vectors if len(vectors) > 1 else vectors[0]

    def add_tokens(self, vectors: dict[str, torch.Tensor]) -> list[torch.nn.Parameter]:
        """Give each token its vector, of the shape that ``own_vector`` has, or a new one ``(width,)`` or
        ``(n, width)``; returns the (frozen) parameters. New ones are made known to a tokenizer together,
        which for hundreds takes a hundredth of the time. Raises BaseModelError where the base's pipeline
        reads no token of several vectors.
        """
        counts = {token: len(vector) if vector.dim() == 2 else 1 for token, vector in vectors.items()}
        for token, count in counts.items():
            if token in self.tokens.ids:
                raise TokenError(f"token {token!r} is known already; choose another token")
            if count > 1 and not self.reads_several:
                raise BaseModelError(
                    f"{self.name}: {token} has {count} vectors, and diffusers' pipeline of "
                    f"{self.family.name} reads one a token; give it one"
                )
        for reader in self.readers:
            found = {token: reader.own_ids(token) for token in vectors}
            named = {t: [t, *(f"{t}_{i}" for i in range(1, counts[t]))] for t in vectors if not found[t]}
            add_tokens(reader.tokenizer, [name for names in named.values() for name in names])
            found |= {t: tuple(reader.tokenizer.convert_tokens_to_ids(names)) for t, names in named.items()}
            for token, ids in found.items():
                if len(ids) != counts[token]:
                    raise BaseModelError(
                        f"{self.name}: its tokenizer has {len(ids)} vectors for {token}, and another number "
                        "is given; take the base that it was learnt on"
                    )
            reader.tokens.ids |= found
        return [self.tokens.add(token, self.tokens.ids[token], vector) for token, vector in vectors.items()]

    def add_token(self, token: str, vector: torch.Tensor) -> torch.nn.Parameter:
        """``add_tokens`` of one."""
        return self.add_tokens({token: vector})[0]

    def vector_of(self, token: str) -> torch.nn.Parameter:
        """The parameter that ``add_token`` returned."""
        return self.tokens.vectors[self.tokens.places([token])[0]]

    def word_vector(self, words: str) -> torch.Tensor:
        """Mean embedding of ``words`` in every encoder, one after another: where a new token starts."""
        return torch.cat([reader.mean_vector(words) for reader in self.readers])

    def vectors_of(self, words: str) -> torch.Tensor:
        """``(width,)``, or ``(n, width)`` of several tokens: the embeddings of ``words`` in every encoder,
        one after another. Raises TokenError where the encoders split them otherwise, or none is read of
        several.
        """
        rows = [reader.vectors(words) for reader in self.readers]
        counts = [len(row) for row in rows]
        if len(set(counts)) > 1 or not counts[0]:
            raise TokenError(
                f"{words!r}: its encoders read it as {counts} tokens; give words that all read as the same "
                "number"
            )
        if counts[0] > 1 and not self.reads_several:
            raise TokenError(
                f"{words!r}: {counts[0]} tokens, and diffusers' pipeline of {self.family.name} reads one a "
                "token; give a shorter word"
            )
        vectors = torch.cat(rows, -1)
        return vectors if counts[0] > 1 else vectors[0]

    @property
    def reads_several(self) -> bool:
        """Whether the base's pipeline reads a token of several vectors."""
        return issubclass(self.family.pipeline_class(), TextualInversionLoaderMixin)

    @property
    def encoder_layers(self) -> dict[str, torch.nn.Linear]:
        """The linear layers in the blocks of its CLIP encoders, called ``<part>.<name>``: those that LoRA
        files of text encoders change.
        """
        found = {}
        for encoder, _, _ in self.family.readers:
            if type(self.parts[encoder]).__name__.startswith("CLIPText"):
                for name, module in blocks_holder(self.parts[encoder]).named_modules():
                    if isinstance(module, torch.nn.Linear) and name.startswith("encoder.layers."):
                        found[f"{encoder}.{name.removesuffix('.layer')}"] = (
                            module  # which stands within a tuner's own
                        )
        return found

    @contextmanager
    def naming_while_read(self, named: torch.Tensor) -> Iterator[None]:
        """Within the block encoders read prompts that name what ``named`` says; their adapters act by it."""
        if self.before_reading is not None:
            self.before_reading(named)
        outer, self.named = self.named, named
        try:
            yield
        finally:
            self.named = outer

    def count_tokens(self, prompt: str) -> int:
        return self._longest.count(prompt)

    def places(self, prompt: str, span: tuple[int, int]) -> tuple[int, ...]:
        """Where in the row that the denoiser reads the characters ``span`` of ``prompt`` stand; () where no
        encoder reads them all.
        """
        found, first = [], 0
        for reader in self.row:
            found += [first + place for place in reader.places(prompt, span)]
            first += reader.length
        return tuple(found)

    @property
    def text_length(self) -> int:
        """Tokens of which the denoiser reads features, whatever the prompt."""
        return sum(reader.length for reader in self.row)

    def tokenize(self, prompts: list[str]) -> torch.Tensor:
        """(B, length) token ids of the row that the denoiser reads."""
        return torch.cat([reader.tokenize(prompts) for reader in self.row], 1)

    def naming(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, personal tokens) of bool: which of them stand in ``ids`` (B, length)."""
        parts, named = ids.split([reader.length for reader in self.row], 1), []
        for reader, part in zip(self.row, parts):
            first = torch.tensor([several[0] for several in reader.tokens.ids.values()], device=ids.device)
            named.append((part[..., None] == first).any(1))
        return torch.stack(named).any(0)

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        """(B, length, width) text features; each distinct prompt goes through the encoders once."""
        return self.read(prompts).features

    def read(self, prompts: list[str]) -> Conditioning:
        """What the denoiser reads for ``prompts``; each distinct one goes through the encoders once."""
        distinct = list(dict.fromkeys(prompts))
        with self.naming_while_read(self.naming(self.tokenize(distinct))):
            encoded = self.family.encode(self, distinct)
        read = self.conditioned(encoded, distinct)
        return read[[distinct.index(p) for p in prompts]]

    def conditioned(self, encoded: Conditioning, prompts: list[str]) -> Conditioning:
        """What was ``encoded`` of ``prompts``, of each its rows one after another, with words and
        concepts.
        """
        ids = self.tokenize(prompts).repeat_interleave(len(encoded) // len(prompts), 0)
        told = replace(encoded, ids=ids, named=self.naming(ids))
        for change in self.changes:
            told = change(told)
        return told

    @contextmanager
    def reading(self, conditioning: Conditioning | None) -> Iterator[None]:
        """Within the block the denoiser reads ``conditioning``, which adapters ask where they act."""
        outer, self.conditioning = self.conditioning, conditioning
        try:
            yield
        finally:
            self.conditioning = outer
