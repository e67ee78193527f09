"""The model hub: what is asked of it, and what lies in its cache on this machine."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub

from ..errors import BaseModelError, first_line


def is_hub_id(name: str) -> bool:
    """Whether ``name`` reads as ``owner/name`` rather than as a path."""
    return name.count("/") == 1 and not name.startswith((".", "/", "~")) and not Path(name).exists()


def fetch_file(said: str, repo: str, name: str, revision: str = "") -> Path:
    """One file of ``repo``, from the cache when it is there. ``said`` begins the error's message."""
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision or None))
    except Exception as error:
        raise BaseModelError(
            f"{said}: no such folder, and the hub could not be asked for {name} ({first_line(error)}); "
            "give the path of a folder instead"
        ) from error


def fetch(said: str, repo: str, names: list[str], revision: str = "") -> Path:
    """The folder in the cache that holds ``names`` (or patterns) of ``repo``, downloaded where they are not there yet."""
    try:
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision or None, allow_patterns=names or None)
        )
    except Exception as error:
        raise BaseModelError(
            f"{said}: no such folder, and the hub could not be asked ({first_line(error)}); "
            "give the path of a folder instead"
        ) from error


def cached(said: str, repo: str, revision: str, way_out: str) -> Path:
    """The folder in the cache; nothing is asked of the hub. Raises BaseModelError with ``way_out`` when there is none."""
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision or None, local_files_only=True))
    except Exception as error:
        raise BaseModelError(
            f"{said}: not in this machine's hub cache ({first_line(error)}); {way_out}"
        ) from error


def listing(repo: str, revision: str, folder: Path) -> list[str]:
    """Names of all files of ``repo``; of those in ``folder``, its place in the cache, when the hub does not answer."""
    try:
        return [
            file.rfilename for file in huggingface_hub.model_info(repo, revision=revision or None).siblings
        ]
    except Exception:
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
