"""Optimizer state as a flat dictionary of tensors, so that it can lie in safetensors beside the weights."""

from __future__ import annotations

import torch

_KEYS = ("step", "exp_avg", "exp_avg_sq")


def pack_optimizer(
    named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """``{"exp_avg/<name>": tensor, ...}`` for Adam and AdamW."""
    return {
        f"{key}/{name}": value.detach().cpu().clone()
        for name, p in named.items()
        for key, value in optimizer.state.get(p, {}).items()
    }


def unpack_optimizer(
    named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put what ``pack_optimizer`` gave back into a fresh optimizer over the same parameters."""
    for name, p in named.items():
        state = {key: tensors[f"{key}/{name}"] for key in _KEYS if f"{key}/{name}" in tensors}
        if state:
            optimizer.state[p] = {k: v.clone() if k == "step" else v.to(p.device) for k, v in state.items()}


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay each moment out as its parameter lies now: the fused step walks both in the order of memory."""
    for p, state in optimizer.state.items():
        for key in _KEYS[1:]:
            if key in state and state[key].stride() != p.stride():
                state[key] = torch.empty_like(p).copy_(state[key])
