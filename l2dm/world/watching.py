"""What is kept of a lesson for those who watch it: a line for each step, sample pictures, and weights of some
steps to choose from.

While it runs, lines also stand in ``learning/log.jsonl``, to be followed; samples and weights each have a
folder there with a record of its own, made after a checkpoint of the same step. A version has all of it among
its files.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import WorldDamaged, WorldWarning
from ..generation import contact_sheet
from ..learner import Learning, Step
from ..settings import LearnSettings
from . import names, store
from .recorded import Recorded, write_recorded
from .tensors import write_tensors
from .tracking import Tracker

#: (prompt) -> its sample pictures, of the concept as it is now.
Sample = Callable[[str], list[Image.Image]]


class Watch:
    """Of one lesson of ``token``, whose checkpoints lie in ``folder``; ``identity`` says which. ``lines``:
    the log so far.
    """

    def __init__(
        self,
        folder: Path,
        identity: dict[str, Any],
        token: str,
        settings: LearnSettings,
        prompts: list[str],
        tracker: Tracker,
    ):
        self.folder, self.token, self.settings, self.prompts, self.tracker = (
            folder,
            token,
            settings,
            prompts,
            tracker,
        )
        facts = json.dumps([identity, prompts], sort_keys=True)
        self.mark = hashlib.sha256(facts.encode()).hexdigest()[:16]
        self.lines: list[str] = []

    @property
    def log(self) -> bytes:
        return "".join(self.lines).encode()

    def begin(self, log: bytes, learning: Learning, sample: Sample) -> None:
        """Go on after the lines of a checkpoint, and make what a kill kept from being made at its step."""
        self.lines = log.decode().splitlines(keepends=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / names.LOG).write_bytes(self.log)
        if learning.done:
            self.keep(learning, sample)

    def step(self, step: Step) -> None:
        self._tell(step=step.step, loss=step.loss, terms=step.terms)
        self.tracker.log({"loss": step.loss, **step.terms}, step.step)

    def is_due(self, step: int) -> bool:
        """Whether ``keep`` has anything to do after this step, which then needs a checkpoint."""
        s = self.settings
        return any(every and step % every == 0 for every in (s.sample_every, s.keep_every))

    def keep(self, learning: Learning, sample: Sample) -> None:
        """Draw samples, and keep weights, where it is time to."""
        s, at = self.settings, learning.done
        if s.sample_every and at % s.sample_every == 0:
            name = names.sample_file(at)
            if not (folder := self._folder("sample", at)).exists():
                pictures = [picture for prompt in self.prompts for picture in sample(prompt)]
                sheet = contact_sheet(pictures, columns=len(pictures) // len(self.prompts))
                write_recorded(folder, lambda place: sheet.save(place / name))
                self.tracker.picture(sheet, at)
            self._tell(step=at, sample=name, prompts=self.prompts)
        kept = self._folder("kept", at)
        if s.keep_every and at % s.keep_every == 0 and not kept.exists():
            held = {f"weight/{n}": p.detach().cpu() for n, p in learning.named.items()}
            write_recorded(kept, lambda place: write_tensors(place / names.step_file(at, self.token), held))

    def write(self, place: Path) -> dict[str, str]:
        """Into a version's folder that is being filled: the log, samples and weights, but for what is damaged
        by now, with a WorldWarning. Returns what is recorded of those that are linked."""
        linked: dict[str, str] = {}
        (place / names.LOG).write_bytes(self.log)
        for kind in ("sample", "kept"):
            for folder in sorted(self.folder.glob(f"{kind}-{self.mark}-*")):
                try:
                    files = Recorded.by_itself(
                        folder, f"it is put into {store.QUARANTINE}/, and the version has none"
                    )
                    files.check()
                except WorldDamaged as damage:
                    store.set_aside(self.folder.parent, folder)
                    warnings.warn(str(damage), WorldWarning, stacklevel=2)
                    continue
                for name in files.files:
                    store.link(folder / name, place / name)
                linked |= files.files
        return linked

    def close(self) -> None:
        """The lesson ends or is stopped: its lines stand in its version, or its checkpoint."""
        (self.folder / names.LOG).unlink(missing_ok=True)
        self.tracker.close()

    def _folder(self, kind: str, step: int) -> Path:
        return self.folder / f"{kind}-{self.mark}-{step:06d}"

    def _tell(self, **facts: Any) -> None:
        line = json.dumps(facts, ensure_ascii=False) + "\n"
        self.lines.append(line)
        with (self.folder / names.LOG).open("a", encoding="utf-8") as file:
            file.write(line)
