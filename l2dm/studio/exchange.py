"""The jobs of going out and coming in: concepts as files of other programs, and such files as concepts."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zipfile import ZIP_STORED, ZipFile

from .. import World
from .exchange_names import IN, OUT
from .folder import StudioFolder
from .jobs import JobFolder
from .told import Told, committed

if TYPE_CHECKING:
    from .work import Opened


def take_out(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Write concepts for other programs, into one zip beside the job."""
    asked, scratch, target = found.job.asked, found.path / "export", found.path / OUT
    found.tell(stage="export", done=0, total=1)
    shutil.rmtree(scratch, ignore_errors=True)
    target.unlink(missing_ok=True)
    if asked["format"] == "world":
        done = opened().export(format="world", out=target)
        files = [target.name]
    else:
        done = opened().export(
            *asked["tokens"],
            format=asked["format"],
            out=scratch,
            dtype=asked["dtype"],
            strength=asked.get("strength", 1.0),
        )
        files = done.files
        with ZipFile(target, "w", ZIP_STORED) as packed:
            for name in files:
                packed.write(scratch / name, name)
        shutil.rmtree(scratch)
    found.tell(stage="export", done=1, total=1)
    return {
        "files": files,
        "prompts": list(done.triggers.values()),
        "loses": done.loses,
        "bytes": target.stat().st_size,
    }


def bring_in(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Take in a file of another program, or a concept of another world's zip, as a new version."""
    asked, file = found.job.asked, _given(found.path)
    world = World.open(folder.world)
    if number := committed(found, world, asked["token"]):
        return {"version": number}
    tell = Told(found, 0)
    if file.suffix == ".zip":
        there = asked.get("there") or asked["token"]
        done = world.import_concept(file, there, to=asked["token"], on_progress=tell)
    else:
        done = world.import_file(
            file,
            token=asked["token"],
            noun=asked["noun"],
            trigger=asked["trigger"],
            denoiser_only=asked.get("denoiser_only", False),
            on_progress=tell,
        )
    for note in done.notes:
        found.tell(note=note)
    return {"version": done.version.version}


def _given(job: Path) -> Path:
    return next((job / "photos").glob(f"{IN}.*"))
