"""Files that are handed to users: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> Path:
    """Write ``content`` beside ``path`` and rename it into place: a full disk or a kill leaves no half of it there."""
    scratch = path.with_name(f".part-{os.getpid()}")
    try:
        scratch.write_bytes(content)
        os.replace(scratch, path)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
    return path
