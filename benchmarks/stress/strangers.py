"""Malformed inputs of every kind, and manifests made by a fuzzer: one clear line, nothing written outside, no
network asked.
"""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from benchmarks import hostile_worlds, malformed
from benchmarks.malformed_families import ALL

from .flips import kind_of
from .ground import Ground


def measure(ground: Ground, manifests: int, seed: int = 0, most_seconds: float = math.inf) -> dict[str, Any]:
    """Figures of as many different worlds as ``manifests`` whose manifest or another JSON file a stranger
    made, each through every command, and of the listed malformed inputs.
    """
    began, place = time.monotonic(), ground.place / "place"
    bad: list[str] = []
    tried: set[tuple[str, bytes]] = set()
    whole = ground.taught(ground.place / "whole", tokens=("<rex>", "<tom>"))
    ground.do(["rename", str(whole), "<rex>", "<max>"])
    lesson = tuple(ground.settings("strangers"))

    @seeded(seed)
    @settings(
        max_examples=20 * manifests,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(hostile_worlds.damages(whole))
    def through(damage: tuple[str, bytes]) -> None:
        if damage in tried or len(tried) >= manifests or time.monotonic() - began > most_seconds:
            return
        tried.add(damage)
        name, data = damage
        if said := hostile_worlds.verdict(data, place, ground.photos, name, whole, lesson):
            bad.append(f"{name}: {said}: {data[:500]!r}")
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
        "by_file": dict(Counter(kind_of(name) for name, _ in tried)),
        "unclear_answers": unclear,
        "wrong_with_manifests": bad,
        "asked_the_network": asked_network,
        "seconds": round(time.monotonic() - began),
    }
