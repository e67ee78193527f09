"""What is to be taken into a world, read from a file of another program, or from another world; nothing is
changed yet.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..backbone import Backbone, plain
from ..backbone.sites import key_value_layers
from ..concept.words import TEMPLATES, check_token
from ..errors import ExchangeError, SettingsError, TokenError, WorldError
from ..exchange.custom_diffusion import is_custom_diffusion, read_custom_diffusion
from ..exchange.embedding import looks_like_embedding, read_embedding
from ..exchange.files import read_file
from ..exchange.lora import Layers
from ..exchange.lora_reading import read_lora
from ..memory import LongTerm
from ..methods import SEPARABLE
from ..tuners import TUNERS
from ..tuners.factors import Factors
from ..tuners.gated_lora import GatedLora
from .manifest import Manifest
from .memories import read_long_term
from .names import own_file

if TYPE_CHECKING:
    from .world import World


@dataclass
class Parcel:
    """``vectors`` of the token; ``weights`` as the tuner keeps them; ``facts`` for the journal; ``notes``:
    what is to be told. ``long``: what is remembered of it already; ``drawn``: whether that is of drawings."""

    vectors: torch.Tensor
    weights: dict[str, torch.Tensor]
    facts: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    long: LongTerm = field(default_factory=LongTerm)
    drawn: bool = True
    photos: int = 0


@dataclass(frozen=True)
class Wanted:
    """What a file is read as: ``trigger``: words that its prompts said, "" where the token's name may do;
    ``embedding``: a file with the token's vectors; ``denoiser_only``: leave a text encoder's part out."""

    token: str
    noun: str
    trigger: str = ""
    embedding: Path | None = None
    denoiser_only: bool = False


def from_file(world: World, file: Path, wanted: Wanted) -> Parcel:
    """A LoRA, an embedding, or Custom Diffusion's weights. Raises ExchangeError, SettingsError."""
    backbone, said = world.backbone(), str(file)
    tensors, told = read_file(file)
    with file.open("rb") as opened:
        facts = {"file": file.name[:200], "sha256": hashlib.file_digest(opened, "sha256").hexdigest()}
    widths = [reader.tokens.width for reader in backbone.readers]
    if looks_like_embedding(tensors):
        if wanted.trigger or wanted.embedding:
            raise SettingsError(
                f"{said}: an embedding brings the token's vectors along; leave --trigger and --embedding out"
            )
        vectors = read_embedding(said, tensors, backbone.family.embedding_keys, widths)
        return Parcel(vectors, {}, facts | {"kind": "embedding"})
    if not isinstance(world.tuner, GatedLora):
        raise SettingsError(
            f"{world.path}: it has learnt by {world.manifest.tuner}, which has no place for an adapter from "
            "elsewhere; import it into a world "
            f"made anew: l2dm init OTHER_WORLD --base {world.manifest.base}"
        )
    notes: list[str] = []
    if is_custom_diffusion(tensors):
        kind, own = "custom-diffusion", key_value_layers(backbone.denoiser)
        own = {name: plain(world.tuner.wrapped[name].weight) for name in own if name in world.tuner.wrapped}
        adapter = read_custom_diffusion(said, tensors, own)
    else:
        kind, adapter = "lora", _of_lora(backbone, said, tensors, told, wanted.denoiser_only, notes)
    if wanted.embedding:
        if wanted.trigger:
            raise SettingsError("--trigger and --embedding: give one of them, the token is read by it")
        vectors = read_embedding(
            str(wanted.embedding), read_file(wanted.embedding)[0], backbone.family.embedding_keys, widths
        )
    else:
        vectors, words, why = _as_words(backbone, wanted, told.get("modelspec.trigger_phrase", ""))
        notes.append(f"{wanted.token} {wanted.noun} is read as {words!r}, {why}")
        facts["trigger"] = words[:200]
    return Parcel(vectors, _weights(wanted.token, adapter), facts | {"kind": kind}, notes)


def _of_lora(
    backbone: Backbone,
    said: str,
    tensors: dict[str, torch.Tensor],
    told: dict[str, str],
    denoiser_only: bool,
    notes: list[str],
) -> dict[str, Factors]:
    family = backbone.family
    known = Layers(
        backbone.denoiser, family.denoiser, family.kohya_names or family.lora_names, backbone.encoder_layers
    )
    found, unknown = read_lora(said, tensors, told, known)
    own, of_text = known.apart(found)
    if denoiser_only:
        if count := len(of_text) + len(unknown):
            notes.append(
                f"left out: the text encoder's part, {count} layers; pictures are less like the file's own"
            )
        found = {layer: found[layer] for layer in own}
    elif unknown:
        raise ExchangeError(
            f"{said}: {len(unknown)} of its layers are a text encoder's that is no CLIP, or has no such "
            f"layer ({unknown[0][:80]}): these are left as they "
            "are; to take in what is of the denoiser alone add --denoiser-only"
        )
    if not found:
        raise ExchangeError(f"{said}: nothing in it is of the denoiser; there is nothing to take in")
    return found


def _weights(token: str, adapter: dict[str, Factors]) -> dict[str, torch.Tensor]:
    """As ``tuners.gated_lora`` keeps an adapter that came from elsewhere: in the precision that it has, at
    all of a prompt that names it.
    """
    state = {f"{token}/everywhere": torch.ones(1)}
    for layer, one in adapter.items():
        state |= {f"{token}/{layer}.down": one.down.contiguous(), f"{token}/{layer}.up": one.up.contiguous()}
        if one.scale != 1:
            state[f"{token}/{layer}.alpha"] = torch.tensor(one.alpha)
    return state


def _as_words(backbone: Backbone, wanted: Wanted, said: str) -> tuple[torch.Tensor, str, str]:
    """The vectors with which ``<token> noun`` is read as the trigger's words, these words, and where they are
    from: what was asked for, else the phrase that the file itself has ``said``, else the token's name.
    """
    name, noun, phrase = wanted.token[1:-1], wanted.noun, _phrase(said)
    told = f"the file's own {phrase[:80]!r} is not read here" if phrase else "the file says none"
    sources = {
        "as --trigger says": wanted.trigger,
        "the file's own trigger phrase (--trigger says another)": ""
        if wanted.trigger
        else _plain_words(phrase),
        f"the token's name: {told} (--trigger says another)": name,
    }
    for why, trigger in sources.items():
        own = trigger.split()
        tail = noun.lower().split()
        if [word.lower() for word in own[-len(tail) :]] == tail:
            own = own[: -len(tail)]
        if not own:
            continue
        words = " ".join(own)
        try:
            vectors = backbone.vectors_of(words)
        except TokenError:
            if trigger == wanted.trigger:
                raise
            continue
        if trigger == wanted.trigger or _count(vectors) <= room(backbone, noun):
            return vectors, f"{words} {noun}", why
    return backbone.word_vector(noun), f"{noun} {noun}", "the noun alone (--trigger says other words)"


def _phrase(said: str) -> str:
    """The first of a header's trigger phrases, which commas part; "" where it is not text for people."""
    first = said[:1000].partition(",")[0].strip()
    return first if first.isprintable() else ""


def _plain_words(phrase: str) -> str:
    """``phrase``, "" where it has a token in brackets, whose vectors are in another file."""
    return "" if "<" in phrase or ">" in phrase else phrase


def _count(vectors: torch.Tensor) -> int:
    return len(vectors) if vectors.dim() > 1 else 1


def room(backbone: Backbone, noun: str) -> int:
    """How many vectors of a token a prompt about ``noun`` has room for."""
    return backbone.longest_prompt - backbone.count_tokens(TEMPLATES[0].format(noun))


def from_world(world: World, place: Path, token: str, wanted: str, said: Path) -> tuple[Parcel, str]:
    """The concept ``token`` of the world at ``place``, which messages call ``said``, as it is there, to be
    called ``wanted``, and its noun. Raises TokenError, WorldError."""
    other = Manifest.read(place)
    if token not in other.concepts:
        raise TokenError(f"token {token!r}: {said} has learnt {', '.join(other.concepts) or 'nothing yet'}")
    if other.fingerprint != world.manifest.fingerprint:
        raise WorldError(
            f"{said}: it was made over another base than {world.path} (expected "
            f"{world.manifest.fingerprint}, found {other.fingerprint}); concepts move "
            "between worlds of one base"
        )
    files, noun, check = other.recorded(place, other.head), other.concepts[token], check_token(wanted)
    state = files.tensors(own_file(token)) if own_file(token) in files else {}
    prefix = f"{token}/"
    own = {f"{check}/{name.removeprefix(prefix)}": t for name, t in state.items() if name.startswith(prefix)}
    theirs, ours = TUNERS[other.tuner], TUNERS[world.manifest.tuner]
    if other.tuner not in SEPARABLE:
        raise WorldError(
            f"{said}: there concepts share their weights ({other.tuner}), so none moves alone; export it and "
            "import the file: "
            f"l2dm export {said} '{token}' --format lora"
        )
    if own and not issubclass(ours, theirs):
        raise WorldError(
            f"{said}: it has learnt by {other.tuner}, {world.path} by {world.manifest.tuner}, which keeps a "
            "concept otherwise; move it to a fresh world"
        )
    long, version = read_long_term(files), other.teaching(token)
    if token in long.prompts and other.clip_fingerprint == world.manifest.clip_fingerprint:
        prompts = [_alone(prompt, token, check, other.concepts) for prompt in long.prompts[token]]
        remembered = LongTerm({check: long.features[token]}, {check: prompts})
    else:
        remembered = LongTerm()
    facts = {"kind": "world", "was": token, "base": other.fingerprint}
    drawn = token in other.drawn
    return Parcel(
        files.tensors("tokens.safetensors")[token],
        own,
        facts,
        [],
        remembered,
        drawn,
        version.photos if version else 0,
    ), noun


def _alone(prompt: str, token: str, to: str, concepts: dict[str, str]) -> str:
    """``prompt`` with ``to`` for ``token``, and the nouns of the other ``concepts`` for them."""
    for other, noun in concepts.items():
        if other != token:
            prompt = prompt.replace(f"{other} {noun}", noun).replace(other, noun)
    return prompt.replace(token, to)
