"""The world: opened, taught, drawn from, taken back."""

from __future__ import annotations

import dataclasses
import difflib
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from .. import __version__
from ..backbone import MINI, NONE, OWN, Backbone, Source, default_clip, find_base
from ..concept import Concept
from ..errors import (
    LongWorkWarning,
    PromptError,
    PromptWarning,
    SettingsError,
    TokenError,
    WorldDamaged,
    WorldError,
    os_errors,
    out_of_memory,
)
from ..generation import (
    AttentionRecorder,
    Picture,
    bare_names,
    check_length,
    draw,
    long_work,
    mentions,
    personal_tokens,
    provenance,
    resolve_composition,
    without_escapes,
)
from ..methods import METHODS
from ..settings import GenerateSettings, LearnSettings
from ..threads import Threads
from ..tuners import TUNERS
from . import store
from .base import check_base, chosen_clip, clip_of, moved_base, recorded, source_of, with_clip
from .founding import check_free, found
from .leftovers import clear
from .lesson import Lesson, OnProgress
from .lock import locked
from .manifest import Manifest, Version, entry, folder_of, now
from .past import copy_without, read_long_term
from .purging import Purge, finish, plan, purge
from .recorded import Recorded, digests
from .repair import Findings, examine, repair
from .upgrade import upgrade
from .weights import read_weights


def settings_for(
    base: str | Source, kind: str, given: dict[str, Any] | None = None, place: str = "settings"
) -> Any:
    """Settings of ``kind`` ("learn" or "generate"): ours, then the base's own, then those it has for the method's tuner, then ``given``."""
    cls, own = {"learn": LearnSettings, "generate": GenerateSettings}[kind], Backbone.own_defaults(base)
    method = (given or {}).get("method") or own.get("learn", {}).get("method", LearnSettings.method)
    tuner = METHODS[method].tuner if method in METHODS else ""
    of_tuner = own.get("tuners", {}).get(tuner, {}) if kind == "learn" else {}
    return cls.of(own.get(kind, {}), of_tuner, given or {}, place=place)


class World:
    """A base model and the concepts it was taught, in a folder. Make one with ``create``, open one with ``open``.

    The folder holds tuned weights, token vectors, CLIP features and prompts of what was learnt, and pictures that
    the world drew itself; never a user's photo.
    """

    def __init__(self, path: Path, manifest: Manifest, source: Source | None = None):
        self.path, self.manifest = path, manifest
        self._backbone: Backbone | None = None
        self._source = source
        self._loaded = -1

    # ---------------------------------------------------------------- opening

    @classmethod
    def create(
        cls, path: str | Path, base: str | Path = MINI, clip: str | Path | None = None, revision: str = "", variant: str = "", config: str = "",
    ) -> World:  # fmt: skip
        """Make a fresh world over ``base``: the shipped one, a diffusers folder or ``.safetensors`` checkpoint of a known family,
        or a hub id, of which ``revision`` and ``variant`` choose what is downloaded.

        ``clip``: the pair that pictures are remembered and compared by, a folder, a hub id, or "none"; by default the base's own, else its
        family's. ``config``: a diffusers folder or hub id for a checkpoint's configurations. Raises WorldError, BaseModelError.
        """
        path = Path(path)
        with os_errors(path):
            check_free(path)
            source = find_base(base, revision=revision, variant=variant, config=config)
        clip = default_clip(source) if clip is None else recorded(clip)
        known = chosen_clip(source, clip)
        name, backbone = recorded(base), Backbone.load(source, clip=clip)
        manifest = Manifest(
            base=name,
            fingerprint=backbone.fingerprint,
            tuner=METHODS[LearnSettings.method].tuner,
            journal=[entry("init", base=name, clip=clip)],
            clip=clip,
            revision=source.revision,
            variant=source.variant,
            config=recorded(source.config) if source.config else "",
            clip_fingerprint=known,
        )
        with os_errors(path):
            found(path, manifest)
        world = cls(path, manifest, source)
        world._backbone = backbone
        return world

    @classmethod
    def open(cls, path: str | Path, whole: bool = True, base: str | Path | None = None) -> World:
        """Open a world. Raises WorldError when there is none, WorldDamaged when it is not whole (``whole=False``: don't look).

        ``base``: where its base lies, instead of the place that it has recorded; nothing is recorded (``relocate`` does that)."""
        path = Path(path)
        manifest = Manifest.read(path, whole)
        return cls(path, manifest, None if base is None else source_of(path, manifest, base))

    @property
    def concepts(self) -> dict[str, str]:
        """Token -> class noun, in the order of learning."""
        return self.manifest.concepts

    @property
    def version(self) -> int:
        """Number of the present version; 0 when nothing is learnt."""
        return self.manifest.head

    @property
    def _files(self) -> Recorded:
        return self.manifest.recorded(self.path, self.version)

    @property
    def source(self) -> Source:
        """Where its base lies, on this machine: nothing is downloaded. Looked for once."""
        if self._source is None:
            self._source = source_of(self.path, self.manifest)
        return self._source

    def backbone(self) -> Backbone:
        """The base with this world's weights and tokens in place. Loaded on first use."""
        if self._backbone is None or self._loaded not in (-1, self.version):
            check_base(self.path, self.manifest, self.source)
            clip = clip_of(self.path, self.manifest, self.source)
            self._backbone = Backbone.load(self.source, clip=str(clip or NONE))
            self._loaded = -1
        backbone = self._backbone
        if self._loaded == self.version:
            return backbone
        vectors, weights = self._read_present()
        self.tuner = TUNERS[self.manifest.tuner](backbone)
        for token in self.concepts:
            backbone.add_token(token, vectors[token])
        if self.version:
            self.tuner.load(weights)
        self._loaded = self.version
        return backbone

    def _read_present(self) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """The present version's token vectors and weights. Where another process took it away since it was opened, the world
        is opened again, at the version that it has now."""
        while self.version:
            try:
                return self._files.tensors("tokens.safetensors"), read_weights(self._files)
            except WorldDamaged:
                found = Manifest.read(self.path, whole=False)
                if self.version in found.versions:
                    raise
                self.manifest = found
        return {}, {}

    # ---------------------------------------------------------------- drawing

    def settings(self, kind: str, given: dict[str, Any] | None = None, place: str = "settings") -> Any:
        """As ``settings_for`` this world's base; a world goes on with the method that its last concept was learnt by."""
        learnt = [
            v.settings["method"] for v in self.manifest.versions.values() if v.settings
        ]  # a concept forgotten has none
        before = {"method": learnt[-1]} if kind == "learn" and learnt else {}
        return settings_for(self.source, kind, before | (given or {}), place)

    def generate(self, prompt: str, settings: GenerateSettings | None = None, on_picture: Callable[[int], None] = lambda done: None,
                 show_attention: tuple[int, ...] = (), **changes: Any) -> list[Picture]:  # fmt: skip
        """Draw ``prompt``. ``changes`` override settings by name, e.g. ``n=8, seed=1``. ``show_attention``: steps, from 0, at which
        the pictures are to keep where each thing was looked for (``Picture.attention``).

        Raises PromptError for tokens that the world does not know and for prompts that the base cannot read whole; warns with
        PromptWarning of what is probably meant otherwise (``Picture.provenance["notes"]`` says it too), and with LongWorkWarning
        before pictures many times as large as the base's own.
        """
        settings = self._merge("generate", settings, changes)
        for text in (prompt, settings.negative_prompt):
            personal_tokens(text, self.concepts)
        asked, prompt = prompt, without_escapes(prompt)
        settings = dataclasses.replace(settings, negative_prompt=without_escapes(settings.negative_prompt))
        backbone = self.backbone()
        for text in (prompt, settings.negative_prompt):
            personal_tokens(
                text, self.concepts
            )  # once more: another process may have taken one back meanwhile
            check_length(text, backbone)
        named, recorder = [], None
        if settings.guidance != "none" or settings.subjects or show_attention:
            plain = tuple(backbone.defaults.get("nouns", ()))
            subjects = tuple(noun.strip() for noun in settings.subjects.split(",") if noun.strip())
            named = mentions(prompt, self.concepts, backbone, plain, subjects)
        if show_attention:
            if not named:
                raise PromptError(
                    f"prompt {asked!r}: nothing to show the attention of; name a concept of this world, such as <rex> dog"
                )
            if beyond := [step for step in show_attention if not 0 <= step < settings.steps]:
                raise SettingsError(
                    f"attention at step {beyond[0]}: expected a step between 0 and {settings.steps - 1}"
                )
            recorder = AttentionRecorder(show_attention)
        composition = resolve_composition(settings.guidance, named)
        notes = bare_names(prompt, self.concepts)
        if composition.name == "none" != settings.guidance != self.settings("generate").guidance:
            notes.append(f"composition: {composition}")
        for note in notes:
            warnings.warn(note, PromptWarning, stacklevel=2)
        if line := long_work(backbone, settings):
            warnings.warn(line, LongWorkWarning, stacklevel=2)
        threads = Threads(settings.threads)
        work, way_out = (
            f"{self.path}: drawing with batch = {settings.batch}",
            "choose a smaller batch, height or width",
        )
        with threads.during(), out_of_memory(work, way_out):
            images = draw(backbone, prompt, settings, on_picture, named, recorder)
        common = {
            "prompt": asked, "negative_prompt": settings.negative_prompt, "steps": str(settings.steps), "sampler": settings.sampler,
            "threads": str(threads.count),
            "guidance_scale": str(settings.guidance_scale), **provenance(backbone, prompt, named, composition, settings),
            "notes": "; ".join(notes), "world_version": str(self.version), "base": self.manifest.base.rsplit("/", 1)[-1],
            "base_fingerprint": self.manifest.fingerprint, "software": f"l2dm {__version__}",
        }  # fmt: skip
        seen = recorder.pictures if recorder else [()] * len(images)
        return [
            Picture(image, asked, settings.seed + i, {**common, "seed": str(settings.seed + i)}, seen[i])
            for i, image in enumerate(images)
        ]

    def _merge(self, kind: str, settings: Any, changes: dict[str, Any]) -> Any:
        return (
            self.settings(kind, changes)
            if settings is None
            else type(settings).of(settings.as_dict(), changes)
        )

    # ---------------------------------------------------------------- learning

    def learn(self, photos: str | Path, *, token: str, noun: str, settings: LearnSettings | None = None, skip_bad: bool = False,
              discard: bool = False, on_progress: OnProgress = lambda progress: None, earlier: dict[str, Path] | None = None,
              **changes: Any) -> Version:  # fmt: skip
        """Learn one concept from a folder of photos and commit it as a new version.

        Stopped by Ctrl-C it raises LearningStopped after a checkpoint; killed, it leaves the world as it was. Called
        again with the same photos and settings it goes on and ends with the very weights of an unbroken run;
        ``discard`` drops an unfinished learning of something else. ``earlier``: the photos of earlier concepts by token, for
        a method that learns from them; a world never keeps them. Raises ConceptError, SettingsError, WorldError.
        """
        settings = self._merge("learn", settings, changes)
        concept = Concept.read(photos, token, noun, skip_bad, self.concepts)
        with self._writing():
            self._tune(settings.method)
            if token in self.concepts:
                raise TokenError(
                    f"token {token!r}: {self.path} has learnt it already, as a {self.concepts[token]}; choose another token"
                )
            if METHODS[settings.method].apart and self.concepts:
                raise SettingsError(
                    f"method {settings.method!r} gives every concept a world of its own; {self.path} holds one already"
                )
            if unknown := set(earlier or {}) - set(self.concepts):
                raise TokenError(
                    f"earlier={sorted(unknown)}: {self.path} has learnt {', '.join(self.concepts) or 'nothing yet'}"
                )
            others = {
                other: Concept.read(folder, other, self.concepts[other], skip_bad, self.concepts)
                for other, folder in (earlier or {}).items()
            }
            work = f"{self.path}: learning {token} with batch = {settings.batch}, mixes = {settings.mixes}, precision = {settings.precision}"
            way_out = "the world is as it was (choose a smaller batch or fewer mixes, or precision = bfloat16 where it is not yet)"
            with out_of_memory(work, way_out):
                return Lesson(self, concept, settings, on_progress, others).run(discard)

    def _tune(self, method: str) -> None:
        """The first concept decides what a world tunes; a ``method`` that tunes something else is refused from then on."""
        tuner = METHODS[method].tuner
        if tuner == self.manifest.tuner:
            return
        if self.manifest.versions:
            same = [name for name, row in METHODS.items() if row.tuner == self.manifest.tuner]
            raise SettingsError(
                f"method {method!r} tunes {tuner}, but {self.path} has learnt by {self.manifest.tuner}; "
                f"choose one that tunes it too ({', '.join(same)}), or make another world"
            )
        self.manifest = dataclasses.replace(self.manifest, tuner=tuner)
        self._backbone, self._loaded = None, -1

    def unload_unless(self, token: str) -> None:
        """Drop a backbone that holds something half-taught: unless ``token`` was committed it is loaded afresh when needed."""
        if token in self.concepts:
            self._loaded = self.version
        else:
            self._backbone, self._loaded = None, -1

    # ---------------------------------------------------------------- history

    def history(self) -> list[dict[str, Any]]:
        """Everything that happened to the world, oldest first."""
        return [dict(entry) for entry in self.manifest.journal]

    def undo(self) -> Version:
        """Take the last change back, a learnt or a forgotten concept; returns the version that was dropped."""
        with self._writing(whole=False):
            dropped = self.manifest.present
            if dropped is None:
                raise WorldError(f"{self.path}: nothing to undo; nothing is learnt")
            self.manifest.recorded(self.path, dropped.parent).check()
            versions = {n: v for n, v in self.manifest.versions.items() if n != dropped.version}
            self.record(
                entry("undo", version=dropped.version, token=dropped.token),
                head=dropped.parent,
                versions=versions,
            )
            store.remove_folder(folder_of(self.path, dropped.version))
        return dropped

    def relocate(
        self, base: str | Path | None = None, clip: str | Path | None = None, revision: str = "", variant: str = "", config: str = "",
    ) -> list[str]:  # fmt: skip
        """Record where the base, or the CLIP model, lies now: a folder or a hub id, downloaded where it is not on this machine yet.

        ``base`` must be the very base that the world was made over, ``clip`` the very model that its concepts are remembered by; a
        world without remembered concepts takes any, and any world "none". Returns the tokens of concepts that were learnt without one: they
        will be remembered by what the world draws of them, as it never kept their photos. Raises WorldError, BaseModelError, SettingsError.
        """
        if base is clip is None and not (revision or variant or config):
            raise SettingsError(
                f"{self.path}: nothing to relocate; say where its base or its CLIP model lies"
            )
        manifest, changes = self.manifest, {}
        if base is None and not (revision or variant or config):
            source = source_of(self.path, manifest)
        else:
            source = moved_base(self.path, manifest, base, revision, variant, config)
            changes = {
                "base": source.name,
                "revision": source.revision,
                "variant": source.variant,
                "config": source.config,
            }
        if clip is None and manifest.clip == OWN:
            clip_of(self.path, manifest, source)
        found = "" if clip is None else chosen_clip(source, recorded(clip))
        with self._writing(whole=False):
            if clip is not None:
                changes |= with_clip(self.path, self.manifest, recorded(clip), found)
            self.record(
                entry("relocate", **{name: value for name, value in changes.items() if value}), **changes
            )
        self._backbone, self._loaded, self._source = None, -1, None
        remembered = read_long_term(self._files).prompts if found else self.concepts
        return [token for token in self.concepts if token not in remembered]

    def verify(self, deep: bool = False) -> Findings:
        """What is broken, and what of it can be saved; see ``examine``. Nothing is changed."""
        return examine(self.path, deep)

    def repair(self) -> Findings:
        """Go to the newest whole version; what is broken is moved into ``quarantine/``, never removed. Returns what was found."""
        found = repair(self.path)
        self.manifest = Manifest.read(self.path, whole=False)
        self._backbone, self._loaded = None, -1
        return found

    def forget(self, token: str) -> Version:
        """Remove a learnt concept on purpose: its token, vector, features, prompts and memory go, as a new version, and what the
        world's tuner holds for it alone.

        What learning it did to shared weights stays; ``undo`` takes the last concept back whole.
        """
        with self._writing():
            if token not in self.concepts:
                near = difflib.get_close_matches(token, self.concepts, 1)
                raise TokenError(
                    f"token {token!r}: {self.path} has not learnt it; "
                    + (f"did you mean {near[0]}?" if near else "see l2dm show")
                )
            head, number, present = self._files, self.manifest.counter + 1, self.manifest.present
            folder = folder_of(self.path, number)
            noun = self.concepts[token]
            store.write_folder(folder, lambda place: copy_without(head, place, token, noun))
            left = {t: noun for t, noun in self.concepts.items() if t != token}
            version = dataclasses.replace(
                present, version=number, parent=self.version, created=now(), token=token, noun=noun, photos=0, seconds=0.0,
                settings={}, threads=[], adopted=0, concepts=left, files=digests(folder),
                scores={t: s for t, s in present.scores.items() if t != token}, drawn=[t for t in present.drawn if t != token],
            )  # fmt: skip
            line = entry("forget", version=number, token=token)
            self.record(
                line, head=number, counter=number, versions={**self.manifest.versions, number: version}
            )
            self._backbone, self._loaded = None, -1
        return version

    def purge(self, token: str, dry: bool = False) -> Purge:
        """Rewrite the history as if the concept had never been learnt: no version, memory, picture or checkpoint holds anything of it, for
        good. ``dry``: only say what that would do.

        Raises TokenError where there is nothing of it, WorldError where weights that concepts share hold it."""
        if dry:
            return plan(self.path, self.manifest, token)
        with self._writing():
            done = purge(self, token)
            self._backbone, self._loaded = None, -1
        return done

    def record(self, line: dict[str, Any], **changes: Any) -> None:
        """Write the manifest with ``changes`` and one more line in its journal; the world's lock is held."""
        manifest = dataclasses.replace(self.manifest, journal=[*self.manifest.journal, line], **changes)
        manifest.write(self.path)
        self.manifest = manifest

    @contextmanager
    def _writing(self, whole: bool = True) -> Iterator[None]:
        """Hold the world's lock, with the manifest as it is on disk now and no half-done work in the folder."""
        with os_errors(self.path), locked(self.path):
            store.check_writable(self.path)
            self.manifest = Manifest.read(self.path, whole)
            clear(self.path, self.manifest)
            self.manifest = upgrade(self.path, self.manifest)
            self.manifest.renew_copy(self.path)
            self.manifest = finish(self.path, self.manifest)
            yield
