"""The cross-attention term of elastic concept distillation (L2DM, arXiv 2309.04430; named there,
[reconstructed] here).

    L_att = mean over layers and rows of  w_l * || O^{k-1} - O^k ||^2 / || O^{k-1} ||^2

O are the outputs of the layers that attend to the text, (rows, pixels, channels), of the teacher and of the
student on the same row; of joint attention those for the picture, or for picture and text where they are one
row. The division makes layers of different size count alike. Its weight is 0 unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..backbone.sites import text_attention


@contextmanager
def attention_outputs(denoiser: torch.nn.Module, wanted: bool = True) -> Iterator[list[torch.Tensor]]:
    """Within the block every forward of ``denoiser`` adds the outputs of its attention to the text to the
    list, if they are ``wanted``.
    """
    outputs: list[torch.Tensor] = []
    layers = list(text_attention(denoiser).values()) if wanted else []

    def keep(
        module: torch.nn.Module, inputs: tuple[Any, ...], output: torch.Tensor | tuple[torch.Tensor, ...]
    ) -> None:
        outputs.append(output[0] if isinstance(output, tuple) else output)  # (picture, text)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        yield outputs
    finally:
        for hook in hooks:
            hook.remove()


def attention_errors(teacher: list[torch.Tensor], student: list[torch.Tensor]) -> torch.Tensor:
    """(rows,) of layers' outputs (rows, pixels, channels); no gradient reaches the teacher."""
    pairs = [(t.detach().float(), s.float()) for t, s in zip(teacher, student, strict=True)]
    return torch.stack(
        [
            (t - s).square().flatten(1).mean(1) / t.square().flatten(1).mean(1).clamp(min=1e-12)
            for t, s in pairs
        ]
    ).mean(0)
