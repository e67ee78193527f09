"""All that the GPU recipe needs, in one folder that needs no internet: rendered icons, tokenizer, finished
parts, diffusers' wheel.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np

from . import clip, corpus, latents, parts, unet

MOST = 64 * 2**20  # bytes in all


def pack(work: Path, out: Path, wheels: bool = True) -> None:
    """Fill ``out`` from ``work``; the autoencoder is trained first where it is not finished. ``out`` is then
    a --work folder.

    SystemExit when it is larger than ``MOST``, or ``out`` holds something else.
    """
    if out.exists() and any(out.iterdir()) and not (out / "finished").is_dir():
        raise SystemExit(f"{out}: it holds something else than a pack; give an empty folder or a new one")
    icons = corpus.load_icons(work)
    latents.load_autoencoder(icons, work)
    shutil.rmtree(out, ignore_errors=True)
    (out / "finished").mkdir(parents=True)
    nouns = {name for names in corpus.NOUNS.values() for name in names}
    for style in corpus.TRAIN_STYLES:
        sheet = corpus.sheet(work, style)
        with np.load(sheet) as cached:
            np.savez_compressed(out / sheet.name, **{name: cached[name] for name in nouns})
    clip.load_tokenizer(work)
    shutil.copytree(work / "tokenizer", out / "tokenizer")
    for part in ("vae", "clip", unet.STAGES[0].part):
        for path in parts.files(work, part):
            shutil.copy(path, out / "finished")
    if wheels:
        wanted = f"diffusers=={version('diffusers')}"
        subprocess.run(
            [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(out / "wheels"), wanted],
            check=True,
        )
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    if size > MOST:
        raise SystemExit(f"{out}: {size / 2**20:.0f} MiB, and {MOST >> 20} is the most")
    print(
        f"{out}: {size / 2**20:.1f} MiB; there: python -m mini_base train --work {out.name} --deliver FOLDER"
    )


def deliver(work: Path, out: Path) -> None:
    """Copy the finished parts that were trained in ``work`` to ``out``: put them into another --work folder's
    ``finished``.
    """
    out.mkdir(parents=True, exist_ok=True)
    for part in ("clip", *(stage.part for stage in unet.STAGES)):
        if (work / part / "state.json").exists():
            for path in parts.files(work, part):
                shutil.copy(path, out)
