"""Personal tokens: words of a tokenizer whose vectors stand beside (not inside) the frozen embedding table.

A token is new to the tokenizer, or the base has it already: a textual inversion that was baked in (arXiv
2208.01618), in diffusers' way ``<rex>`` alone or ``<rex>``, ``<rex>_1``, ``<rex>_2`` … for several vectors,
all of which a prompt that says ``<rex>`` is read with.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from diffusers.loaders import TextualInversionLoaderMixin
from torch import nn
from transformers import AddedToken, PreTrainedTokenizerBase

from ..errors import TokenError


def add_tokens(tokenizer: PreTrainedTokenizerBase, tokens: Iterable[str]) -> None:
    """Make each of ``tokens`` one. Where a space is a token by itself (Qwen, Gemma), the one before it
    belongs to it, as to any word.
    """
    spaced = bool(tokenizer(" ", add_special_tokens=False).input_ids)
    tokenizer.add_tokens([AddedToken(token, lstrip=spaced, normalized=not spaced) for token in tokens])


def further_ids(tokenizer: PreTrainedTokenizerBase, token: str) -> list[int]:
    """Ids of ``token_1``, ``token_2``, … as far as the tokenizer has them."""
    known, found = tokenizer.added_tokens_encoder, []
    while (name := f"{token}_{len(found) + 1}") in known:
        found.append(known[name])
    return found


def own_ids(tokenizer: PreTrainedTokenizerBase, token: str) -> tuple[int, ...]:
    """The ids by which the tokenizer reads ``token`` as words of its own; none where it has not met it.

    Raises TokenError for a token that marks the beginning, the end or the padding of every prompt, or that it
    has in part.
    """
    read, known = tokenizer(token, add_special_tokens=False).input_ids, tokenizer.added_tokens_decoder
    marks = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id
    further = further_ids(tokenizer, token)
    if len(read) != 1 or read[0] not in known:
        if further:
            raise TokenError(
                f"token {token!r}: the base's tokenizer has {token}_1, but not {token} itself; choose "
                "another token"
            )
        return ()
    if read[0] in marks:
        raise TokenError(
            f"token {token!r}: the base's tokenizer marks every prompt with it; choose another token"
        )
    return (read[0], *(further if known[read[0]].content == token else ()))


def written_out(tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    """``prompts`` as diffusers' pipelines hand them to the tokenizer: a token of several vectors as all of
    its words.
    """
    if not any(name.endswith("_1") for name in tokenizer.added_tokens_encoder):
        return prompts  # diffusers' own look takes twice as long as the reading
    return TextualInversionLoaderMixin().maybe_convert_prompt(list(prompts), tokenizer)


def spans(tokenizer: PreTrainedTokenizerBase, prompt: str) -> list[tuple[int, int]]:
    """For each token of the whole ``prompt`` as it is read, start and end included, the characters that it
    stands for.
    """
    read, known = tokenizer(prompt, return_offsets_mapping=True), tokenizer.added_tokens_decoder
    found = []
    for number, span in zip(read.input_ids, read.offset_mapping):
        several = further_ids(tokenizer, known[number].content) if number in known else []
        found += [span] * (1 + len(several))
    return found


class PersonalTokens(nn.Module):
    """Wraps a token embedding; the ids of personal tokens are looked up in ``vectors``, wherever they lie.

    ``ids``: token -> its ids, one for each of its vectors, in the order of learning. Only the vectors are
    trainable: the table itself is never copied, resized or given a gradient. Several encoders share
    ``vectors``: each reads its own ``width`` numbers from ``first`` on.
    """

    def __init__(self, base: nn.Embedding, vectors: nn.ParameterList | None = None, first: int = 0):
        super().__init__()
        self.base, self.first = base, first
        self.ids: dict[str, tuple[int, ...]] = {}
        self.vectors = nn.ParameterList() if vectors is None else vectors

    @property
    def width(self) -> int:
        return self.base.embedding_dim

    @property
    def device(self) -> torch.device:
        return self.base.weight.device

    def add(self, token: str, ids: tuple[int, ...], vector: torch.Tensor) -> nn.Parameter:
        """Append a token's vector, shape ``(width,)``, or ``(len(ids), width)``; returns the (frozen)
        parameter, in float32.
        """
        self.ids[token] = ids
        own = vector.detach().to(self.device, torch.float32, copy=True)
        self.vectors.append(nn.Parameter(own, requires_grad=False))
        return self.vectors[-1]

    def places(self, tokens: list[str]) -> list[int]:
        """Which of the personal tokens each of ``tokens`` is, in the order of learning."""
        order = {token: place for place, token in enumerate(self.ids)}
        return [order[token] for token in tokens]

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, tokens) ids -> (B, tokens, width); without personal ids just what the wrapped one gives."""
        if not self.ids:
            return self.base(ids)
        own = torch.tensor([i for several in self.ids.values() for i in several], device=ids.device)
        found = ids[..., None] == own
        personal = found.any(-1)
        plain = self.base(ids.masked_fill(personal, 0))
        # not by indexing, whose gradient several threads add up in an order of their own
        table = torch.cat([vector.view(-1, vector.shape[-1]) for vector in self.vectors])
        table = table[:, self.first : self.first + self.width].to(plain)
        return torch.where(personal[..., None], nn.functional.embedding(found.int().argmax(-1), table), plain)
