"""What would give a concept away: bytes of all that was made of it, looked for in every file of a world."""

from __future__ import annotations

import functools
import io
from pathlib import Path

from handmade import NOUN, mark, sheet

from l2dm import World
from l2dm.world import store
from l2dm.world.recorded import write_recorded
from l2dm.world.tensors import write_tensors


def unfinished(world, token):
    """A checkpoint of a learning, and the memory that it rehearses."""
    record = {
        "identity": {"concept": "x", "settings": {}, "parent": world.version, "earlier": {}},
        "token": token,
        "step": 5,
        "seconds": 1.0,
    }

    def fill(place):
        store.write_json(place / "draft.json", record)
        write_tensors(place / "state.safetensors", {f"{token}/state": mark(f"{token} state")})

    write_recorded(world.path / "learning" / "000005", fill)


@functools.cache
def needles(token: str, alone: bool) -> tuple[bytes, ...]:
    """The token, its name, and bytes of everything that was made of it; ``alone``: and of its noun."""
    name, noun = token[1:-1], NOUN[token]
    kinds = [f"{token} {kind}" for kind in ("features", "down", "vector", "state")]
    kinds += [f"{token} {kind} in {n}" for kind in ("latents", "drawn") for n in range(1, 9)]
    kinds += [f"{noun} of the base", noun] if alone else []
    found = [token.encode(), f"{name}.".encode(), *([noun.encode()] if alone else [])]
    found += [mark(kind).numpy().tobytes()[:12] for kind in kinds]
    for picture in (f"{what} at {n}" for what in ([token, noun] if alone else [token]) for n in range(1, 9)):
        sheet(picture).save(content := io.BytesIO(), "PNG")
        found.append(content.getvalue()[41:80])  # of its compressed pixels
    return tuple(found)


def leaks(place: Path, token: str, alone: bool = True) -> list[str]:
    """Files of a world that hold any of that, in their bytes or in their names."""
    found = {
        str(file.relative_to(place)): file.read_bytes() if file.is_file() else b""
        for file in place.rglob("*")
    }
    return [
        name
        for name, data in found.items()
        if any(n in data or n in name.encode() for n in needles(token, alone))
    ]


def same(one: World, other: World) -> bool:
    """Whether two worlds are the same but for the numbers of their versions and for when they were made."""

    def told_of(world):
        number = {n: i for i, n in enumerate(sorted(world.manifest.versions))}
        files = {
            (number[n], file): (world.path / f"versions/{n:04d}" / file).read_bytes()
            for n, v in world.manifest.versions.items()
            for file in world.manifest.recorded(world.path, n).files
            if not file.startswith(("short-term", "concept", "noun"))
        }
        line = [(v.token, v.concepts, number.get(v.parent)) for v in world.manifest.versions.values()]
        return files, line, world.concepts

    return told_of(one) == told_of(other)


def contents(place: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in place.rglob("*") if file.is_file() and file.name != ".lock"}
