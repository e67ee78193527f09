"""Which files of a network's folder hold the weights that are loaded, by their names alone."""

from __future__ import annotations

import re

_STEM = r"(?:diffusion_pytorch_model|pytorch_model|model)"
_WEIGHTS = re.compile(_STEM + r"(?:\.([a-z]\w*))?(?:-\d{5}-of-\d{5})?(?:\.([a-z]\w*))?\.(safetensors|bin)")
_INDEX = re.compile(_STEM + r"\.(safetensors|bin)\.index(?:\.([a-z]\w*))?\.json")
#: How errors say what was looked for.
EXPECTED = "expected diffusion_pytorch_model.safetensors or model.safetensors"


def weight_files(names: list[str], variant: str = "") -> tuple[str, list[str]]:
    """(variant, files) that loading takes among ``names``, a network's folder: ``variant`` where it is there,
    else the plain weights, else the only ones that are there, fp16 first; safetensors before .bin."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if match := _WEIGHTS.fullmatch(name):
            found.setdefault((match[1] or match[2] or "", match[3]), []).append(name)
    others = sorted({kind for kind, _ in found}, key=lambda kind: (kind != "fp16", kind))
    for kind in dict.fromkeys([variant, "", *others]):
        for suffix in ("safetensors", "bin"):
            if files := found.get((kind, suffix)):
                shards = [
                    n for n in names if (m := _INDEX.fullmatch(n)) and (m[2] or "", m[1]) == (kind, suffix)
                ]
                return kind, [*files, *shards]
    return "", []
