"""Ctrl-C while learning: the step under way is finished first."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def stop_signals(echo: float = 0.0) -> Iterator[threading.Event]:
    """Within the block a first Ctrl-C (or SIGTERM) only sets the event; a second Ctrl-C interrupts as usual.
    One within ``echo`` seconds is the first one again, passed on by whoever launched this process."""
    stop, first = threading.Event(), 0.0
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def handle(number: int, frame: Any) -> None:
        nonlocal first
        if not stop.is_set():
            first = time.monotonic()
            stop.set()
        elif time.monotonic() - first >= echo:
            raise KeyboardInterrupt

    old = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
