"""What a world remembers of concepts that it learnt before it had a CLIP model.

It never kept their photos, so what is left is what it can still draw of them: features of as many pictures as
there were photos. They are marked (``Version.drawn``), since likeness to them is likeness to the world's own
pictures, not to photos.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from ..backbone import Backbone
from ..concept.words import TEMPLATES
from ..memory import LongTerm
from ..settings import LearnSettings
from .filling import Filling
from .manifest import Manifest
from .memories import read_long_term, write_long_term
from .past import Tell, drawing
from .recorded import made_once

#: The examination draws from 0 on; its pictures are compared with these.
FIRST_SEED = 1_000_000


def recollect(
    world: Path,
    manifest: Manifest,
    long: LongTerm,
    backbone: Backbone,
    settings: LearnSettings,
    guidance_scale: float,
    tell: Tell,
) -> list[str]:
    """Add to ``long`` every concept of the world that it lacks, as the present model draws it; returns their
    tokens. Nothing without a CLIP pair. Kept beside the checkpoints, so that a stopped learning finds it."""
    missing = [token for token in manifest.concepts if token not in long.features]
    if backbone.clip is None or not missing:
        return []
    facts = [manifest.head, missing, settings.prior_steps, guidance_scale, manifest.clip_fingerprint]
    identity = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    folder = world / "learning" / f"recollection-{identity}"

    def make(place: Path) -> None:
        found, draw = LongTerm(), drawing(backbone, settings, guidance_scale)
        photos = {version.token: version.photos for version in manifest.lineage() if version.photos}
        for done, token in enumerate(missing):
            prompt = TEMPLATES[0].format(f"{token} {manifest.concepts[token]}")
            found.prompts[token] = [prompt] * photos.get(token, 1)
            found.features[token] = draw(found.prompts[token], FIRST_SEED)[1]
            tell("memory", done + 1, len(missing))
        write_long_term(Filling(place, None), found)

    found = made_once(world, folder, make, read_long_term)
    long.features |= found.features
    long.prompts |= found.prompts
    return missing
