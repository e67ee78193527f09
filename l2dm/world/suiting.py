"""Whether a lesson's settings suit the base and the world that it is for."""

from __future__ import annotations

from pathlib import Path

from ..backbone import Backbone
from ..backbone.sites import reads_features
from ..errors import SettingsError
from ..methods import METHODS
from ..settings import LearnSettings
from .again import settles


def check_lesson(s: LearnSettings, backbone: Backbone, world: Path, more: bool) -> None:
    """Raises SettingsError before anything is drawn when settings ``s`` need what is not there: an image
    encoder, a report card, or text that every layer reads alike. ``more``: the concept is known already.
    """
    memory = METHODS[s.method].memory not in ("nothing", "photos")
    if METHODS[s.method].directions and s.kept_share and not reads_features(backbone.denoiser):
        raise SettingsError(
            f"method {s.method!r} keeps directions of text features, which in {backbone.family.name} "
            "change from block to block; choose another method, such as l2dm"
        )
    if METHODS[s.method].memory == "photos" and (s.masks or s.buckets):
        raise SettingsError(
            f"method {s.method!r} learns earlier concepts from their photos too, as whole centre "
            "squares; leave masks and buckets out"
        )
    if s.keep_every and settles(s.method):
        raise SettingsError(
            f"keep_every = {s.keep_every}: method {s.method!r} settles a concept when its lesson ends, "
            "so that none of its steps could be picked; leave it out"
        )
    if s.vectors > 1 and not more and not backbone.reads_several:
        raise SettingsError(
            f"vectors = {s.vectors}: diffusers' pipeline of {backbone.family.name} reads one a token; "
            "leave it out"
        )
    if backbone.clip is None and (memory or s.keep_if_forgetting_below):
        what = f"method {s.method!r}" if memory else "keep_if_forgetting_below"
        raise SettingsError(
            f"{what} compares pictures by a CLIP model, and {world} has none; give it one: "
            f"l2dm relocate {world} --clip FOLDER_OR_HUB_ID"
            + ("; or choose another method, such as custom-diffusion" if memory else "")
        )
    if s.keep_if_forgetting_below and not (s.report_pictures and s.report_concepts):
        raise SettingsError(
            "keep_if_forgetting_below needs the report card: report_pictures and report_concepts above 0"
        )
