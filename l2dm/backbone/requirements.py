"""How much memory work on a base takes, without its weights: it is done on torch's meta device, where tensors
have shapes and no numbers, and the bytes that are held at once are counted."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from torch.fx.experimental import _config
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

#: Bytes of a process that has imported everything; on a GPU about as many for its context.
PROCESS = 1 << 29


class _Held(TorchDispatchMode):
    """``most``: of all tensors made within the block, the bytes that were held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._local_scalar_dense.default and args[0].device.type == "meta":
            return True  # a mask covers everything
        made = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if (key := storage._cdata) not in self._known:
                    self._known.add(key)
                    self.now += storage.nbytes()
                    self.most = max(self.most, self.now)
                    weakref.finalize(storage, self._gone, key, storage.nbytes())
        return made

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


class _Fused(torch.autograd.Function):
    """Attention as fused kernels hold it: its inputs and its output, no probabilities."""

    @staticmethod
    def forward(ctx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        out = query.new_empty(*query.shape[:-1], value.shape[-1])
        ctx.save_for_backward(query, key, value, out)
        return out

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.empty_like(given) for given in ctx.saved_tensors[:3])


@contextmanager
def _fused_attention() -> Iterator[None]:
    own = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = lambda query, key, value, *args, **kwargs: _Fused.apply(
        query, key, value
    )
    try:
        yield
    finally:
        F.scaled_dot_product_attention = own


def held_bytes(work: Callable[[], Any]) -> int:
    """The most bytes that ``work`` on meta tensors holds at once, beside those that were there before."""
    whole = _config.patch(meta_nonzero_assume_all_nonzero=True)  # masks cover everything
    with whole, _Held() as held, _fused_attention():
        work()
    return held.most


def weight_bytes(*networks: torch.nn.Module) -> int:
    return sum(p.numel() * p.element_size() for network in networks for p in network.parameters())


def free_bytes(device: torch.device) -> int | None:
    """Memory that ``device`` has to give now; None where the system does not tell."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            facts = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
        return facts["MemAvailable"] << 10
    except (OSError, ValueError, KeyError):
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else None
