"""Progress of long work: bars on a terminal; elsewhere (a log file, a CI run) a line now and then."""

from __future__ import annotations

import time
from typing import Any

from rich.console import Console
from rich.progress import Progress, ProgressColumn, TaskID

from .terminal import plain


class Steady(Progress):
    """rich's ``Progress``. Where there is no terminal it prints no bars, but a line at the end of a task and
    every ``every`` seconds.
    """

    def __init__(self, *columns: ProgressColumn, console: Console, every: float = 10.0):
        super().__init__(*columns, console=console, disable=not console.is_terminal)
        self._every, self._told = every, time.monotonic()

    def update(self, task_id: TaskID, **changes: Any) -> None:
        task, now = self._tasks[task_id], time.monotonic()
        ended = task.finished
        super().update(task_id, **changes)
        if self.disable and (task.finished > ended or now - self._told >= self._every):
            self._told = now
            line = f"{task.description} {task.completed:.0f}/{task.total:.0f} {task.fields.get('note', '')}"
            print(plain(line).rstrip(), file=self.console.file, flush=True)
