"""Muon over the weights of hidden layers: torch.optim.Muon, shared among the processes that train side by
side.

Muon moves a matrix by its momentum made orthogonal (five Newton-Schulz steps, in bfloat16; Keller Jordan,
2024). These cost as much as a small network's forward and backward, and need no data: each process does its
share of the matrices and hands the others the moved weights.
"""

from __future__ import annotations

import torch

_STATE = "momentum_buffer"


def hidden(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The weights that Muon is for: matrices between hidden layers. Embeddings and the denoiser's ways in and
    out are not.
    """
    kinds = torch.nn.Linear, torch.nn.Conv2d
    return {
        f"{name}.weight": layer.weight
        for name, layer in module.named_modules()
        if isinstance(layer, kinds)
        and layer.weight.requires_grad
        and name.split(".")[-1] not in ("conv_in", "conv_out")
    }


def as_matrix(weight: torch.Tensor) -> torch.Tensor:
    """A view (out, rest) of a linear layer's or convolution's weight, whichever way it lies in memory."""
    lying = weight if weight.is_contiguous() else weight.permute(0, 2, 3, 1)
    return lying.view(len(weight), -1)


def share_out(costs: dict[str, float], workers: int) -> dict[str, int]:
    """Name -> process, the work of all being about even."""
    load, owner = [0.0] * workers, {}
    for name in sorted(costs, key=lambda name: (-costs[name], name)):
        owner[name] = load.index(min(load))
        load[owner[name]] += costs[name]
    return owner


class Muon:
    """The optimizer of ``named`` weights. ``lr`` is matched to AdamW's: a step's root mean square is 0.2
    ``lr``.
    """

    def __init__(self, named: dict[str, torch.nn.Parameter], lr: float, weight_decay: float):
        together = torch.distributed.is_initialized()
        self.rank = torch.distributed.get_rank() if together else 0
        self.workers = torch.distributed.get_world_size() if together else 1
        self.named = named
        self.matrices = {name: as_matrix(p.detach()) for name, p in named.items()}
        costs = {name: min(m.shape) ** 2 * max(m.shape) for name, m in self.matrices.items()}
        self.owner = share_out(costs, self.workers)
        mine = [m for name, m in self.matrices.items() if self.owner[name] == self.rank]
        self.optimizer = torch.optim.Muon(
            mine, lr=lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"
        )

    @torch.no_grad()
    def step(self) -> None:
        """Move the own share of the weights by their gradients, and take the others' from the other
        processes.
        """
        for name, p in self.named.items():
            if self.owner[name] == self.rank and p.grad is not None:
                grad = p.grad if p.grad.stride() == p.stride() else torch.empty_like(p).copy_(p.grad)
                self.matrices[name].grad = as_matrix(grad)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self._hand_out(self.matrices)

    def _hand_out(self, tensors: dict[str, torch.Tensor]) -> None:
        if self.workers > 1:
            for name, tensor in tensors.items():
                torch.distributed.broadcast(tensor, src=self.owner[name])

    @torch.no_grad()
    def pack(self) -> dict[str, torch.Tensor]:
        """``{"momentum/<name>": (out, rest)}`` of all weights. Every process has to call it: each holds its
        share.
        """
        found = {
            name: self.optimizer.state.get(m, {}).get(_STATE, torch.zeros_like(m))
            for name, m in self.matrices.items()
        }
        self._hand_out(found)
        return {f"momentum/{name}": tensor for name, tensor in found.items()}

    def unpack(self, tensors: dict[str, torch.Tensor]) -> None:
        for name, matrix in self.matrices.items():
            if self.owner[name] == self.rank:
                self.optimizer.state[matrix] = {_STATE: tensors[f"momentum/{name}"].to(matrix.device)}
