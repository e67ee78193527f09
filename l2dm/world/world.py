"""The world: opened, taught, drawn from; what is done to its files alone is in ``repository``."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import torch

from ..backbone import (
    DTYPES,
    MINI,
    NONE,
    OWN,
    Backbone,
    Source,
    default_clip,
    find_base,
    find_device,
    held_dtype,
)
from ..concept import Photos
from ..errors import SettingsError, WorldDamaged, WorldError, os_errors
from ..generation import Picture
from ..methods import METHODS
from ..processes import Processes
from ..settings import GenerateSettings, LearnSettings
from ..tuners import TUNERS, ReadAdapter
from .base import check_base, chosen_clip, clip_of, moved_base, recorded, source_of, with_clip
from .drawing import generate
from .examining import OnProgress
from .following import follow
from .founding import check_free, found
from .manifest import Manifest, Version, entry
from .names import SHARED, VECTORS
from .past import read_long_term
from .teaching import teach
from .travels import Travels
from .weights import adapters, read_weights


def settings_for(
    base: str | Source, kind: str, given: dict[str, Any] | None = None, place: str = "settings"
) -> Any:
    """Settings of ``kind`` ("learn" or "generate"): ours, then the base's own, then those it has for the method's tuner, then ``given``."""
    cls, own = {"learn": LearnSettings, "generate": GenerateSettings}[kind], Backbone.own_defaults(base)
    method = (given or {}).get("method") or own.get("learn", {}).get("method", LearnSettings.method)
    tuner = METHODS[method].tuner if method in METHODS else ""
    of_tuner = own.get("tuners", {}).get(tuner, {}) if kind == "learn" else {}
    return cls.of(own.get(kind, {}), of_tuner, given or {}, place=place)


class World(Travels):
    """A base model and the concepts it was taught, in a folder. Make one with ``create``, open one with ``open``.

    The folder holds tuned weights, token vectors, CLIP features and prompts of what was learnt, and pictures that
    the world drew itself; never a user's photo.
    """

    def __init__(self, path: Path, manifest: Manifest, source: Source | None = None):
        super().__init__(path, manifest)
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
        path = Path(path).expanduser()
        with os_errors(path):
            check_free(path)
            choose = default_clip if clip is None else (lambda source: recorded(clip))
            source = find_base(base, revision=revision, variant=variant, config=config, ready=choose)
        clip = choose(source)
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
        path = Path(path).expanduser()
        manifest = Manifest.read(path, whole)
        return cls(path, manifest, None if base is None else source_of(path, manifest, base))

    def at(self, version: int) -> World:
        """The world as it was at ``version``, 0 the fresh one, to draw from. Raises WorldError where it has none of that number."""
        if version and version not in self.manifest.versions:
            known = ", ".join(map(str, [0, *self.manifest.versions]))
            raise WorldError(f"{self.path}: no version {version}; it has {known}")
        return World(self.path, dataclasses.replace(self.manifest, head=version), self._source)

    @property
    def source(self) -> Source:
        """Where its base lies, on this machine: nothing is downloaded. Looked for once."""
        if self._source is None:
            self._source = source_of(self.path, self.manifest)
        return self._source

    def backbone(
        self, precision: str | None = None, device: str | None = None, offload: bool | None = None, tokens: Collection[str] = ()
    ) -> Backbone:  # fmt: skip
        """The base with this world's weights and tokens in place, as ``Backbone.load`` holds it; loaded when first needed so.

        None: as it is loaded by now, else as for "auto", which is float32 where the world changes the base's own weights. A concept's own weights are
        read when a prompt first names it, those of ``tokens`` now."""
        backbone = self._loaded_backbone(precision, device, offload)
        try:
            self.tuner.at_hand(tokens)
        except WorldDamaged:
            if not self._taken_back():
                raise
            return self.backbone(precision, device, offload, tokens)
        return backbone

    def _loaded_backbone(self, precision: str | None, device: str | None, offload: bool | None) -> Backbone:
        kind = TUNERS[self.manifest.tuner]
        if precision == "auto" and kind.changes_weights:
            precision = "float32"
        if (
            self._backbone is None
            or self._loaded not in (-1, self.version)
            or not self._held(precision, device, offload)
        ):
            check_base(self.path, self.manifest, self.source)
            clip = str(clip_of(self.path, self.manifest, self.source) or NONE)
            self._unload()
            loaded = "float32" if kind.changes_weights else precision or "auto"
            self._backbone = Backbone.load(self.source, device or "auto", clip, loaded, bool(offload))
        backbone = self._backbone
        if self._loaded == self.version:
            return backbone
        vectors, weights, later = self._read_present(kind.by_need)
        self.tuner = kind(backbone)
        backbone.add_tokens({token: vectors[token] for token in self.concepts})
        if self.version:
            self.tuner.load(weights, later)
        if precision and kind.changes_weights:
            backbone.hold_in(DTYPES[precision])
        self._loaded = self.version
        return backbone

    def _held(self, precision: str | None, device: str | None, offload: bool | None) -> bool:
        """Whether what is loaded is so."""
        now = self._backbone
        there = find_device(device) if device else now.device
        wanted = held_dtype(self.source, there, precision) if precision else now.dtype
        return (now.device, now.dtype) == (there, wanted) and offload in (None, now.offload)

    def _read_present(
        self, by_need: bool
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, ReadAdapter]]:
        """The present version's token vectors and weights, and what reads the concepts' own weights where these are read ``by_need``. Where another
        process took it away since it was opened, the world is opened again, at the version that it has now."""
        while self.version:
            try:
                files = self._files
                if by_need:
                    return files.tensors(VECTORS), files.tensors(SHARED), adapters(files, self.concepts)
                return files.tensors(VECTORS), read_weights(files), {}
            except WorldDamaged:
                if not self._taken_back():
                    raise
        return {}, {}, {}

    def _taken_back(self) -> bool:
        """Whether another process took the present version away since the world was opened: it is then opened again, at the version that it has now."""
        found = Manifest.read(self.path, whole=False)
        if gone := self.version not in found.versions:
            self.manifest = found
        return gone

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
        return generate(self, prompt, self._merge("generate", settings, changes), on_picture, show_attention)

    def _merge(self, kind: str, settings: Any, changes: dict[str, Any]) -> Any:
        return (
            self.settings(kind, changes)
            if settings is None
            else type(settings).of(settings.as_dict(), changes)
        )

    # ---------------------------------------------------------------- learning

    def learn(self, photos: Photos, *, token: str, noun: str, settings: LearnSettings | None = None, skip_bad: bool = False,
              discard: bool = False, on_progress: OnProgress = lambda progress: None, earlier: dict[str, Photos] | None = None,
              processes: Processes | None = None, **changes: Any) -> Version:  # fmt: skip
        """Learn one concept from a folder of photos, or a list of paths and of pictures open in Pillow, and commit it as a new version.

        Stopped by Ctrl-C it raises LearningStopped after a checkpoint; killed, it leaves the world as it was. Called
        again with the same photos and settings it goes on and ends with the very weights of an unbroken run;
        ``discard`` drops an unfinished learning of something else. ``earlier``: the photos of earlier concepts by token, for
        a method that learns from them; a world never keeps them. ``processes`` (``Processes.together()``) that all call this share the rows
        of each step; the main one alone writes. Raises ConceptError, SettingsError, WorldError.
        """
        processes = processes or Processes()
        if not processes.is_main:
            return follow(self, processes)
        with processes.leading():
            settings = self._merge("learn", settings, changes)
            return teach(
                self, photos, token, noun, settings, skip_bad, discard, on_progress, earlier or {}, processes
            )

    def begin_with(self, tuner: str) -> None:
        """Choose what a world tunes that has learnt nothing yet; the next version records it."""
        if tuner != self.manifest.tuner:
            self.manifest = dataclasses.replace(self.manifest, tuner=tuner)
            self._unload()

    def unload_unless(self, token: str) -> None:
        """Drop a backbone that holds something half-taught: unless ``token`` was committed it is loaded afresh when needed."""
        if token in self.concepts:
            self._loaded = self.version
        else:
            self._unload()

    def _unload(self) -> None:
        """Free the base's memory before another is loaded: hooks hold it in circles."""
        if self._backbone is not None:
            self._backbone, self._loaded = None, -1
            vars(self).pop("tuner", None)
            gc.collect()

    # ---------------------------------------------------------------- its base

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
        self._unload()
        self._source = None
        remembered = read_long_term(self._files).prompts if found else self.concepts
        return [token for token in self.concepts if token not in remembered]
