"""Everything that a user can cause and that l2dm raises.

    L2DMError
    ├── BaseModelError      the base is missing, incomplete, or of a kind that is not supported
    ├── ConceptError        what is to be learnt
    │   ├── PhotoError      a photo or a folder of photos
    │   └── TokenError      a token or a class noun
    ├── ExchangeError       a file from another program, or for one
    ├── OutOfMemory         what was asked for does not fit the memory
    ├── NotFinite           what is drawn is not finite
    │   └── LearningDiverged  a loss, a gradient or a weight
    ├── NotKept             a concept was learnt and not kept: it cost the others too much
    ├── ProcessLost         a process that worked beside this one ended
    ├── PromptError         a prompt that cannot be drawn
    ├── SettingsError       a setting out of its range, an unknown name, a broken settings file
    └── WorldError          a world on disk
        ├── WorldDamaged    files that are missing or not what the manifest says
        └── WorldLocked     another process is writing to it

Each message names the place, what was found, and the way out. ``LearningStopped`` is not an error: it is how
a learning that was asked to stop tells that it can be taken up again.
"""

from __future__ import annotations

import errno
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO


class L2DMError(Exception):
    """Base of all errors that l2dm raises on purpose."""


class BaseModelError(L2DMError):
    """The base model cannot be used."""


class BaseMissing(BaseModelError):
    """A base or a CLIP model is not on this machine, or not where it was looked for."""


class ConceptWarning(UserWarning):
    """A concept can be learnt as described, but probably not well."""


class ConceptError(L2DMError):
    """The concept cannot be learnt as described."""


class PhotoError(ConceptError):
    """A photo, or the folder of photos, cannot be used."""


class TokenError(ConceptError):
    """A token or class noun is malformed or taken."""


class ExchangeError(L2DMError):
    """A file from another program cannot be taken in, or none can be made for one."""


class NotFinite(L2DMError):
    """What was computed left the finite numbers; nothing of it is kept."""


class LearningDiverged(NotFinite):
    """Learning left the finite numbers; nothing of it is kept."""


class OutOfMemory(L2DMError):
    """The work does not fit the memory; nothing was changed."""


class NotKept(L2DMError):
    """A concept was learnt and not kept, because an earlier one lost more than was allowed."""

    def __init__(self, token: str, loss: float, most: float):
        super().__init__(
            f"{token} was not kept: an earlier concept lost {loss:.1f} points of likeness, more than the "
            f"{most:g} "
            "allowed; the world is as it was (try --method l2dm, fewer steps, or a larger "
            "--keep-if-forgetting-below)"
        )
        self.token, self.loss, self.most = token, loss, most


class ProcessLost(L2DMError):
    """Another of several processes that learn together ended or cannot be reached."""


class PromptError(L2DMError):
    """The prompt cannot be drawn in this world."""


class PromptWarning(UserWarning):
    """A prompt is drawn, but probably not as it was meant; pictures' provenance says the same under
    ``notes``.
    """


class SettingsError(L2DMError):
    """A setting is unknown, of the wrong type, or out of range."""


class WorldError(L2DMError):
    """A world cannot be created, opened or changed."""


class WorldDamaged(WorldError):
    """A world's files are missing or differ from what its manifest records."""


class LongWorkWarning(UserWarning):
    """What was asked for takes far longer than usual; said before it begins."""


class RenamedWarning(FutureWarning):
    """A setting or a method was given by its earlier name, which is still read for one release."""


class WorldWarning(UserWarning):
    """Something in a world was damaged, and has been put aside and made anew."""


#: Warnings that interfaces show as a line of their own.
TOLD = (ConceptWarning, LongWorkWarning, RenamedWarning, WorldWarning)


class WorldLocked(WorldError):
    """Another process is writing to the world."""


class LearningStopped(Exception):
    """Learning was stopped on request; the same command takes it up where it was."""

    def __init__(self, step: int, steps: int):
        super().__init__(f"stopped at step {step} of {steps}; run the same command again to go on from there")
        self.step, self.steps = step, steps


def first_line(error: BaseException) -> str:
    """What another library's error says first, short enough to stand in one of ours."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


#: What the system's refusals mean here, and the way out.
_REFUSALS = {
    errno.ENOSPC: "the disk is full; make room and try again",
    errno.EDQUOT: "your disk quota is used up; make room and try again",
    errno.EACCES: "permission denied; change its permissions or choose another place",
    errno.EPERM: "permission denied; change its permissions or choose another place",
    errno.EROFS: "the file system is read-only; choose another place",
    errno.ENOENT: "not there, or removed meanwhile; look at the place and try again",
    errno.ENOTDIR: "a file stands where a folder should be; choose another place",
    errno.EISDIR: "a folder stands where a file should be; choose another place",
    errno.EEXIST: "already exists; choose another name",
    errno.ENAMETOOLONG: "the name is too long for this file system; choose a shorter one",
    errno.ELOOP: "its links lead in a circle; choose another place",
    errno.EMFILE: "too many files are open; close some programs and try again",
    errno.EIO: "the disk reports an error; check the disk, then try again",
}


def because(error: OSError) -> str:
    """Why the system refused, in one sentence with a way out."""
    return _REFUSALS.get(error.errno or 0) or error.strerror or first_line(error)


@contextmanager
def os_errors(place: str | Path, kind: type[L2DMError] = WorldError) -> Iterator[None]:
    """Turn the system's refusals inside the block (disk full, permission denied, name too long, ...) into a
    ``kind`` that names the file, or ``place`` where the system names none."""
    try:
        yield
    except OSError as error:
        raise kind(f"{error.filename or place}: {because(error)}") from error
    except (UnicodeEncodeError, UnicodeDecodeError):
        raise kind(f"{str(place)!r}: the name is not UTF-8; rename it") from None


#: Refusals that say something of the file itself; permissions, interruptions, too many open files may pass.
_OF_THE_FILE = {errno.EIO, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG}


@contextmanager
def reading(place: Path) -> Iterator[None]:
    """``os_errors`` of a world's file: WorldDamaged where the disk cannot give it, a WorldError alone where
    it may another time.
    """
    try:
        with os_errors(place):
            yield
    except WorldError as error:
        cause = error.__cause__
        if isinstance(cause, OSError) and cause.errno in _OF_THE_FILE:
            raise WorldDamaged(str(error)) from cause
        raise


@contextmanager
def out_of_memory(work: str, way_out: str) -> Iterator[None]:
    """Turn what Python and torch (GPU or CPU) raise where memory ends into one ``OutOfMemory`` line."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        said = str(error).lower()
        signs = ("out of memory", "not enough memory", "can't allocate memory")
        if not isinstance(error, MemoryError) and not any(sign in said for sign in signs):
            raise
        raise OutOfMemory(f"{work}: out of memory; {way_out}") from None


@contextmanager
def hearing(kinds: tuple[type[Warning], ...], tell: Callable[[str], None]) -> Iterator[None]:
    """Within the block warnings of ``kinds`` are told, all of them; others go where they went."""
    with warnings.catch_warnings():
        for kind in kinds:
            warnings.simplefilter("always", kind)
        others = warnings.showwarning

        def show(
            message: Warning | str,
            category: type[Warning],
            filename: str,
            lineno: int,
            file: TextIO | None = None,
            line: str | None = None,
        ) -> None:
            if issubclass(category, kinds):
                tell(str(message))
            else:
                others(message, category, filename, lineno, file, line)

        warnings.showwarning = show
        yield
