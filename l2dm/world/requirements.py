"""What a base is and needs, told before anything is downloaded or loaded: ``l2dm check --base``."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ..backbone import Backbone, Source, find_device, held_dtype
from ..backbone.requirements import PROCESS, free_bytes, held_bytes, weight_bytes
from ..backbone.sites import looks_at_itself, reads_features, text_layers
from ..methods import METHODS
from ..settings import COMPOSITIONS, GenerateSettings, LearnSettings
from ..tuners.gated_lora import GatedLora
from ..tuners.low_rank import LowRank

#: Of what is trained: itself, its gradient, two moments, four bytes each; by adamw-8bit the moments are a
#: byte each.
_TRAINED = {"adamw": 16, "adamw-8bit": 10}


#: Kinds of settings that a base may have defaults of.
_KINDS = ("learn", "generate")


@dataclass(frozen=True)
class Requirements:
    """Bytes are of the device's memory at the most, the process itself included; ``learn`` by gradient
    checkpointing or not (None where without is enough), ``free`` None where the system does not tell.
    ``refused``: methods and compositions, and why. ``defaults``: settings by kind that the base has, and
    ``defaults_from``, the source of its family's.
    """

    family: str
    side: int
    parameters: dict[str, int]
    precision: str
    device: str
    rows: int
    trained: int
    weights: int
    learn: int
    learn_checkpointing: int | None
    draw: int
    free: int | None
    methods: list[str]
    compositions: list[str]
    refused: dict[str, str] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    defaults_from: str = ""
    notes: tuple[str, ...] = ()


class _OneAdapter(LowRank):
    """One of the default method's, on in every row."""

    share, chosen = GatedLora.share, GatedLora.chosen


def requirements(
    source: Source,
    learn: LearnSettings,
    generate: GenerateSettings,
    precision: str = "auto",
    device: str = "auto",
) -> Requirements:
    """Of ``source``, learnt with one adapter on all layers and drawn without a composition. Raises
    BaseModelError where it is of no known family, SettingsError where there is no such ``device``."""
    there = find_device(device)
    dtype = held_dtype(source, there, precision)
    backbone = Backbone.load(source, "meta", precision=str(dtype).removeprefix("torch."))
    networks = {part: backbone.parts[part] for part in backbone.family.networks}
    weights = weight_bytes(*networks.values())
    parameters = {part: sum(p.numel() for p in network.parameters()) for part, network in networks.items()}
    draw = _drawing(backbone, generate)
    refused = _refused(backbone)
    rows = learn.batch + learn.mixes
    free = free_bytes(there)
    trained, step = _adapted(backbone, learn), _step(backbone, rows)
    always = PROCESS + weights + trained * _TRAINED[learn.optimizer]
    less = None
    if free is None or always + step > free:
        backbone.denoiser.enable_gradient_checkpointing()  # type: ignore[operator]
        less = always + max(_step(backbone, rows), draw)
    return Requirements(
        family=backbone.family.name,
        side=backbone.side,
        parameters=parameters,
        precision=str(dtype).removeprefix("torch."),
        device=str(there),
        rows=rows,
        trained=trained,
        weights=weights,
        learn=always + max(step, draw),
        learn_checkpointing=less,
        draw=PROCESS + weights + draw,
        free=free,
        methods=[name for name in METHODS if name not in refused],
        compositions=[name for name in COMPOSITIONS if name not in refused],
        refused=refused,
        defaults=backbone.defaults,
        defaults_from=backbone.family.defaults_from,
        notes=backbone.notes,
    )


def said(found: Requirements) -> str:
    """The lines that a person reads."""
    parts = [f"{part} {count / 1e6:,.0f}" for part, count in found.parameters.items()]
    room = "" if found.free is None else f"; {_gib(found.free)} are free on {found.device} now"
    learn = f"{_gib(found.learn)}, of {found.rows} rows a step"
    if found.learn_checkpointing:
        learn += f", more than are free; with gradient_checkpointing = true {_gib(found.learn_checkpointing)}"
    lines = [
        f"{found.family}, {sum(found.parameters.values()) / 1e6:,.0f} million parameters "
        f"({', '.join(parts)})",
        f"held in {found.precision} on {found.device}: weights {_gib(found.weights)}{room}",
        f"learning at its {found.side} px takes about {learn}",
        f"drawing takes about {_gib(found.draw)}, without a composition",
        "(counted on torch's meta device, which has shapes and no numbers: weights, one step with an adapter "
        "of the default method, a batch "
        f"of pictures; {_gib(PROCESS)} for the process itself)",
        f"methods: {', '.join(found.methods)}",
        f"compositions: {', '.join(found.compositions)}",
        *(f"no {name}: {why}" for name, why in found.refused.items()),
        *(f"defaults of {kind}: {_listed(own)}" for kind in _KINDS if (own := found.defaults.get(kind))),
        f"what its family's defaults are from: {found.defaults_from}",
        *(f"note: {note}" for note in found.notes),
    ]
    return "\n".join(lines)


def _listed(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} = {value}" for name, value in settings.items())


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f} GiB"


def _refused(backbone: Backbone) -> dict[str, str]:
    """Methods and compositions that this family's mathematics forbids."""
    refused = {}
    if not reads_features(backbone.denoiser):
        why = "text changes from block to block"
        refused = {name: why for name, row in METHODS.items() if row.directions} | {"structure": why}
    if not looks_at_itself(backbone.denoiser):
        refused["self-cross"] = "the picture attends to itself without a softmax"
    if not text_layers(backbone.denoiser):
        why = "text and picture share their keys and values"
        refused |= {name: why for name, row in METHODS.items() if row.tuner == "gated_kv"}
    return refused


def _noisy(backbone: Backbone, rows: int) -> torch.Tensor:
    cells = backbone.side // backbone.factor
    return torch.empty(rows, backbone.channels, cells, cells, device="meta")


@torch.no_grad()
def _drawing(backbone: Backbone, settings: GenerateSettings) -> int:
    """Of a batch of pictures, without what guides several concepts."""
    rows, both = min(settings.batch, settings.n), settings.guidance_scale > 1 and backbone.family.negatives
    pictures = 1 if getattr(backbone.parts.get("vae"), "use_slicing", False) else rows

    def denoise() -> None:
        noisy = _noisy(backbone, rows * (1 + both))
        backbone.predict(noisy, torch.zeros(len(noisy), device="meta"), backbone.read(["a"] * len(noisy)))

    return max(
        held_bytes(denoise),
        held_bytes(lambda: backbone.family.decode_latents(backbone, _noisy(backbone, pictures))),
    )


def _adapted(backbone: Backbone, settings: LearnSettings) -> int:
    """Put an adapter beside every layer; how many parameters are trained."""
    tuner = _OneAdapter(backbone)
    tuner.train(tuner.fresh("one", settings))
    for p in tuner.parameters.values():
        p.requires_grad_(True)
    return sum(p.numel() for p in tuner.parameters.values())


def _step(backbone: Backbone, rows: int) -> int:
    """Bytes of one step over ``rows``."""

    def step() -> None:
        read = backbone.read(["a photo"] * rows)
        predicted = backbone.predict(_noisy(backbone, rows), torch.zeros(rows, device="meta"), read)
        predicted.float().square().mean().backward()

    return held_bytes(step)
