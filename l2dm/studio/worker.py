"""The process that works through the jobs of one lane, one after another. It outlives the studio until its
queue is empty.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from .folder import StudioFolder
from .jobs import Queue

#: Seconds for which a loaded model waits for the next job while a studio is open.
PATIENCE = 600.0


def lane_lock(folder: StudioFolder, lane: str) -> FileLock:
    """Held by the worker of ``lane`` while it lives, and by an open studio ("studio")."""
    return FileLock(folder.root / f".{lane}.lock")


def is_held(lock: FileLock) -> bool:
    try:
        with lock.acquire(timeout=0):
            return False
    except Timeout:
        return True


def main(world: str, root: str, lane: str) -> None:
    """Work until the queue of ``lane`` is empty, and then as long as a studio may still want the model. Does
    nothing where another does.
    """
    folder = StudioFolder(Path(world), Path(root))
    try:
        with lane_lock(folder, lane).acquire(timeout=0):
            work_through(folder, lane)
    except Timeout:
        return


def work_through(folder: StudioFolder, lane: str, patience: float = PATIENCE) -> None:
    """Every job of ``lane``, oldest first; then wait up to ``patience`` seconds for more, if a studio is
    open.
    """
    queue, opened, last = Queue(folder), None, time.monotonic()
    while True:
        if found := queue.next(lane):
            from .work import Opened, run  # imports torch: not before there is something to do

            opened = opened or Opened(folder.world)
            if not run(found, folder, opened):
                return
            last = time.monotonic()
        elif lane == "learn" or time.monotonic() - last > patience:
            return  # a learning loads its own model
        elif not is_held(lane_lock(folder, "studio")):
            return
        else:
            time.sleep(0.1)


if __name__ == "__main__":
    main(*sys.argv[1:])
