"""Averages of the weights whose length is chosen when training is over.

"Analyzing and Improving the Training Dynamics of Diffusion Models", arXiv 2312.02696, section 3. A power
average of exponent gamma after t steps weighs the weights of step s by its profile

    p(s) = (gamma + 1) s^gamma / t^(gamma + 1),    0 <= s <= t,

and its length is the profile's standard deviation as a share of t. Two of them are kept, and put aside now
and then; the profile of any other length is their linear combination that is nearest in the mean square.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

LENGTHS = (0.05, 0.10)  # of the two that are kept
EVERY = 4  # steps between two updates
SNAPSHOTS = 16  # of a whole training


def exponent(length: float) -> float:
    """gamma of the profile whose standard deviation is ``length`` of the training, between 0 and 0.28."""
    square = length**-2
    return float(np.roots([1, 7, 16 - square, 12 - square]).real.max())


def overlap(
    time: np.ndarray, gamma: np.ndarray, other_time: np.ndarray, other_gamma: np.ndarray
) -> np.ndarray:
    """Integral of the product of two profiles, for each of the first (rows) with each of the others
    (columns).
    """
    t, g, u, h = time[:, None], gamma[:, None], other_time[None], other_gamma[None]
    logs = (g + h + 1) * np.log(np.minimum(t, u)) - (g + 1) * np.log(t) - (h + 1) * np.log(u)
    return (g + 1) * (h + 1) / (g + h + 1) * np.exp(logs)


def mixture(times: list[int], lengths: list[float], time: int, length: float) -> np.ndarray:
    """How much of each average (kept at ``times``, of ``lengths``) makes up the one of ``length`` after
    ``time`` steps.
    """
    t, g = np.array(times, float), np.array([exponent(one) for one in lengths])
    u, h = np.array([time], float), np.array([exponent(length)])
    shares = np.linalg.lstsq(overlap(t, g, t, g), overlap(t, g, u, h)[:, 0], rcond=None)[0]
    return shares / shares.sum()


class PowerAverages:
    """The two averages of ``named`` weights, and where they are put aside: ``folder``, one file (fp16) a
    snapshot.
    """

    def __init__(self, named: dict[str, torch.nn.Parameter], folder: Path, total: int):
        self.named, self.folder = named, folder
        self.every = max(EVERY, total // SNAPSHOTS // EVERY * EVERY)
        self.kept = {length: {n: p.detach().clone() for n, p in named.items()} for length in LENGTHS}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after ``step`` steps (from 1), when it is time to."""
        if step % EVERY:
            return
        for length, average in self.kept.items():
            share = 1 - (1 - EVERY / step) ** (exponent(length) + 1)
            torch._foreach_lerp_(list(average.values()), list(self.named.values()), share)
        if step % self.every == 0:
            self.folder.mkdir(parents=True, exist_ok=True)
            part = self.folder / "snapshot.part"
            save_file({name: one.half().contiguous().cpu() for name, one in self.tensors().items()}, part)
            part.replace(self.folder / f"{step}.safetensors")

    def tensors(self) -> dict[str, torch.Tensor]:
        """``{"power-<length>/<name>": tensor}``, the very ones that are kept."""
        return {
            f"power-{length}/{n}": one for length, average in self.kept.items() for n, one in average.items()
        }

    @torch.no_grad()
    def at(self, step: int, length: float) -> dict[str, torch.Tensor]:
        """The average of ``length`` of the ``step`` steps up to now, from what is kept now and was put aside
        before.
        """
        aside = sorted(int(path.stem) for path in self.folder.glob("*.safetensors") if int(path.stem) < step)
        times = [time for time in [*aside, step] for _ in LENGTHS]
        shares = iter(mixture(times, [*LENGTHS] * (len(aside) + 1), step, length))
        found = {name: torch.zeros(p.shape) for name, p in self.named.items()}
        for time in aside:
            with safe_open(self.folder / f"{time}.safetensors", "pt") as file:
                for one in LENGTHS:
                    share = float(next(shares))
                    for name, tensor in found.items():
                        tensor += share * file.get_tensor(f"power-{one}/{name}").float()
        for average in self.kept.values():
            share = float(next(shares))
            for name, tensor in found.items():
                tensor += share * average[name].cpu()
        return found
