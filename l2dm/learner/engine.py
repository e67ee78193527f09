"""How a step is worked out on this machine: in which precision, what is kept for the backward, by which
optimizer.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import torch

from ..backbone import DTYPES, Backbone, compiled, fast_layers, frozen_in_bfloat16, multiplies_bfloat16
from ..errors import SettingsError
from ..settings import LearnSettings

#: A scale of float16's gradients below which the gradients themselves are out of range.
_SMALLEST_SCALE = 2.0**-10


class Engine:
    """Frozen weights stay as ``backbone`` holds them; what is trained is in float32, and products are in
    ``half`` precision where there is one.
    """

    def __init__(self, backbone: Backbone, settings: LearnSettings, groups: list[dict]):
        self.backbone, self.settings = backbone, settings
        self.optimizer = optimizer(settings.optimizer, groups)
        self.scaler = torch.amp.GradScaler(backbone.device.type, enabled=self.half == torch.float16)

    @property
    def half(self) -> torch.dtype | None:
        """In which half precision products are worked out, if in any: by default the base's, or bfloat16
        where the hardware multiplies it.
        """
        if self.settings.precision != "auto":
            return DTYPES[self.settings.precision] if self.settings.precision != "float32" else None
        if self.backbone.dtype != torch.float32:
            return self.backbone.dtype
        return torch.bfloat16 if multiplies_bfloat16(self.backbone.device) else None

    @property
    def fast(self) -> bool:
        """Whether layers have the form for bfloat16."""
        return self.half == torch.bfloat16

    def autocast(self) -> torch.autocast:
        """Casted weights are not kept: autocast would hand those of the teacher's forward to the student's,
        which comes after.
        """
        return torch.autocast(
            self.backbone.device.type, self.half, enabled=self.half is not None, cache_enabled=False
        )

    @contextmanager
    def training(self, named: dict[str, torch.nn.Parameter]) -> Iterator[None]:
        """Within the block what is tuned takes gradients."""
        denoiser = self.backbone.denoiser
        if self.fast:  # only together are bfloat16 and channels_last faster
            denoiser.to(memory_format=torch.channels_last)
        if self.settings.gradient_checkpointing:
            denoiser.enable_gradient_checkpointing()
        for name, p in named.items():
            p.requires_grad_(name != "token" or self.settings.token_learning_rate > 0)
        try:
            with fast_layers(denoiser) if self.fast else nullcontext():
                yield
        finally:
            denoiser.to(memory_format=torch.contiguous_format)
            if self.settings.gradient_checkpointing:
                denoiser.disable_gradient_checkpointing()
            for p in named.values():
                p.requires_grad_(False)
                p.grad = None

    @contextmanager
    def running(self, *idle: str) -> Iterator[None]:
        """Around all steps, within ``training``: frozen weights as the steps read them. A CLIP pair, an
        autoencoder and the base's ``idle`` parts have nothing to do there, and leave the memory."""
        backbone = self.backbone
        backbone.release_features()
        halved = frozen_in_bfloat16(backbone.denoiser) if self.fast else nullcontext()
        with (
            backbone.aside.leave("vae", *idle),
            halved,
            compiled(backbone) if self.settings.compile else nullcontext(),
        ):
            yield

    def backward(self, loss: torch.Tensor) -> None:
        """Of a share of a step; one of prior pictures alone may depend on nothing that is trained."""
        scaled = self.scaler.scale(loss)
        if scaled.requires_grad:
            scaled.backward()

    def step(self, named: dict[str, torch.nn.Parameter]) -> torch.Tensor:
        """The optimizer's step; the largest size of any gradient, NaN if one is: not yet read, so that
        nothing has to wait for it.
        """
        self.scaler.unscale_(self.optimizer)
        grads = [p.grad for p in named.values() if p.grad is not None and p.grad.numel()]
        steepest = torch.nn.utils.get_total_norm(grads, torch.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        return steepest

    def is_finite(self, loss: float, steepest: torch.Tensor) -> bool:
        """Whether learning can go on. Gradients that left float16's range by their scale alone cost one step,
        and the next has half of it.
        """
        if math.isfinite(loss + float(steepest)):
            return True
        return self.scaler.is_enabled() and math.isfinite(loss) and self.scaler.get_scale() > _SMALLEST_SCALE

    def state(self) -> dict[str, torch.Tensor]:
        """What has to be kept beside weights and optimizer."""
        if not self.scaler.is_enabled():
            return {}
        found = self.scaler.state_dict()
        return {"scaler": torch.tensor([found["scale"], found["_growth_tracker"]])}

    def load_state(self, tensors: dict[str, torch.Tensor]) -> None:
        if self.scaler.is_enabled():
            scale, tracker = tensors["scaler"].tolist()
            known = self.scaler.state_dict()
            self.scaler.load_state_dict({**known, "scale": scale, "_growth_tracker": int(tracker)})


def optimizer(name: str, groups: list[dict]) -> torch.optim.Optimizer:
    """AdamW without weight decay over ``groups``: torch's, or bitsandbytes' with moments of 8 bits. Raises
    SettingsError where that is missing.
    """
    if name == "adamw":
        return torch.optim.AdamW(groups, weight_decay=0.0, fused=True)
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SettingsError(
            f"optimizer = {name}: needs bitsandbytes: pip install bitsandbytes, or leave it out"
        )
    from bitsandbytes.optim import AdamW8bit

    return AdamW8bit(groups, weight_decay=0.0)
