"""The report card: what the last concept did to those before it and to the base's own nouns."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from ..world.manifest import Manifest, Version
from ..world.names import picture_file
from .page import Page


def card(manifest: Manifest) -> dict[str, Any]:
    """``concepts``: a row for each that is not forgotten, in the order of learning (likeness in points of
    100, before and now); ``nouns``: the drift of theirs."""
    if not (last := _last_learnt(manifest)):
        return {"token": None, "concepts": [], "nouns": []}
    known = {token: noun for token, noun in last.concepts.items() if token in manifest.concepts}
    parent = manifest.versions[last.parent].scores if last.parent else {}
    rows = []
    for token, noun in known.items():
        score, before = last.scores.get(token), parent.get(token)
        if score is None:
            continue
        examined = score["version"] == last.version
        rows.append(
            {
                "token": token,
                "noun": noun,
                "likeness": round(100 * score["likeness"], 1),
                "own": score["own"],
                "examined": examined,
                "of": "drawings" if token in last.drawn else "photos",
                "before": round(100 * before["likeness"], 1) if before else None,
                "change": round(100 * (score["likeness"] - before["likeness"]), 1)
                if before and examined
                else None,
            }
        )
    return {
        "token": last.token,
        "concepts": rows,
        "nouns": [
            {"noun": noun, "drift": round(100 * d, 1)}
            for noun, d in last.drift.items()
            if noun in known.values()
        ],
    }


def _last_learnt(manifest: Manifest) -> Version | None:
    """The version that the newest concept was learnt in, of those that are not forgotten."""
    found: dict[str, Version] = {}
    for version in manifest.lineage():
        found.pop(version.token, None)
        if version.token in version.concepts:
            found[version.token] = version
    return next(reversed(found.values()), None)


def pictures(world: Path, manifest: Manifest, name: str) -> list[tuple[int, Image.Image]]:
    """``(version, sheet)`` of the last two examinations of a token or noun, older first; of a token none from
    before it was forgotten.
    """
    found = []
    for version in reversed(manifest.lineage()):
        if name.startswith("<") and name not in version.concepts:
            break
        if version.shows(name) and len(found) < 2:
            files = manifest.recorded(world, version.version)
            found.append((version.version, files.picture(picture_file(name))))
    return found[::-1]


def write_page(world: Path, manifest: Manifest, target: Path) -> Path:
    """The report card as one HTML file, with pictures from before and after."""
    report = card(manifest)
    page = Page(
        f"What {report['token']} did to {world.name}",
        "Likeness: mean cosine of CLIP features with the photos', times 100 (to drawings: with "
        "what the world drew itself, of concepts that it learnt before it had a CLIP model). "
        "Own: how many pictures are nearer to their own concept than to any other. Drift: how far a noun's "
        "pictures moved.",
    )
    page.heading("Concepts")
    page.table(["concept", "before", "now", "change", "own"], [row_cells(row) for row in report["concepts"]])
    page.heading("The base's own nouns")
    page.table(["noun", "drift"], [[row["noun"], f"{row['drift']:.1f}"] for row in report["nouns"]])
    for name in [row["token"] for row in report["concepts"]] + [row["noun"] for row in report["nouns"]]:
        if shown := pictures(world, manifest, name):
            page.heading(name)
            for version, sheet in shown:
                page.pictures([sheet], f"{name} at version {version}")
    return page.save(target)


def row_cells(row: dict[str, Any]) -> list[str]:
    """One concept's line: token and noun, before, now, change, own."""

    def points(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    now = (
        points(row["likeness"]) if row["examined"] else f"{points(row['likeness'])} (not examined this time)"
    )
    change = "-" if row["change"] is None else f"{row['change']:+.1f}"
    drawn = " (to drawings)" if row["of"] == "drawings" else ""
    return [f"{row['token']} {row['noun']}{drawn}", points(row["before"]), now, change, f"{row['own']:.0%}"]
