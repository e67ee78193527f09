"""Structure Diffusion (Feng et al., arXiv 2212.05032): each thing's values come from its words read alone.

The prompt's noun phrases are encoded one by one; c_j is the prompt's own encoding with phrase j's words put
in their places. Attention stays that of the whole prompt, values are averaged over all encodings:

    O = 1/(m+1) sum_{j=0..m} A(Q, K(c_0)) V(c_j)  =  A(Q, K(c_0)) V(mean_j c_j),       V is linear

so one changed input of the value projections does it. The paper finds phrases with a parser; here they are
the things named, adjectives included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from ..backbone.sites import text_attention

#: Words, and the positions of their tokens in the prompt and where they stand alone.
Phrase = tuple[str, tuple[int, ...], tuple[int, ...]]


def structured(
    context: torch.Tensor, phrases: list[Phrase], read: Callable[[list[str]], torch.Tensor]
) -> torch.Tensor:
    """(B, length, width), mean over c_0 = ``context`` and every c_j; of ``phrases`` two may be alike."""
    total = context.clone()
    for words, positions, own in phrases:
        alone, changed = read([words])[0], context.clone()
        for position, place in zip(positions, own):
            changed[:, position] = alone[place]
        total += changed
    return total / (len(phrases) + 1)


@contextmanager
def values_from(denoiser: torch.nn.Module, values: torch.Tensor) -> Iterator[None]:
    """Within the block cross-attention takes its values from ``values`` (B, length, width) in the batch's
    last B rows.
    """

    def put(module: torch.nn.Module, inputs: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return (torch.cat([inputs[0][: -len(values)], values.to(inputs[0])]),)

    hooks = [layer.to_v.register_forward_pre_hook(put) for layer in text_attention(denoiser).values()]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
