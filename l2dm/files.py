"""Files that appear whole or not at all, on every system: written beside their place, flushed to the disk,
then named.

``system`` is ``os.name``; Windows ("nt") flushes no folders, flushes a file only by a handle that may write,
and refuses to rename what another program has open just then, such as a virus scanner.
"""

from __future__ import annotations

import errno
import hashlib
import os
import platform
import re
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

#: Marks work in progress; anything so named is rubbish after a crash. In a world the next writer removes it.
PART = ".part-"
#: What Windows reads as a device, whatever the ending, and names whose last character it drops.
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[1-9¹²³])( *\..*)?|.*[. ]", re.I | re.S)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EBADF}
_HERE = hashlib.sha256(platform.node().encode()).hexdigest()[
    :8
]  # this machine, beside others over one folder
_LEFT = re.compile(rf"{re.escape(PART)}{_HERE}-([0-9]{{1,9}})-[0-9a-f]{{16}}")
_PATIENCE = (0.01, 0.03, 0.1, 0.3, 0.6)  # seconds between tries


def is_reserved(name: str) -> bool:
    """Whether Windows would not have this name of a file or folder, or take it for another."""
    return bool(_RESERVED.fullmatch(name))


def sync(path: Path, system: str = os.name) -> None:
    """Flush a file, or a folder's list of names where the system can, to the disk."""
    folder = path.is_dir()
    if folder and system == "nt":
        return
    handle = os.open(path, os.O_RDWR if system == "nt" else os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if not folder or error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(handle)


def replace(
    source: Path, target: Path, system: str = os.name, pause: Callable[[float], None] = time.sleep
) -> None:
    """``os.replace``, which Windows is given a second for while another program has one of the two open."""
    for seconds in _PATIENCE if system == "nt" else ():
        try:
            return os.replace(source, target)
        except PermissionError:
            pause(seconds)
    os.replace(source, target)


def write_whole(path: Path, content: bytes, system: str = os.name) -> Path:
    """Replace ``path``'s content at one stroke; a full disk or a kill leaves no half of it there."""
    with _beside(path.parent, content) as scratch:
        replace(scratch, path, system)
    sync(path.parent, system)
    return path


def write_new(paths: Iterable[Path], content: bytes, system: str = os.name) -> Path:
    """Write ``content`` whole to the first of ``paths``, all in one folder, where nothing stands yet, and
    return that one.

    Several processes with the same ``paths`` each get one of their own.
    """
    paths = iter(paths)
    path = next(paths)
    with _beside(path.parent, content) as scratch:
        while not _claim(scratch, path, system):
            path = next(paths)
    sync(path.parent, system)
    return path


def _claim(scratch: Path, path: Path, system: str) -> bool:
    """Give a finished file its name, unless there is such a one already."""
    try:
        os.link(scratch, path)
        return True
    except FileExistsError:
        return False
    except OSError:  # no hard links here: an empty file keeps the name until it is replaced
        pass
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        replace(scratch, path, system)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return True


def _runs(process: int) -> bool:
    """Whether there is such a process; on Windows, where asking would end it, there always is."""
    if os.name == "nt":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def scratch_in(folder: Path) -> Path:
    """A name for work in progress in ``folder``, from which what this machine's ended processes have left
    under such names is removed.
    """
    for left in folder.glob(f"{PART}*"):
        if (whose := _LEFT.fullmatch(left.name)) and not _runs(int(whose[1])):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
    return folder / f"{PART}{_HERE}-{os.getpid()}-{secrets.token_hex(8)}"


@contextmanager
def _beside(folder: Path, content: bytes) -> Iterator[Path]:
    """A file in ``folder`` with ``content``, on the disk; gone after the block unless it was renamed."""
    scratch = scratch_in(folder)
    try:
        with scratch.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield scratch
    finally:
        with suppress(OSError):
            scratch.unlink(missing_ok=True)
