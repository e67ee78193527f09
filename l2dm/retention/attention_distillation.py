"""The cross-attention term of elastic concept distillation (L2DM, arXiv 2309.04430; named there, [reconstructed] here).

    L_att = mean over layers and rows of  w_l * || O^{k-1} - O^k ||^2 / || O^{k-1} ||^2

O are the outputs of the cross-attention layers, (rows, pixels, channels), of the teacher and of the student on the same row; the
division makes layers of different size count alike. Its weight is 0 unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..backbone.sites import text_attention


@contextmanager
def attention_outputs(denoiser: torch.nn.Module, wanted: bool = True) -> Iterator[list[torch.Tensor]]:
    """Within the block every forward of ``denoiser`` adds its cross-attention layers' outputs to the list, if they are ``wanted``."""
    outputs: list[torch.Tensor] = []
    layers = list(text_attention(denoiser).values()) if wanted else []
    hooks = [
        layer.register_forward_hook(lambda module, inputs, output: outputs.append(output)) for layer in layers
    ]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def attention_errors(teacher: list[torch.Tensor], student: list[torch.Tensor]) -> torch.Tensor:
    """(rows,) of layers' outputs (rows, pixels, channels); no gradient reaches the teacher."""
    pairs = [(t.detach().float(), s.float()) for t, s in zip(teacher, student, strict=True)]
    return torch.stack(
        [(t - s).square().mean((1, 2)) / t.square().mean((1, 2)).clamp(min=1e-12) for t, s in pairs]
    ).mean(0)
