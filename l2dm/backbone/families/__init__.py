"""Families of models, a file each: the differences between them alone, and all of them. No one outside asks
which family it is.

A family file gives a subclass of ``Family`` and is entered into ``FAMILIES``. It has to say (``family.py``
has the words):

- how it is known: ``pipeline`` and ``parts``, as ``model_index.json`` names them;
- which parts denoise (``denoiser``) and read prompts (``readers``), whose tokens stand in the row that the
  denoiser reads (``row``), what the
  pipeline's ``encode_prompt`` returns (``encoded``), and how prompts are changed before they are read
  (``worded``);
- what to refuse from configurations alone (``check``), and what the pipeline takes beside its parts
  (``options``);
- how its denoiser is called (``predict``) and its pipeline (``call``), in which precision its weights are
  held (``dtype``), and its process
  (``flow``), latents (``packed``, ``unpacked``) and facts where they are not as most have them;
- ``defaults`` from what the field uses, and ``defaults_from``, which names whose they are and says *Untuned*
  where nobody ran them.

Where a denoiser reads text and which layers can be adapted is told from its blocks, in ``backbone/sites.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...errors import BaseModelError
from .deepfloyd_if import DeepFloydIF
from .family import Family, Reads, class_named, pictures
from .flux import Flux
from .flux2 import Flux2Klein
from .pixart import PixArtAlpha, PixArtSigma
from .sana import Sana
from .sd import StableDiffusion
from .sd3 import StableDiffusion3
from .sdxl import StableDiffusionXL
from .z_image import ZImage

FAMILIES: tuple[Family, ...] = (
    StableDiffusion(),
    StableDiffusionXL(),
    PixArtAlpha(),
    PixArtSigma(),
    StableDiffusion3(),
    Flux(),
    Flux2Klein(),
    ZImage(),
    DeepFloydIF(),
    Sana(),
)

__all__ = ["FAMILIES", "Family", "Reads", "class_named", "family_of", "pictures"]


def family_of(said: str, path: Path, index: dict[str, Any]) -> Family:
    """The family of a base by its ``model_index.json``, which lies at ``path`` and holds ``index``; ``said``
    begins an error's message.

    Told by the pipeline's name; by its parts where the name is another, as that of a pipeline for inpainting
    is. Raises BaseModelError where it is of none, or lacks a part.
    """
    kind = index.get("_class_name")
    named = [family for family in FAMILIES if kind == family.pipeline]
    for family in named or FAMILIES:
        if not (wrong := _lacks(family, path, index)):
            return family
    if named:
        raise BaseModelError(f"{said}: it is a {kind}, but {wrong}")
    raise BaseModelError(
        f"{said}: it is a {kind}; l2dm knows {', '.join(family.name for family in FAMILIES)}"
    )


def _lacks(family: Family, path: Path, index: dict[str, Any]) -> str:
    """Why what ``index`` names is none of ``family``; "" where it is one."""
    networks = {part for other in FAMILIES for part in other.networks} | {
        "prior",
        "transformer",
        "text_encoder_2",
    }
    if others := [part for part in sorted(networks - set(family.parts)) if (index.get(part) or [None])[0]]:
        return f"{path} names a {others[0]}, which {family.name} has not"
    for part, classes in family.parts.items():
        given = index.get(part)
        if not isinstance(given, list) or len(given) != 2 or not given[1]:
            return f"{path} names no {part}"
        if classes and given[1] not in classes:
            return f"its {part} is a {given[1]}, and that of {family.name} a {' or '.join(classes)}"
    return ""
