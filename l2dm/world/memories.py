"""The long-term and the short-term memory as files of a version."""

from __future__ import annotations

from ..backbone import Backbone
from ..concept import Concept
from ..memory import LongTerm, ShortTerm
from . import names, store
from .filling import Filling
from .recorded import Recorded
from .schema import DRAWN_IN, PROMPTS
from .tensors import as_bytes


def remember(long: LongTerm, concept: Concept, backbone: Backbone) -> None:
    """Add to long-term memory the CLIP feature and prompt of each photo of ``concept``; nothing without a
    CLIP pair.
    """
    if backbone.clip is not None:
        long.features[concept.token] = backbone.seen([photo.image for photo in concept.photos])
        long.prompts[concept.token] = [concept.prompts(photo)[0] for photo in concept.photos]


def read_long_term(files: Recorded | None) -> LongTerm:
    if files is None or names.PROMPTS not in files:
        return LongTerm()
    prompts = files.json(names.PROMPTS, PROMPTS)
    if names.FEATURES in files:
        return LongTerm(files.tensors(names.FEATURES), prompts)
    own = {token: files.tensors(names.features_file(token))["features"] for token in prompts}
    return LongTerm(own, prompts)


def write_long_term(place: Filling, long: LongTerm) -> None:
    if long.prompts:
        place.put(names.PROMPTS, store.as_json(long.prompts))
    for token, features in long.features.items():
        place.put(names.features_file(token), as_bytes({"features": features}, token))


def read_short_term(files: Recorded) -> ShortTerm:
    if names.DRAWN_IN not in files:
        return ShortTerm()
    drawn_in, short = files.json(names.DRAWN_IN, DRAWN_IN), ShortTerm()
    together = files.tensors(names.DRAWN) if names.DRAWN in files else None
    for token, turn in drawn_in.items():
        if together is not None:
            own = {kind: together[f"{kind}/{token}"] for kind in ("latents", "features")}
        elif names.drawn_file(token) in files:
            own = files.tensors(names.drawn_file(token))
        else:  # put aside by a repair: it is drawn again
            continue
        short.latents[token], short.features[token] = own["latents"], own["features"]
        short.drawn_in[token] = turn
    return short


def write_short_term(place: Filling, short: ShortTerm) -> None:
    if short.drawn_in:
        place.put(names.DRAWN_IN, store.as_json(short.drawn_in))
    for token in short.drawn_in:
        own = {"latents": short.latents[token], "features": short.features[token]}
        place.put(names.drawn_file(token), as_bytes(own, token))
