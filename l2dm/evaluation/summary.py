"""What the records of a method's runs come to: mean and spread of every figure."""

from __future__ import annotations

from typing import Any

import numpy as np

from . import matrix

#: a matrix of scores -> what its forgetting is called
FORGETTING = {
    "identification": "forgetting",
    "image_alignment": "image_forgetting",
    "text_alignment": "text_forgetting",
    "dino_alignment": "dino_forgetting",
}


def spread(values: list[float]) -> dict[str, float]:
    """Mean and sample standard deviation (0 of one value)."""
    return {
        "mean": round(float(np.mean(values)), 4),
        "std": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4),
    }


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the runs of one method: of its matrices, its costs, and whatever single figures
    its records hold.
    """
    found: dict[str, Any] = {"runs": len(records)}
    for name, rows in records[0]["matrices"].items():
        if rows[0][0] is None:
            continue
        matrices = [np.array(r["matrices"][name], dtype=float) for r in records]
        found[name] = spread([matrix.average(m) for m in matrices])
        found[f"{name}_just_learned"] = spread([matrix.just_learned(m) for m in matrices])
        if name in FORGETTING:
            found[FORGETTING[name]] = spread([matrix.forgetting(m) for m in matrices])
    for name in {
        name: None for record in records for name, value in record.items() if isinstance(value, float)
    }:
        found[name] = spread([record[name] for record in records if name in record])
    found["seconds_per_concept"] = spread(
        [float(np.median(r["seconds"])) for r in records]
    )  # one lesson may have met other work
    found["peak_memory_mb"] = spread([max(r["peak_mb"]) for r in records])
    found["bytes_per_concept"] = spread([r["bytes"][-1] / len(r["bytes"]) for r in records])
    if len(records[0]["seconds"]) >= 10:
        found["seconds_k10_over_k2"] = spread([r["seconds"][9] / r["seconds"][1] for r in records])
        found["peak_memory_k10_over_k2"] = spread([r["peak_mb"][9] / r["peak_mb"][1] for r in records])
    return found
