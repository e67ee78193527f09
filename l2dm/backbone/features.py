"""CLIP features of pictures and prompts: of the pair that a world was given, its base's own or another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionModelWithProjection,
    PreTrainedModel,
)

from ..errors import BaseMissing, BaseModelError, first_line
from . import hub
from .source import Source, read_json
from .weight_files import weight_files

#: A world's ``clip`` that means the folder ``clip`` of its base, and one that means none.
OWN, NONE = "base", "none"
_WAY_OUT = "give the folder or hub id of a CLIP model (--clip FOLDER), or go without (--clip none)"
_FILES = ["*.json", "*.txt", "model.safetensors", "model-*.safetensors"]


def default_clip(source: Source) -> str:
    """The own one ("base") where the base has a folder ``clip``, else the pair of its family, a hub id;
    raises BaseModelError when that is unknown.
    """
    if (source.folder / "clip" / "config.json").is_file():
        return OWN
    if not (clip := source.family.clip_of(source)):
        raise BaseModelError(
            f"{source.said}: it has no folder clip, and no CLIP model is known for its text encoder; "
            f"{_WAY_OUT}"
        )
    return clip


def find_clip(clip: str, source: Source, download: bool) -> Path | None:
    """The folder of ``clip``: "base" (the base's own; None without one), "none", a folder or a hub id."""
    if clip == NONE:
        return None
    if clip == OWN:
        own = source.folder / "clip"
        return own if (own / "config.json").is_file() else None
    said, folder = f"clip {clip!r}", Path(clip).expanduser()
    if folder.is_dir():
        return folder
    if not download:
        if not hub.is_hub_id(clip):
            raise BaseMissing(f"{said}: no such folder")
        return hub.cached(said, clip)
    if not hub.is_hub_id(clip):
        raise BaseModelError(f"{said}: no such folder; {_WAY_OUT}")
    try:
        return hub.fetch(said, clip, _FILES)
    except BaseModelError as error:
        raise BaseModelError(f"{error}; {_WAY_OUT}") from None


class ImageFeatures:
    """A CLIP pair: the image encoder I(x) of the method's memory, and its text encoder where the folder has
    one, loaded when it is first asked; features are unit vectors ``(B, projection)``.

    ``folder`` holds a CLIPModel or a CLIPVisionModelWithProjection, in any precision; its
    preprocessor_config.json says how pictures are prepared, else as CLIP was trained, at the model's own
    size. Raises BaseModelError for anything else.
    """

    def __init__(self, folder: str | Path, device: str | torch.device = "cpu"):
        self.folder, self.device = folder, device
        local = Path(folder).is_dir()
        self._pair, self._options = _kind(f"clip {str(folder)!r}", Path(folder)) if local else (True, {})
        with self._loading():
            self.model = self._part(CLIPVisionModelWithProjection, "vision_config")
            side = self.model.config.image_size
            self.processor = self._processor(folder, side, local)
            self.images([Image.new("RGB", (side, side))])

    @contextmanager
    def _loading(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise BaseModelError(
                f"clip {str(self.folder)!r}: cannot be loaded ({first_line(error)}); {_WAY_OUT}"
            ) from error

    def _part(self, kind: type[PreTrainedModel], named: str) -> PreTrainedModel:
        """One of the two encoders, of whose configuration a pair's has a table."""
        options = dict(self._options)
        if self._pair:
            whole = CLIPConfig.from_pretrained(
                self.folder, local_files_only=options.get("local_files_only", False)
            )
            options["config"] = getattr(whole, named)
            options["config"].projection_dim = whole.projection_dim
        model, told = kind.from_pretrained(
            self.folder, dtype=torch.float32, output_loading_info=True, **options
        )
        if missing := sorted(key for key in told["missing_keys"] if "position_ids" not in key):
            raise ValueError(f"it lacks {len(missing)} weights, such as {missing[0]}")
        return model.eval().requires_grad_(False).to(self.device)

    @cached_property
    def text_encoder(self) -> PreTrainedModel:
        with self._loading():
            return self._part(CLIPTextModelWithProjection, "text_config")

    @staticmethod
    def _processor(folder: str | Path, side: int, local: bool) -> CLIPImageProcessorPil:
        if local and not (Path(folder) / "preprocessor_config.json").is_file():
            return CLIPImageProcessorPil(
                size={"shortest_edge": side}, crop_size={"height": side, "width": side}
            )
        return CLIPImageProcessorPil.from_pretrained(folder, local_files_only=local)

    @property
    def reads(self) -> bool:
        """Whether it has a text encoder and a tokenizer, which ``texts`` needs."""
        names = ("tokenizer.json", "vocab.json")
        return self._pair and any((Path(self.folder) / name).is_file() for name in names)

    @cached_property
    def tokenizer(self) -> CLIPTokenizer:
        return CLIPTokenizer.from_pretrained(self.folder, local_files_only=Path(self.folder).is_dir())

    @torch.no_grad()
    def images(self, pictures: list[Image.Image]) -> torch.Tensor:
        pixels = self.processor(images=pictures, return_tensors="pt")["pixel_values"].to(self.model.device)
        seen = self.model.vision_model(pixel_values=pixels).pooler_output
        return F.normalize(self.model.visual_projection(seen), dim=-1).cpu()

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> torch.Tensor:
        """Of prompts of plain words; tokenizer and text encoder are the pair's own, so personal tokens mean
        nothing to them.
        """
        encoder = self.text_encoder
        length = encoder.config.max_position_embeddings
        ids = self.tokenizer(
            prompts, padding="max_length", max_length=length, truncation=True, return_tensors="pt"
        ).input_ids
        return F.normalize(encoder(input_ids=ids.to(encoder.device)).text_embeds, dim=-1).cpu()


def _kind(said: str, folder: Path) -> tuple[bool, dict]:
    """Whether the model in ``folder`` is a pair, not an image encoder alone, and how its weights are asked
    for.
    """
    if not (folder / "config.json").is_file():
        raise BaseModelError(
            f"{said}: {folder / 'config.json'} is missing, so no CLIP model is here; {_WAY_OUT}"
        )
    config = read_json(said, folder / "config.json")
    classes = config.get("architectures") or []
    pair = config.get("model_type") == "clip"
    if not pair and "CLIPVisionModelWithProjection" not in classes:
        found = ", ".join(classes) or config.get("model_type")
        raise BaseModelError(
            f"{said}: it is a {found}; expected a CLIPModel or CLIPVisionModelWithProjection: {_WAY_OUT}"
        )
    variant, files = weight_files([path.name for path in folder.iterdir()])
    if not files:
        raise BaseModelError(f"{said}: {folder} holds no weights, such as model.safetensors; {_WAY_OUT}")
    safe = files[0].endswith(".safetensors")
    return pair, {"variant": variant or None, "use_safetensors": safe, "local_files_only": True}
