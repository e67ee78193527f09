"""A world over its base: where that lies, and it in memory with the world's own weights and tokens."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from ..backbone import DTYPES, NONE, OWN, Backbone, Source, find_device, held_dtype
from ..errors import SettingsError, WorldDamaged
from ..tuners import TUNERS, ReadAdapter, Tuner
from .base import check_base, chosen_clip, clip_of, moved_base, recorded, source_of, with_clip
from .manifest import Manifest, entry
from .memories import read_long_term
from .names import SHARED, VECTORS
from .repository import Repository
from .weights import adapters, read_weights


class Loaded(Repository):
    """A world's files, and the base that they belong to, loaded when it is first needed."""

    tuner: Tuner

    def __init__(self, path: Path, manifest: Manifest, source: Source | None = None):
        super().__init__(path, manifest)
        self._backbone: Backbone | None = None
        self._source = source
        self._loaded = -1

    @property
    def source(self) -> Source:
        """Where its base lies, on this machine: nothing is downloaded. Looked for once."""
        if self._source is None:
            self._source = source_of(self.path, self.manifest)
        return self._source

    def backbone(
        self,
        precision: str | None = None,
        device: str | None = None,
        offload: bool | None = None,
        tokens: Collection[str] = (),
    ) -> Backbone:
        """The base with this world's weights and tokens in place, as ``Backbone.load`` holds it; loaded when
        first needed so.

        None: as it is loaded by now, else as for "auto", which is float32 where the world changes the base's
        own weights. A concept's own weights are read when a prompt first names it, those of ``tokens`` now.
        """
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
        if self._loaded not in (-1, self.version) or not self._held(precision, device, offload):
            check_base(self.path, self.manifest, self.source)
            clip = str(clip_of(self.path, self.manifest, self.source) or NONE)
            self._unload()
            loaded = "float32" if kind.changes_weights else precision or "auto"
            self._backbone = Backbone.load(self.source, device or "auto", clip, loaded, bool(offload))
        backbone = self._backbone
        assert backbone is not None
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
        if (now := self._backbone) is None:
            return False
        there = find_device(device) if device else now.device
        wanted = held_dtype(self.source, there, precision) if precision else now.dtype
        return (now.device, now.dtype) == (there, wanted) and offload in (None, now.offload)

    def _read_present(
        self, by_need: bool
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], dict[str, ReadAdapter]]:
        """The present version's token vectors and weights, and what reads the concepts' own weights where
        these are read ``by_need``. Where another process took it away since it was opened, the world is
        opened again, at the version that it has now.
        """
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
        """Whether another process took the present version away since the world was opened: it is then opened
        again, at the version that it has now.
        """
        found = Manifest.read(self.path, verify=False)
        if gone := self.version not in found.versions:
            self.manifest = found
        return gone

    def begin_with(self, tuner: str) -> None:
        """Choose what a world tunes that has learnt nothing yet; the next version records it."""
        if tuner != self.manifest.tuner:
            self.manifest = dataclasses.replace(self.manifest, tuner=tuner)
            self._unload()

    def unload_unless(self, token: str, since: int = -1) -> None:
        """Drop a backbone that holds something half-taught: unless ``token`` was committed, after version
        ``since``, it is loaded afresh when needed."""
        if token in self.concepts and self.version != since:
            self._loaded = self.version
        else:
            self._unload()

    def _unload(self) -> None:
        """Free the base's memory before another is loaded: hooks hold it in circles."""
        if self._backbone is not None:
            self._backbone, self._loaded = None, -1
            vars(self).pop("tuner", None)
            gc.collect()

    def relocate(
        self,
        base: str | Path | None = None,
        clip: str | Path | None = None,
        revision: str = "",
        variant: str = "",
        config: str = "",
    ) -> list[str]:
        """Record where the base, or the CLIP model, lies now: a folder or a hub id, downloaded where it is
        not on this machine yet.

        ``base`` must be the very base that the world was made over, ``clip`` the very model that its concepts
        are remembered by; a world without remembered concepts takes any, and any world "none". Returns the
        tokens of concepts that were learnt without one: they will be remembered by what the world draws of
        them, as it never kept their photos. Raises WorldError, BaseModelError, SettingsError.
        """
        if base is clip is None and not (revision or variant or config):
            raise SettingsError(
                f"{self.path}: nothing to relocate; say where its base or its CLIP model lies"
            )
        manifest, changes = self.manifest, dict[str, Any]()
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
        with self._writing(verify=False):
            if clip is not None:
                changes |= with_clip(self.path, self.manifest, recorded(clip), found)
            self.record(
                entry("relocate", **{name: value for name, value in changes.items() if value}), **changes
            )
        self._unload()
        self._source = None
        remembered = read_long_term(self._files).prompts if found else self.concepts
        return [token for token in self.concepts if token not in remembered]
