"""The world: opened, taught, drawn from; what is done to its files alone is in ``repository``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Unpack, overload

from ..backbone import MINI, Backbone, default_clip, find_base
from ..changes import GenerateChanges, LearnChanges
from ..concept import Photos
from ..errors import os_errors
from ..generation import Picture
from ..methods import METHODS
from ..processes import Processes
from ..settings import GenerateSettings, LearnSettings
from .base import chosen_clip, recorded, source_of
from .defaults import settings_for
from .drawing import generate
from .examining import OnProgress
from .following import follow
from .founding import check_free, found
from .manifest import Manifest, Version, entry
from .teaching import teach
from .travels import Travels

__all__ = ["World", "settings_for"]


class World(Travels):
    """A base model and the concepts it was taught, in a folder. Make one with ``create``, open one with
    ``open``.

    The folder holds tuned weights, token vectors, CLIP features and prompts of what was learnt, and pictures
    that the world drew itself; never a user's photo.
    """

    # ---------------------------------------------------------------- opening

    @classmethod
    def create(
        cls,
        path: str | Path,
        base: str | Path = MINI,
        clip: str | Path | None = None,
        revision: str = "",
        variant: str = "",
        config: str = "",
    ) -> World:
        """Make a fresh world over ``base``: the shipped one, a diffusers folder or ``.safetensors``
        checkpoint of a known family, or a hub id, of which ``revision`` and ``variant`` choose what is
        downloaded.

        ``clip``: the pair that pictures are remembered and compared by, a folder, a hub id, or "none"; by
        default the base's own, else its family's. ``config``: a diffusers folder or hub id for a checkpoint's
        configurations. Raises WorldError, BaseModelError.
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
    def open(cls, path: str | Path, verify: bool = True, base: str | Path | None = None) -> World:
        """Open a world. Raises WorldError when there is none, WorldDamaged when it is not whole
        (``verify=False``: don't look).

        ``base``: where its base lies, instead of the place that it has recorded; nothing is recorded
        (``relocate`` does that).
        """
        path = Path(path).expanduser()
        manifest = Manifest.read(path, verify)
        return cls(path, manifest, None if base is None else source_of(path, manifest, base))

    def at(self, version: int) -> World:
        """The world as it was at ``version``, 0 the fresh one, to draw from. Raises WorldError where it has
        none of that number.
        """
        here = self.manifest.known(self.path, version)
        return World(self.path, dataclasses.replace(self.manifest, head=here), self._source)

    # ---------------------------------------------------------------- drawing

    @overload
    def settings(
        self, kind: Literal["learn"], given: Mapping[str, object] | None = None, place: str = "settings"
    ) -> LearnSettings: ...
    @overload
    def settings(
        self, kind: Literal["generate"], given: Mapping[str, object] | None = None, place: str = "settings"
    ) -> GenerateSettings: ...
    @overload
    def settings(
        self, kind: str, given: Mapping[str, object] | None = None, place: str = "settings"
    ) -> LearnSettings | GenerateSettings: ...
    def settings(
        self, kind: str, given: Mapping[str, object] | None = None, place: str = "settings"
    ) -> LearnSettings | GenerateSettings:
        """As ``settings_for`` this world's base; a world goes on with the method that its last concept was
        learnt by.
        """
        learnt = [
            v.settings["method"] for v in self.manifest.versions.values() if v.settings
        ]  # a concept forgotten has none
        before: Mapping[str, object] = {"method": learnt[-1]} if kind == "learn" and learnt else {}
        return settings_for(self.source, kind, {**before, **(given or {})}, place)

    def generate(
        self,
        prompt: str,
        settings: GenerateSettings | None = None,
        on_picture: Callable[[int], None] = lambda done: None,
        show_attention: tuple[int, ...] = (),
        **changes: Unpack[GenerateChanges],
    ) -> list[Picture]:
        """Draw ``prompt``. ``changes`` override settings by name, e.g. ``n=8, seed=1``. ``show_attention``:
        steps, from 0, at which the pictures are to keep where each thing was looked for
        (``Picture.attention``).

        Raises PromptError for tokens that the world does not know and for prompts that the base cannot read
        whole; warns with PromptWarning of what is probably meant otherwise (``Picture.provenance["notes"]``
        says it too), and with LongWorkWarning before pictures many times as large as the base's own.
        """
        if settings is None:
            settings = self.settings("generate", changes)
        else:
            settings = GenerateSettings.of(settings.as_dict(), changes)
        return generate(self, prompt, settings, on_picture, show_attention)

    # ---------------------------------------------------------------- learning

    def learn(
        self,
        photos: Photos,
        *,
        token: str,
        noun: str = "",
        settings: LearnSettings | None = None,
        skip_bad: bool = False,
        discard: bool = False,
        on_progress: OnProgress = lambda progress: None,
        earlier: dict[str, Photos] | None = None,
        processes: Processes | None = None,
        more: bool = False,
        **changes: Unpack[LearnChanges],
    ) -> Version:
        """Learn one concept from a folder of photos, or a list of paths and of pictures open in Pillow, and
        commit it as a new version.

        Stopped by Ctrl-C it raises LearningStopped after a checkpoint; killed, it leaves the world as it was.
        Called again with the same photos and settings it goes on and ends with the very weights of an
        unbroken run; ``discard`` drops an unfinished learning of something else. ``earlier``: the photos of
        earlier concepts by token, for a method that learns from them; a world never keeps them. ``processes``
        (``Processes.together()``) that all call this share the rows of each step; the main one alone writes.
        ``more``: so many more steps for a concept that is learnt already, from photos given again; ``noun``
        may be left out. Raises ConceptError, SettingsError, WorldError.
        """
        processes = processes or Processes()
        if not processes.is_main:
            return follow(self, processes)
        with processes.leading():
            if settings is None:
                settings = self.settings("learn", changes)
            else:
                settings = LearnSettings.of(settings.as_dict(), changes)
            return teach(
                self,
                photos,
                token,
                noun,
                settings,
                skip_bad,
                discard,
                on_progress,
                earlier or {},
                processes,
                more,
            )
