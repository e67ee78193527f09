"""Optimizer state as a flat dictionary of tensors, so that it can lie in safetensors beside the weights."""

from __future__ import annotations

import torch

#: What torch's AdamW keeps in its parameter's shape.
_MOMENTS = ("exp_avg", "exp_avg_sq")
#: All that optimizers keep of a parameter: AdamW, and bitsandbytes' in 8 bits.
_KEYS = ("step", *_MOMENTS, "state1", "state2", "qmap1", "qmap2", "absmax1", "absmax2")


def pack_optimizer(
    named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> dict[str, torch.Tensor]:
    """``{"exp_avg/<name>": tensor, ...}``: all tensors and numbers that the optimizer keeps."""
    return {
        f"{key}/{name}": torch.as_tensor(value).detach().cpu().clone()
        for name, p in named.items()
        for key, value in optimizer.state.get(p, {}).items()
    }


def unpack_optimizer(
    named: dict[str, torch.nn.Parameter], optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]
) -> None:
    """Put what ``pack_optimizer`` gave back into a fresh optimizer over the same parameters; ``tensors`` may
    hold more than that.
    """
    for place, value in tensors.items():
        key, _, name = place.partition("/")
        if name in named and key in _KEYS:
            optimizer.state[named[name]][key] = _kept(optimizer, key, value, named[name].device)


def _kept(
    optimizer: torch.optim.Optimizer, key: str, value: torch.Tensor, device: torch.device
) -> torch.Tensor | int:
    """As the optimizer itself has it: torch's AdamW counts its steps in a tensor; others in a number."""
    if key != "step":
        return value.to(device, copy=True)
    return value.clone() if isinstance(optimizer, torch.optim.AdamW) else int(value)


def match_layout(optimizer: torch.optim.Optimizer) -> None:
    """Lay each moment out as its parameter lies now: the fused step walks both in the order of memory."""
    for p, state in optimizer.state.items():
        for key in _MOMENTS:
            if key in state and state[key].stride() != p.stride():
                state[key] = torch.empty_like(p).copy_(state[key])
