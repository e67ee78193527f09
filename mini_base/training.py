"""What the three trainings of the base share: device, resumable state in safetensors, weight averaging, a log line."""

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
    return (
        torch.nn.parallel.DistributedDataParallel(module, gradient_as_bucket_view=True)
        if workers > 1
        else torch.compile(module)
    )


class Training:
    """One resumable training: a module, AdamW, a cosine learning rate with warm-up, an average of the weights.

    ``total`` optimizer steps in all, the learning rate falling as a cosine or level with a last fall (``shape``); the state lies in ``folder`` and is taken up from there when it exists.
    """

    def __init__(self, folder: Path, module: torch.nn.Module, lr: float, total: int, warmup: int = 200,
                 weight_decay: float = 0.01, decay: float = 0.999, save_every: float = 120.0, shape: str = "cosine", leader: bool = True):  # fmt: skip
        self.folder, self.module, self.lr, self.total, self.warmup = (
            folder,
            module.to(DEVICE),
            lr,
            total,
            warmup,
        )
        self.decay, self.save_every, self.shape, self.leader = decay, save_every, shape, leader
        self.named = {n: p for n, p in module.named_parameters() if p.requires_grad}
        self.optimizer = torch.optim.AdamW(
            self.named.values(), lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98), fused=True
        )
        self.average = {n: p.detach().clone() for n, p in self.named.items()}
        self.step, self.pictures, self.seconds, self.log, self._since, self._mark = (
            0,
            0,
            0.0,
            [],
            time.time(),
            time.time(),
        )
        self._losses: list[float] = []
        if (folder / "state.json").exists():
            self._load()

    @property
    def done(self) -> bool:
        return self.step >= self.total

    def update(
        self, loss: torch.Tensor, pictures: int, clip: float = 1.0, told: torch.Tensor | None = None
    ) -> None:
        """One optimizer step on ``loss`` over ``pictures``; the leader saves and logs (``told``, else the loss) when it is time to."""
        rate = self.lr * min(1.0, (self.step + 1) / self.warmup)
        at = min(1.0, self.step / self.total)
        if self.shape == "cosine":
            rate *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * at))
        elif at > 1 - FALL:  # "stable": level, then down; a longer total takes up an unfinished run
            rate *= 0.02 + 0.98 * (1 - at) / FALL
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        loss.backward()
        if torch.nn.utils.clip_grad_norm_(self.named.values(), clip).isfinite():
            self.optimizer.step()
        else:  # the same for all processes side by side, whose gradients are averaged
            print(
                f"{self.folder.name} step {self.step}: gradients that are not finite, loss {float(loss.detach())}; step left out",
                flush=True,
            )
        self.optimizer.zero_grad(set_to_none=True)
        self.step += 1
        self.pictures += pictures
        if not self.leader:
            return
        if self.step % 4 == 0:
            decay = min(self.decay, (1 + self.step) / (10 + self.step)) ** 4
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.named.values()), 1 - decay)
        self._losses.append(float((loss if told is None else told).detach()))
        if self.step % 100 == 0:
            mean = sum(self._losses) / len(self._losses)
            self._losses.clear()
            now = time.time()
            self.seconds += now - self._since
            self._since = now
            self.log.append([self.step, round(mean, 5), round(self.seconds, 1)])
            print(
                f"{self.folder.name} step {self.step}/{self.total} loss {mean:.4f} lr {rate:.2e} {self.seconds:.0f}s",
                flush=True,
            )
            if now - self._mark > self.save_every:
                self.save()
                self._mark = now
        if self.done:
            self.save()

    def save(self) -> None:
        """Write the whole state beside the last one, then swap: a kill leaves one of the two."""
        self.folder.mkdir(parents=True, exist_ok=True)
        tensors = {f"weight/{n}": p.detach() for n, p in self.named.items()}
        tensors |= {f"average/{n}": p for n, p in self.average.items()}
        tensors |= pack_optimizer(self.named, self.optimizer)
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
        with torch.no_grad():
            for name, p in self.named.items():
                if f"weight/{name}" not in tensors or tensors[f"weight/{name}"].shape != p.shape:
                    raise SystemExit(
                        f"{self.folder}: made for another architecture ({name}); remove the folder to begin anew"
                    )
                p.copy_(tensors[f"weight/{name}"])
                self.average[name] = tensors[f"average/{name}"].to(p.device)
        unpack_optimizer(self.named, self.optimizer, tensors)

    def averaged(self) -> torch.nn.Module:
        """A copy of the module with the averaged weights."""
        other = copy.deepcopy(self.module).eval()
        with torch.no_grad():
            for name, p in other.named_parameters():
                if name in self.average:
                    p.copy_(self.average[name])
        return other
