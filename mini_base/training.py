"""What the three trainings of the base share: device, resumable state in safetensors, weight averaging, a log
line.
"""

from __future__ import annotations

import copy
import json
import math
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from l2dm.backbone import multiplies_bfloat16
from l2dm.learner import pack_optimizer, unpack_optimizer
from l2dm.learner.optimizer_state import match_layout

from .averages import PowerAverages
from .muon import Muon, hidden

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FALL = 0.3  # share of a "stable" training's steps in which its learning rate falls


def side_by_side(work: Callable[..., None], *args: Any) -> None:
    """``work(rank, workers, *args)``: on a GPU once, on a CPU in one single-threaded process a core.

    Small matrix products gain little from a second thread; processes that average their gradients gain more.
    """
    workers = 1 if DEVICE == "cuda" else os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as meeting:
        address = f"file://{meeting}/meeting"
        torch.multiprocessing.start_processes(
            _enter, (workers, address, work, args), nprocs=workers, start_method="spawn"
        )


def _enter(rank: int, workers: int, address: str, work: Callable[..., None], args: tuple) -> None:
    if workers > 1:
        torch.set_num_threads(1)
        os.environ["GLOO_SOCKET_IFNAME"] = "lo"
        torch.distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=workers)
    work(rank, workers, *args)


def swift() -> torch.autocast:
    """Within the block networks compute in bfloat16 where the hardware multiplies it."""
    return torch.autocast(DEVICE, torch.bfloat16, enabled=multiplies_bfloat16(torch.device(DEVICE)))


def averaging(module: torch.nn.Module, workers: int) -> torch.nn.Module:
    """``module``, to be called for its loss: processes side by side get the mean of all their gradients."""
    if workers > 1:
        return torch.nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
    return torch.compile(module) if DEVICE == "cuda" else module


class Training:
    """One resumable training: a module, its optimizers, a learning rate with warm-up and fall, an average of
    the weights.

    ``total`` optimizer steps in all, the learning rate falling as a cosine or level with a last fall
    (``shape``); the state lies in ``folder`` and is taken up from there when it exists. All weights are
    AdamW's, or with ``muon`` (its learning rate) those between hidden layers Muon's. ``decay``: of the
    exponential average; None: power averages in its place, see ``averages``. ``minutes`` from now on it is
    done for this time, unfinished as it may be.
    """

    def __init__(
        self,
        folder: Path,
        module: torch.nn.Module,
        lr: float,
        total: int,
        warmup: int = 200,
        weight_decay: float = 0.01,
        decay: float | None = 0.999,
        save_every: float = 120.0,
        shape: str = "cosine",
        leader: bool = True,
        muon: float = 0.0,
        minutes: float | None = None,
    ):
        self.folder, self.module, self.total, self.warmup = folder, module.to(DEVICE), total, warmup
        self.decay, self.save_every, self.shape, self.leader = decay, save_every, shape, leader
        self.named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        turned = hidden(module) if muon else {}
        self.muon = Muon(turned, muon, weight_decay) if muon else None
        self.optimizer = torch.optim.AdamW(
            [p for n, p in self.named.items() if n not in turned],
            lr=lr,
            weight_decay=weight_decay,
            betas=(0.9, 0.98),
            fused=True,
        )
        groups = self.optimizer.param_groups + (self.muon.optimizer.param_groups if self.muon else [])
        self._peaks = [(group, group["lr"]) for group in groups]
        self.average = {n: p.detach().clone() for n, p in self.named.items()} if decay is not None else {}
        self.powers = PowerAverages(self.named, folder / "snapshots", total) if decay is None else None
        self.step, self.pictures, self.seconds, self.log = 0, 0, 0.0, []
        self._since = self._mark = time.time()
        self._losses: list[torch.Tensor] = []
        self._until, self._late = self._since + 60 * (math.inf if minutes is None else minutes), False
        if (folder / "state.json").exists():
            self._load()

    @property
    def done(self) -> bool:
        return self.step >= self.total or self._late

    def update(
        self, loss: torch.Tensor, pictures: int, clip: float = 1.0, told: torch.Tensor | None = None
    ) -> None:
        """One optimizer step on ``loss`` over ``pictures``; the leader saves and logs (``told``, else the
        loss) when it is time to.
        """
        rate = min(1.0, (self.step + 1) / self.warmup)
        at = min(1.0, self.step / self.total)
        if self.shape == "cosine":
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * at))
        elif at > 1 - FALL:  # "stable": level, then down; a longer total takes up an unfinished run
            rate *= 0.02 + 0.98 * (1 - at) / FALL
        for group, peak in self._peaks:
            group["lr"] = peak * rate
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(self.named.values(), clip).isfinite():
            self.optimizer.step()
            if self.muon:
                self.muon.step()
        else:  # the same for all processes side by side, whose gradients are averaged
            print(
                f"{self.folder.name} step {self.step}: gradients that are not finite, loss "
                f"{float(loss.detach())}; step left out",
                flush=True,
            )
        self.module.zero_grad(set_to_none=True)
        self.step += 1
        self.pictures += pictures
        if self.leader:
            self._keep_account(loss if told is None else told, rate)
        if self.step % 100 == 0 or self.done:
            now = time.time()
            due, self._late = self._agreed(self.done or now - self._mark > self.save_every, now > self._until)
            if due or self._late:
                self.save()
                self._mark = now

    def _keep_account(self, loss: torch.Tensor, rate: float) -> None:
        """Averages and log after a step at ``rate`` of the learning rate's peak."""
        if self.powers:
            self.powers.update(self.step)
        elif self.step % 4 == 0:
            decay = min(self.decay, (1 + self.step) / (10 + self.step)) ** 4
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - decay)
        self._losses.append(loss.detach())
        if self.step % 100 == 0:
            mean = float(torch.stack(self._losses).float().mean())
            self._losses.clear()
            now = time.time()
            self.seconds += now - self._since
            self._since = now
            self.log.append([self.step, round(mean, 5), round(self.seconds, 1)])
            print(
                f"{self.folder.name} step {self.step}/{self.total} loss {mean:.4f} rate {rate:.2f} "
                f"{self.seconds:.0f}s",
                flush=True,
            )

    def _agreed(self, *said: bool) -> list[bool]:
        """The leader's word, the same for all processes side by side."""
        if not torch.distributed.is_initialized():
            return list(said)
        word = torch.tensor(said)
        torch.distributed.broadcast(word, src=0)
        return word.tolist()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """Weights and their averages, as they lie in the state."""
        tensors = {f"weight/{n}": p.detach() for n, p in self.named.items()}
        return tensors | (
            self.powers.tensors() if self.powers else {f"average/{n}": a for n, a in self.average.items()}
        )

    def save(self) -> None:
        """Write the whole state beside the last one, then swap: a kill leaves one of the two. Every process
        calls it, the leader writes.
        """
        momentum = self.muon.pack() if self.muon else {}
        if not self.leader:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = self._tensors() | momentum | pack_optimizer(self.named, self.optimizer)
        name = f"state-{self.step}.safetensors"
        save_file({k: v.contiguous().cpu().clone() for k, v in tensors.items()}, self.folder / name)
        record = {
            "file": name,
            "step": self.step,
            "pictures": self.pictures,
            "seconds": self.seconds,
            "log": self.log,
        }
        scratch = self.folder / "state.json.part"
        scratch.write_text(json.dumps(record))
        os.replace(scratch, self.folder / "state.json")
        for old in self.folder.glob("state-*.safetensors"):
            if old.name != name:
                old.unlink()

    def _load(self) -> None:
        record = json.loads((self.folder / "state.json").read_text())
        tensors = load_file(self.folder / record["file"])
        self.step, self.pictures, self.seconds, self.log = (
            record[k] for k in ("step", "pictures", "seconds", "log")
        )
        moments = {f"momentum/{name}": m for name, m in self.muon.matrices.items()} if self.muon else {}
        for name, own in (self._tensors() | moments).items():
            if name not in tensors or tensors[name].shape != own.shape:
                raise SystemExit(
                    f"{self.folder}: made for another architecture or recipe ({name}); remove the folder to "
                    "begin anew"
                )
        for name, own in self._tensors().items():
            own.copy_(tensors[name])
        unpack_optimizer(self.named, self.optimizer, tensors)
        match_layout(self.optimizer)
        if self.muon:
            self.muon.unpack(tensors)

    def averaged(self, length: float | None = None) -> torch.nn.Module:
        """A copy of the module with the averaged weights; ``length`` of a power average, as a share of the
        training.
        """
        average = self.powers.at(self.step, length) if self.powers else self.average
        other = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            for name, p in other.named_parameters():
                if name in average:
                    p.copy_(average[name])
        return other
