"""The world: opened, taught, drawn from, taken back."""

from __future__ import annotations

import dataclasses
import datetime
import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from PIL import Image

from .. import __version__
from ..backbone import MINI, Backbone
from ..concept import Concept
from ..errors import LearningStopped, SettingsError, TokenError, WorldError, WorldLocked
from ..generation import Picture, check_length, contact_sheet, draw, personal_tokens
from ..learner import Learning, Step, stop_signals
from ..memory import ShortTerm
from ..methods import METHODS
from ..settings import GenerateSettings, LearnSettings
from ..tuners import TUNERS
from . import store
from .draft import Draft
from .manifest import NAME, Manifest, Version, folder_of
from .past import gather, remembered, write_long_term, write_short_term
from .tensors import read_tensors, write_tensors


@dataclass(frozen=True)
class Progress:
    """What ``learn`` is doing: ``stage`` is "prior", "memory", "learn" or "previews"; ``step`` holds details while it learns."""

    stage: str
    done: int
    total: int
    step: Step | None = None


OnProgress = Callable[[Progress], None]


class World:
    """A base model and the concepts it was taught, in a folder. Make one with ``create``, open one with ``open``.

    The folder holds tuned weights, token vectors, CLIP features and prompts of what was learnt, and pictures that
    the world drew itself; never a user's photo.
    """

    def __init__(self, path: Path, manifest: Manifest):
        self.path, self.manifest = path, manifest
        self._backbone: Backbone | None = None
        self._loaded = -1

    # ---------------------------------------------------------------- opening

    @classmethod
    def create(cls, path: str | Path, base: str | Path = MINI, tuner: str = "key_value") -> World:
        """Make a fresh world over ``base``: the shipped one, a Stable Diffusion 1.x/2.x diffusers folder, or a hub id.

        ``tuner`` says what learning will tune: a name from ``l2dm.tuners.TUNERS``.
        """
        if tuner not in TUNERS:
            raise SettingsError(f"tuner {tuner!r}: expected one of {', '.join(TUNERS)}")
        path = Path(path)
        if path.exists() and (not path.is_dir() or any(path.iterdir())):
            raise WorldError(f"{path}: already exists" + ("; choose another path" if not (path / NAME).exists() else " and holds a world"))
        name = str(base) if str(base) == MINI or not Path(base).exists() else str(Path(base).resolve())
        backbone = Backbone.load(base)
        manifest = Manifest(base=name, fingerprint=backbone.fingerprint, tuner=tuner, journal=[_entry("init", base=name)])
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                path.rmdir()
            store.write_folder(path, manifest.write)
        except OSError as error:
            raise WorldError(f"{path}: cannot be made ({error.strerror})") from None
        world = cls(path, manifest)
        world._backbone = backbone
        return world

    @classmethod
    def open(cls, path: str | Path, whole: bool = True) -> World:
        """Open a world. Raises WorldError when there is none, WorldDamaged when it is not whole (``whole=False``: don't look)."""
        path = Path(path)
        return cls(path, Manifest.read(path, whole))

    @property
    def concepts(self) -> dict[str, str]:
        """Token -> class noun, in the order of learning."""
        return self.manifest.concepts

    @property
    def version(self) -> int:
        """Number of the present version; 0 when nothing is learnt."""
        return self.manifest.head

    @property
    def _head(self) -> Path | None:
        return folder_of(self.path, self.version) if self.version else None

    def backbone(self) -> Backbone:
        """The base with this world's weights and tokens in place. Loaded on first use."""
        if self._backbone is None or self._loaded not in (-1, self.version):
            self._backbone = Backbone.load(self.manifest.base)
            self._loaded = -1
        backbone = self._backbone
        if self._loaded == self.version:
            return backbone
        if backbone.fingerprint != self.manifest.fingerprint:
            raise WorldError(
                f"{self.path}: it was made over another base than the one now at {self.manifest.base} "
                f"(expected {self.manifest.fingerprint}, found {backbone.fingerprint})"
            )
        self.tuner = TUNERS[self.manifest.tuner](backbone)
        if folder := self._head:
            self.tuner.load(read_tensors(folder / "weights.safetensors"))
            vectors = read_tensors(folder / "tokens.safetensors")
            for token in self.concepts:
                backbone.add_token(token, vectors[token])
        self._loaded = self.version
        return backbone

    # ---------------------------------------------------------------- drawing

    def settings(self, kind: str, given: dict[str, Any] | None = None, place: str = "settings") -> Any:
        """Settings of ``kind`` ("learn" or "generate"): ours, then the base's own, then ``given``."""
        own = json.loads(path.read_text()) if (path := Backbone.locate(self.manifest.base) / "l2dm.json").exists() else {}
        cls = {"learn": LearnSettings, "generate": GenerateSettings}[kind]
        return cls.of(own.get(kind, {}), given or {}, place=place)

    def generate(self, prompt: str, settings: GenerateSettings | None = None, on_picture: Callable[[int], None] = lambda done: None,
                 **changes: Any) -> list[Picture]:  # fmt: skip
        """Draw ``prompt``. ``changes`` override settings by name, e.g. ``n=8, seed=1``.

        Raises PromptError for tokens that the world does not know and for prompts that the base cannot read whole.
        """
        settings = self._merge("generate", settings, changes)
        texts = (prompt, settings.negative_prompt)
        for text in texts:
            personal_tokens(text, list(self.concepts))
        backbone = self.backbone()
        for text in texts:
            check_length(text, backbone)
        images = draw(backbone, prompt, settings, on_picture)
        common = {
            "prompt": prompt, "negative_prompt": settings.negative_prompt, "steps": str(settings.steps),
            "guidance_scale": str(settings.guidance_scale), "world_version": str(self.version), "base": self.manifest.base.rsplit("/", 1)[-1],
            "base_fingerprint": self.manifest.fingerprint, "software": f"l2dm {__version__}",
        }  # fmt: skip
        return [Picture(image, prompt, settings.seed + i, {**common, "seed": str(settings.seed + i)}) for i, image in enumerate(images)]

    def _merge(self, kind: str, settings: Any, changes: dict[str, Any]) -> Any:
        return self.settings(kind, changes) if settings is None else type(settings).of(settings.as_dict(), changes)

    # ---------------------------------------------------------------- learning

    def learn(self, photos: str | Path, *, token: str, noun: str, settings: LearnSettings | None = None, skip_bad: bool = False,
              discard: bool = False, on_progress: OnProgress = lambda progress: None, **changes: Any) -> Version:  # fmt: skip
        """Learn one concept from a folder of photos and commit it as a new version.

        Stopped by Ctrl-C it raises LearningStopped after a checkpoint; killed, it leaves the world as it was. Called
        again with the same photos and settings it goes on and ends with the very weights of an unbroken run;
        ``discard`` drops an unfinished learning of something else. Raises ConceptError, SettingsError, WorldError.
        """
        settings = self._merge("learn", settings, changes)
        if (tuner := METHODS[settings.method].tuner) != self.manifest.tuner:
            raise SettingsError(
                f"method {settings.method!r} tunes {tuner}, but {self.path} was made for {self.manifest.tuner}; make a world with --tuner {tuner}"
            )
        concept = Concept.read(photos, token, noun, skip_bad)
        with self._writing():
            if token in self.concepts:
                raise TokenError(f"token {token!r}: {self.path} has learnt it already, as a {self.concepts[token]}; choose another token")
            draft = Draft(self.path / "learning", {"concept": concept.digest, "settings": settings.as_dict(), "parent": self.version})
            draft.check(discard)
            began = time.monotonic()
            backbone = self.backbone()
            past, short = gather(
                self.path, self._head, self.concepts, concept, backbone, self.tuner, settings, self.settings("generate").guidance_scale,
                lambda stage, done, total: on_progress(Progress(stage, done, total)),
            )  # fmt: skip
            try:
                vector = backbone.add_token(token, backbone.word_vector(concept.noun))
                learning = Learning(backbone, self.tuner, vector, concept, past, settings)
                before = draft.resume(learning)
                with stop_signals() as stop:
                    for step in learning.run():
                        on_progress(Progress("learn", step.step, step.steps, step))
                        last = step.step == step.steps
                        if stop.is_set() or last or step.step % settings.checkpoint_every == 0:
                            draft.save(learning, before + time.monotonic() - began)
                        if stop.is_set() and not last:
                            raise LearningStopped(step.step, step.steps)
                version = self._commit(concept, settings, short, before + time.monotonic() - began, on_progress)
            finally:
                if self._loaded != self.version or token not in self.concepts:
                    self._backbone, self._loaded = None, -1  # half-taught: load it afresh when it is needed
            draft.remove()
        return version

    def _commit(self, concept: Concept, settings: LearnSettings, short: ShortTerm, seconds: float, on_progress: OnProgress) -> Version:
        """Write the new version's folder, then the manifest that names it: the second rename is the commit."""
        backbone, number = self._backbone, self.manifest.counter + 1
        vectors = dict(zip([*self.concepts, concept.token], backbone.tokens.vectors, strict=True))
        long = remembered(self._head, concept, backbone)
        previews = self._previews(concept, settings, on_progress)

        def fill(folder: Path) -> None:
            write_tensors(folder / "weights.safetensors", self.tuner.state() or {"none": torch.zeros(1)})
            write_tensors(folder / "tokens.safetensors", vectors)
            write_long_term(folder, long)
            write_short_term(folder, short)
            for i, image in enumerate(previews):
                image.save(folder / f"preview-{i}.png")
            if previews:
                contact_sheet(previews).save(folder / "previews.png")

        folder = folder_of(self.path, number)
        folder.parent.mkdir(exist_ok=True)
        store.write_folder(folder, fill)
        version = Version(
            version=number, parent=self.version, created=_now(), token=concept.token, noun=concept.noun, photos=len(concept.photos),
            seconds=round(seconds, 2), settings=settings.as_dict(), concepts={**self.concepts, concept.token: concept.noun},
            files={p.name: store.digest(p) for p in sorted(folder.iterdir())},
        )  # fmt: skip
        entry = _entry("learn", version=number, token=concept.token, noun=concept.noun)
        self._record(head=number, counter=number, versions={**self.manifest.versions, number: version}, entry=entry)
        self._loaded = number
        return version

    def _previews(self, concept: Concept, settings: LearnSettings, on_progress: OnProgress) -> list[Image.Image]:
        if not settings.previews:
            return []
        wanted = dataclasses.replace(self.settings("generate"), n=settings.previews, seed=settings.seed)
        on_progress(Progress("previews", 0, settings.previews))
        return draw(self._backbone, f"a photo of {concept.name}", wanted,
                    lambda done: on_progress(Progress("previews", done, settings.previews)))  # fmt: skip

    # ---------------------------------------------------------------- history

    def history(self) -> list[dict[str, Any]]:
        """Everything that happened to the world, oldest first."""
        return [dict(entry) for entry in self.manifest.journal]

    def undo(self) -> Version:
        """Take the last learnt concept back; returns the version that was dropped."""
        with self._writing(whole=False):
            dropped = self.manifest.present
            if dropped is None:
                raise WorldError(f"{self.path}: nothing to undo; nothing is learnt")
            versions = {n: v for n, v in self.manifest.versions.items() if n != dropped.version}
            self._record(head=dropped.parent, versions=versions, entry=_entry("undo", version=dropped.version, token=dropped.token))
            shutil.rmtree(folder_of(self.path, dropped.version), ignore_errors=True)
        return dropped

    def _record(self, entry: dict[str, Any], **changes: Any) -> None:
        manifest = dataclasses.replace(self.manifest, journal=[*self.manifest.journal, entry], **changes)
        manifest.write(self.path)
        self.manifest = manifest

    @contextmanager
    def _writing(self, whole: bool = True) -> Iterator[None]:
        """Hold the world's lock, with the manifest as it is on disk now and no half-done work in the folder."""
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise WorldLocked(f"{self.path}: another process is writing to this world; wait until it is done") from None
        except OSError as error:
            raise WorldError(f"{self.path}: cannot be written to ({error.strerror})") from None
        try:
            self.manifest = Manifest.read(self.path, whole)
            store.sweep(self.path)
            for folder in (self.path / "versions").glob("*"):
                if folder.name.isdigit() and int(folder.name) not in self.manifest.versions:
                    shutil.rmtree(folder)
            yield
        finally:
            lock.release()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def _entry(action: str, **facts: Any) -> dict[str, Any]:
    return {"at": _now(), "action": action, **facts}
