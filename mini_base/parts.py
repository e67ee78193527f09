"""Finished parts of the base: weights in fp16, in files small enough to be carried from machine to machine,
with their record.

A part is ``finished/<part>-<i>-of-<n>.safetensors``; each file's metadata holds the record of the part's
training and a stamp of all of its weights, so that files of two trainings are never taken for one part. Parts
that the recipe has finished lie in TRAINED: what a base is made of need not be made again.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

TRAINED = Path(__file__).parent / "trained"
LARGEST = 15 * 2**20  # bytes of weights in a file


def keep(work: Path, part: str, module: torch.nn.Module, record: dict) -> None:
    """Write the weights of ``module`` and the ``record`` of their training; what was kept before of ``part``
    goes.
    """
    files: list[dict[str, torch.Tensor]] = [{}]
    room, stamp = LARGEST, hashlib.sha256()
    for name, tensor in module.state_dict().items():
        tensor = (tensor.half() if tensor.is_floating_point() else tensor).detach().cpu().contiguous()
        size = tensor.nbytes
        if size > room and files[-1]:
            files.append({})
            room = LARGEST
        files[-1][name] = tensor
        room -= size
        stamp.update(name.encode() + tensor.numpy().tobytes())
    about = {"record": json.dumps(record), "stamp": stamp.hexdigest()}
    folder = work / "finished"
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{part}-{i}-of-{len(files)}.safetensors" for i in range(1, len(files) + 1)]
    for name, tensors in zip(names, files):
        save_file(tensors, folder / f"{name}.part", about)
    for name in names:
        (folder / f"{name}.part").replace(folder / name)
    for path in folder.glob(f"{part}-*.safetensors"):
        if path.name not in names:
            path.unlink()


def files(work: Path, part: str) -> list[Path]:
    """The files of a whole ``part``, in ``work`` or else in TRAINED; none when one is missing or of another
    training.
    """
    pattern = f"{part}-*-of-*.safetensors"
    found = sorted((work / "finished").glob(pattern)) or sorted(TRAINED.glob(pattern))
    count = int(found[0].stem.rpartition("-")[2]) if found else 0
    wanted = [found[0].with_name(f"{part}-{i}-of-{count}.safetensors") for i in range(1, count + 1)]
    stamps = set()
    for path in found:
        with safe_open(path, "pt") as file:
            stamps.add(file.metadata()["stamp"])
    return wanted if found == wanted and len(stamps) == 1 else []


def record(work: Path, part: str) -> dict:
    """Of the training of a ``part``; SystemExit where it is not there whole."""
    found = files(work, part)
    if not found:
        raise SystemExit(
            f"{work / 'finished'}: no whole {part} here; train it with: python -m mini_base --work {work}"
        )
    with safe_open(found[0], "pt") as file:
        return json.loads(file.metadata()["record"])


def load(work: Path, part: str, module: torch.nn.Module) -> dict:
    """Put the finished weights into ``module`` and return their record; SystemExit where they are not there
    or not its own.
    """
    about, weights, own = record(work, part), {}, module.state_dict()
    for path in files(work, part):
        weights |= load_file(path)
    if weights.keys() != own.keys() or any(weights[name].shape != own[name].shape for name in own):
        raise SystemExit(
            f"{work / 'finished'}: a {part} of another architecture; remove its files to train it"
        )
    module.load_state_dict(weights)
    return about


def settled(work: Path, part: str, training: str, steps: int = 0) -> bool:
    """Whether ``part`` is whole, and as its training (in folder ``training``) left it after ``steps``, if
    there is any here.
    """
    state = work / training / "state.json"
    if not files(work, part) or not state.exists():
        return bool(files(work, part))
    return record(work, part)["step"] == json.loads(state.read_text())["step"] >= steps


def record_of(folder: Path) -> dict:
    """Steps, pictures, seconds and loss of the training in ``folder``."""
    state = json.loads((folder / "state.json").read_text())
    return {key: state[key] for key in ("step", "pictures", "seconds", "log")}
