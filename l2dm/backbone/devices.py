"""Where a base is loaded to and works."""

from __future__ import annotations

import torch

from ..errors import SettingsError


def find_device(name: str | torch.device = "auto") -> torch.device:
    """``name``: "cuda", "mps", "cpu", or "auto": CUDA's first device where there is one, else the CPU.

    Raises SettingsError where this machine, or this build of torch, has no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    there = {"cuda": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if device.type in there and not there[device.type]():
        built = torch.version.cuda if device.type == "cuda" else torch.backends.mps.is_built()
        why = "finds none on this machine" if built else f"is built without {device.type}"
        raise SettingsError(
            f"device = {device}: torch {torch.__version__} {why}; leave it out for what is there, or install "
            "another torch"
        )
    return device
