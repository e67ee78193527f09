"""The model hub: what is asked of it, and what lies in its cache on this machine."""

from __future__ import annotations

import logging
import re
from contextlib import suppress
from pathlib import Path

import huggingface_hub

from ..errors import BaseMissing, BaseModelError, first_line

log = logging.getLogger("l2dm")
_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)


def is_hub_id(name: str) -> bool:
    """Whether ``name`` reads as ``owner/name`` rather than as a path."""
    return _ID.fullmatch(name) is not None and not Path(name).exists()


def fetch_file(said: str, repo: str, name: str, revision: str = "") -> Path:
    """One file of ``repo``, from the cache when it is there. ``said`` begins the error's message."""
    try:
        return Path(huggingface_hub.hf_hub_download(repo, name, revision=revision or None))
    except Exception as error:
        raise BaseModelError(
            f"{said}: no such folder, and the hub could not be asked for {name} ({first_line(error)}); "
            "give the path of a folder instead"
        ) from error


def fetch(said: str, repo: str, names: list[str], revision: str = "", small: bool = False) -> Path:
    """The folder in the cache that holds ``names`` (or patterns) of ``repo``, downloaded where they are not
    there yet; which is said first unless they are ``small``."""
    try:
        if not small:
            _announce(said, repo, names, revision)
        return Path(
            huggingface_hub.snapshot_download(repo, revision=revision or None, allow_patterns=names or None)
        )
    except Exception as error:
        raise BaseModelError(
            f"{said}: no such folder, and the hub could not be asked ({first_line(error)}); "
            "give the path of a folder instead"
        ) from error


def _announce(said: str, repo: str, names: list[str], revision: str) -> None:
    """One line that says what is about to be downloaded; nothing where all is in the cache, or the hub does
    not answer.
    """
    with suppress(Exception):
        files = huggingface_hub.snapshot_download(
            repo, revision=revision or None, allow_patterns=names or None, dry_run=True
        )
        if coming := [file.file_size or 0 for file in files if file.will_download]:
            log.warning(
                "%s: downloading %d files, %.1f MB, from the hub", said, len(coming), sum(coming) / 1e6
            )


def cached(said: str, repo: str, revision: str = "") -> Path:
    """The folder in the cache; nothing is asked of the hub. Raises BaseMissing when there is none."""
    try:
        return Path(huggingface_hub.snapshot_download(repo, revision=revision or None, local_files_only=True))
    except Exception as error:
        raise BaseMissing(f"{said}: not in this machine's hub cache ({first_line(error)})") from error


def listing(repo: str, revision: str, folder: Path) -> list[str]:
    """Names of all files of ``repo``; of those in ``folder``, its place in the cache, when the hub does not
    answer.
    """
    try:
        return [
            file.rfilename for file in huggingface_hub.model_info(repo, revision=revision or None).siblings
        ]
    except Exception:
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
