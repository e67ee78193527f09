"""The figures of the benchmark of several concepts: one row's parts over its seeds."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ..concept.words import TOKEN_LIKE
from ..evaluation.composition_verdict import Verdict
from ..evaluation.summary import spread

#: kinds of prompts whose pictures get a verdict; the last is drawn by the pretrained base
TOGETHER = ("two_concepts", "two_of_one_noun", "three_concepts", "two_plain_nouns")
KINDS = (*TOGETHER, "interactions", "one_concept", "time")


def rates(verdicts: list[dict[str, Any]]) -> dict[str, float]:
    """Flag -> its share among the verdicts that tell of it."""
    flags = dict.fromkeys(flag for v in verdicts for flag, said in v.items() if isinstance(said, bool))
    return {flag: round(float(np.mean([v[flag] for v in verdicts if flag in v])), 4) for flag in flags}


def summary(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """One row's figures over its seeds. ``verdicts`` has every flag of ``Verdict`` by itself; rates are in
    [0, 1]. ``with_each``: see there.
    """
    found: dict[str, Any] = {}
    of = {kind: [p for p in parts if p["kind"] == kind and p["rates"]] for kind in KINDS}
    for kind in TOGETHER:
        if rows := of[kind]:
            found[kind] = spread([r["rates"]["success"] for r in rows])
    if rows := of["interactions"]:
        found["interactions"] = {
            flag: spread([r["rates"][flag] for r in rows])
            for flag in ("success", "arranged")
            if flag in rows[0]["rates"]
        }
    seams = {
        kind: [r["rates"]["pasted"] for r in of[kind] if "pasted" in r["rates"]] for kind in TOGETHER[:3]
    }
    if any(seams.values()):
        found["pasted"] = {kind: spread(rates) for kind, rates in seams.items() if rates}
    if (rows := of["two_concepts"]) and rows[0]["text_alignment"] is not None:
        found["text_alignment"] = spread([r["text_alignment"] for r in rows])
    if rows := of["time"]:
        found["time_over_plain"] = round(float(np.median([ratio for r in rows for ratio in r["ratios"]])), 4)
    if rows := of["one_concept"]:
        found["one_concept"] = {name: spread([r["rates"][name] for r in rows]) for name in rows[0]["rates"]}
    found["with_each"] = {kind: with_each(of[kind]) for kind in TOGETHER[:3] if of[kind]}
    flags = [f.name for f in dataclasses.fields(Verdict)]
    found["verdicts"] = {
        kind: {f: spread([r["rates"][f] for r in of[kind]]) for f in flags}
        for kind in TOGETHER[:3]
        if of[kind]
    }
    return found


def with_each(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Token -> how many of the pictures that were to hold it succeed, over the seeds: which concepts it is
    that fail.
    """
    rates: dict[str, list[float]] = {}
    for part in parts:
        said: dict[str, list[bool]] = {}
        for v in part["verdicts"]:
            for token in TOKEN_LIKE.findall(v["prompt"]):
                said.setdefault(token, []).append(v["success"])
        for token, successes in said.items():
            rates.setdefault(token, []).append(float(np.mean(successes)))
    return {token: spread(values) for token, values in sorted(rates.items())}
