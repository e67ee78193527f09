"""Malformed inputs of every kind, and manifests made by a fuzzer: one clear line, nothing written outside, no
network asked.
"""

from __future__ import annotations

import math
import shutil
import time
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from benchmarks import hostile_worlds, malformed
from benchmarks.malformed_families import ALL

from .ground import Ground


def measure(ground: Ground, manifests: int, seed: int = 0, most_seconds: float = math.inf) -> dict[str, Any]:
    """Figures of ``manifests`` different hostile manifests, each through every command, and of the listed
    malformed inputs.
    """
    began, place = time.monotonic(), ground.place / "place"
    bad: list[str] = []
    tried: set[bytes] = set()

    @seeded(seed)
    @settings(
        max_examples=20 * manifests,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_worlds.manifests())
    def through(manifest: bytes) -> None:
        if manifest in tried or len(tried) >= manifests or time.monotonic() - began > most_seconds:
            return
        tried.add(manifest)
        if said := hostile_worlds.verdict(manifest, place, ground.photos):
            bad.append(f"{said}: {manifest[:500]!r}")
            print(bad[-1], flush=True)

    through()
    world = ground.taught(ground.place / "known", tokens=("<known>",))
    unclear, asked_network = [], []
    for case in ALL:
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(world, place / "world")
        with hostile_worlds.no_network() as asked:
            if said := malformed.verdict(case, place):
                unclear.append(f"{case.name}: {said}")
                print(unclear[-1], flush=True)
            asked_network += [f"{case.name}: {one}" for one in asked]
    return {
        "malformed_inputs": len(tried) + len(ALL),
        "listed": len(ALL),
        "manifests": len(tried),
        "unclear_answers": unclear,
        "wrong_with_manifests": bad,
        "asked_the_network": asked_network,
        "seconds": round(time.monotonic() - began),
    }
