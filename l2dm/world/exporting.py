"""Out: concepts of a world in the files of other programs, each export a folder that appears whole or not at
all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .. import __version__
from ..backbone import plain, save_pipeline
from ..backbone.sites import key_value_layers
from ..errors import ExchangeError, SettingsError, TokenError, os_errors
from ..exchange.custom_diffusion import custom_diffusion_file
from ..exchange.embedding import embedding_file
from ..exchange.files import file_of
from ..exchange.lora import Layers, diffusers_file, lora_file
from ..settings import check_strength
from ..tuners import TUNERS, Embedding
from ..tuners.factors import Factors
from . import store
from .bundle import write_bundle
from .manifest import now
from .names import picture_file

if TYPE_CHECKING:
    from .world import World

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
#: What is written beside what was exported.
SIDECAR = "export.json"


@dataclass(frozen=True)
class Export:
    """What was written: ``folder`` (of a world: the zip), the ``files`` in it, the prompt that calls each
    token, and what is lost outside of a world, on one line."""

    folder: Path
    files: list[str]
    triggers: dict[str, str]
    loses: str


def export(
    world: World,
    tokens: list[str],
    kind: str = "lora",
    out: str | Path | None = None,
    dtype: str = "",
    strength: float = 1.0,
) -> Export:
    """See ``World.export``."""
    if kind not in FORMATS:
        raise SettingsError(f"format {kind!r}: expected one of {', '.join(FORMATS)}")
    if dtype and dtype not in DTYPES:
        raise SettingsError(f"dtype {dtype!r}: expected one of {', '.join(DTYPES)}")
    check_strength(strength)
    if kind == "world":
        if tokens or dtype or strength != 1:
            raise SettingsError(
                f"format world: {world.path} goes whole and as it is; leave tokens, dtype and strength out "
                "(importing can take one concept of it)"
            )
        target = Path(out or f"{world.path.resolve().name}.zip").expanduser()
        store.check_outside(world.path, target, "--out")
        with os_errors(target, ExchangeError):
            write_bundle(world.path, target)
        return Export(target, [target.name], {}, "")
    if kind == "embedding" and strength != 1:
        raise SettingsError(
            f"strength = {strength:g}: it multiplies adapters, and format embedding holds the tokens' "
            "vectors alone; leave it out"
        )
    tokens = list(dict.fromkeys(tokens or world.concepts))
    if not tokens:
        raise TokenError(f"{world.path}: nothing is learnt yet, so there is nothing to export")
    if unknown := [token for token in tokens if token not in world.concepts]:
        raise TokenError(
            f"token {unknown[0]!r}: {world.path} has learnt {', '.join(world.concepts) or 'nothing yet'}"
        )
    target = Path(
        out or f"{world.path.resolve().name}-{'-'.join(token[1:-1] for token in tokens)[:60]}-{kind}"
    ).expanduser()
    store.check_outside(world.path, target, "--out")
    if target.exists():
        raise SettingsError(f"--out {target}: already exists; give a folder that does not")
    work = _Work(world, tokens, DTYPES.get(dtype), strength)
    previews = {token: work.preview(token) for token in tokens}
    with os_errors(target, ExchangeError):
        store.write_folder(target.resolve(), lambda folder: work.fill(folder, kind, previews))
    files = sorted(str(path.relative_to(target)) for path in target.rglob("*") if path.is_file())
    return Export(target, files, work.triggers, work.loses(kind))


class _Work:
    """One export of ``tokens``. ``dtype`` None: as the world keeps them."""

    def __init__(self, world: World, tokens: list[str], dtype: torch.dtype | None, strength: float):
        self.world, self.tokens, self.dtype, self.strength = world, tokens, dtype, strength
        self.backbone = world.backbone("float32" if TUNERS[world.manifest.tuner].changes_weights else None)
        self.family, self.tuner = self.backbone.family, world.tuner
        order = list(self.backbone.tokens.ids)
        self.vectors = {token: self.backbone.tokens.vectors[order.index(token)].detach() for token in tokens}
        self.triggers = {token: f"a photo of {token} {world.concepts[token]}" for token in tokens}

    def cast(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().to("cpu", self.dtype or tensor.dtype)

    def adapter(self, kind: str) -> dict[str, Factors]:
        found = self.tuner.low_rank(self.tokens) | self.tuner.of_text(self.tokens)
        if not found:
            raise SettingsError(
                f"{', '.join(self.tokens)}: learnt by vectors alone, so there is nothing for format {kind}; "
                "export with --format embedding"
            )
        return {
            layer: Factors(self.cast(one.down), self.cast(one.up), one.alpha) for layer, one in found.items()
        }

    def layers(self, convention: str) -> Layers:
        return Layers(self.backbone.denoiser, self.family.denoiser, convention, self.backbone.encoder_layers)

    def loses(self, kind: str) -> str:
        """What an export loses, in one line."""
        if kind == "embedding" and not isinstance(self.tuner, Embedding):
            return "all but the vectors: what was learnt in the denoiser stays behind"
        return self.tuner.loses

    def preview(self, token: str) -> bytes:
        """A PNG: the last examination's pictures, or one that is drawn for it."""
        for number in sorted(self.world.manifest.versions, reverse=True):
            version = self.world.manifest.versions[number]
            if token in version.concepts and version.shows(token):
                return self.world.manifest.recorded(self.world.path, number).read(picture_file(token))
        return self.world.generate(self.triggers[token], n=1)[0].png()

    # ---------------------------------------------------------------- formats

    def fill(self, folder: Path, kind: str, previews: dict[str, bytes]) -> None:
        write = FORMATS[kind]
        assert write is not None  # a world goes whole
        for name, content in write(self, folder):
            (folder / name).write_bytes(content)
        for token, preview in previews.items():
            (folder / f"{token[1:-1]}.png").write_bytes(preview)
        files = {
            str(path.relative_to(folder)): store.digest(path)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        }
        store.write_json(folder / SIDECAR, self.told(kind) | {"files": files})

    def told(self, kind: str) -> dict[str, Any]:
        manifest = self.world.manifest
        lessons = {token: manifest.teaching(token) for token in self.tokens}
        return {
            "format": kind,
            "created": now(),
            "software": f"l2dm {__version__}",
            "strength": self.strength,
            "strength of": "what was learnt in layers; the tokens' vectors are whole",
            "loses": self.loses(kind),
            "base": {
                "name": manifest.base.rsplit("/", 1)[-1],
                "family": self.family.name,
                "sha256": manifest.fingerprint,
            },
            "world_version": manifest.head,
            "concepts": [
                {
                    "token": token,
                    "noun": self.world.concepts[token],
                    "trigger": f"{token} {self.world.concepts[token]}",
                    "prompt": self.triggers[token],
                    "preview": f"{token[1:-1]}.png",
                    "vectors": len(self.vectors[token].view(-1, self.vectors[token].shape[-1])),
                    "method": lesson.settings.get("method", "") if (lesson := lessons[token]) else "",
                }
                for token in self.tokens
            ],
            "activation text": ", ".join(f"{token} {self.world.concepts[token]}" for token in self.tokens),
        }

    def header(self) -> dict[str, Any]:
        """What trainers put beside the tensors, as far as it is known here."""
        version, architecture = self.family.base_version_of(self.backbone.source)
        known = (
            {"ss_base_model_version": version, "modelspec.architecture": f"{architecture}/lora"}
            if version
            else {}
        )
        return known | {
            "ss_network_module": "networks.lora",
            "modelspec.title": ", ".join(self.tokens),
            "modelspec.trigger_phrase": ", ".join(f"{t} {self.world.concepts[t]}" for t in self.tokens),
            "l2dm.base": self.world.manifest.fingerprint,
            "l2dm.software": f"l2dm {__version__}",
        }

    @property
    def name(self) -> str:
        return "-".join(token[1:-1] for token in self.tokens)[:60]

    def lora(self, folder: Path, names: str = "") -> Iterator[tuple[str, bytes]]:
        tensors = lora_file(self.adapter("lora"), self.layers(names or self.family.lora_names), self.strength)
        yield f"{self.name}.safetensors", file_of(tensors, self.header())
        yield from self.embeddings(folder)

    def kohya(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        names = self.family.kohya_names or self.family.lora_names
        if names == "peft":
            raise SettingsError(
                f"format kohya: kohya's sd-scripts have no names for {self.family.name}'s layers; use "
                "--format lora or diffusers"
            )
        yield from self.lora(folder, names)

    def diffusers(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        tensors, settings = diffusers_file(self.adapter("diffusers"), self.layers("peft"), self.strength)
        yield "pytorch_lora_weights.safetensors", file_of(tensors, {"format": "pt", **settings})
        yield from self.embeddings(folder)

    def embeddings(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        widths = [reader.tokens.width for reader in self.backbone.readers]
        for token, vectors in self.vectors.items():
            tensors = embedding_file(token, self.cast(vectors), self.family.embedding_keys, widths)
            yield f"{token[1:-1]}-embedding.safetensors", file_of(tensors, {"l2dm.token": token})

    def custom_diffusion(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        known = [name for name in key_value_layers(self.backbone.denoiser) if name.endswith(("to_k", "to_v"))]
        own = self.backbone.denoiser.named_parameters()
        base = {name.replace(".layer.weight", ".weight"): plain(p.detach()) for name, p in own}
        weights = self.tuner.merged(self.tokens, base | self.tuner.pretrained_values, self.strength)
        if not known:
            raise SettingsError(
                f"{self.family.name} has no cross-attention, which is all that format custom-diffusion "
                "holds; use --format lora"
            )
        if of_text := self.tuner.of_text(self.tokens):
            raise SettingsError(
                f"{', '.join(self.tokens)}: {len(of_text)} of the layers learnt are a text encoder's, and "
                "format custom-diffusion holds keys and values of the "
                "denoiser alone; use --format lora or pipeline"
            )
        if beyond := [name for name in weights if name.removesuffix(".weight") not in known]:
            raise SettingsError(
                f"{', '.join(self.tokens)}: {len(beyond)} of the layers learnt are no keys or values of the "
                f"text ({beyond[0]}), which is all that format "
                "custom-diffusion holds; use --format lora or pipeline"
            )
        if not weights:
            self.adapter("custom-diffusion")
        processors: Any = self.backbone.denoiser.attn_processors
        tensors = {
            name: self.cast(weight) for name, weight in custom_diffusion_file(weights, processors).items()
        }
        yield "pytorch_custom_diffusion_weights.safetensors", file_of(tensors, {"format": "pt"})
        yield from self.embeddings(folder)

    def pipeline(self, folder: Path) -> Iterator[tuple[str, bytes]]:
        if self.backbone.source.quantized:
            raise SettingsError(
                f"{self.backbone.source.said}: its denoiser is quantized, and a pipeline of its own has what "
                "was learnt added to the weights; use "
                "--format lora"
            )
        save_pipeline(
            self.backbone.source,
            folder,
            lambda plain: self.tuner.merged(self.tokens, plain, self.strength),
            {layer: one.change() * self.strength for layer, one in self.tuner.of_text(self.tokens).items()},
            self.vectors,
            self.dtype or torch.float32,
        )
        yield from ()


FORMATS: dict[str, Callable[[_Work, Path], Iterator[tuple[str, bytes]]] | None] = {
    "lora": _Work.lora,
    "diffusers": _Work.diffusers,
    "kohya": _Work.kohya,
    "embedding": _Work.embeddings,
    "custom-diffusion": _Work.custom_diffusion,
    "pipeline": _Work.pipeline,
    "world": None,
}
