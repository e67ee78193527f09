"""What did it do? The pictures of before and after a concept was learnt: its own, the earlier ones', the
base's nouns', worst first.
"""

from __future__ import annotations

import dataclasses

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...report.card import card
from ...world.manifest import Manifest
from ..app import Studio
from ..views import opened, versions
from .common import studio_of


@dataclasses.dataclass(frozen=True)
class Row:
    """``before``, ``after``: addresses of sheets, "" where there is none; figures in points of 100, None
    where not measured.
    """

    name: str
    before: str
    after: str
    figure: float | None = None
    was: float | None = None
    change: float | None = None
    own: float | None = None


@dataclasses.dataclass(frozen=True)
class Effect:
    """``new``: the concept itself; ``earlier`` and ``nouns``: worst first."""

    version: int
    new: Row
    earlier: list[Row]
    nouns: list[Row]

    @property
    def verdict(self) -> str:
        changes = [(row.name, row.change) for row in self.earlier if row.change is not None]
        if not changes:
            return (
                "There was nothing before it that could be harmed."
                if not self.earlier
                else "No earlier concept was examined."
            )
        worst, change = changes[0]
        if change > -1:
            return "No earlier concept lost a point of likeness."
        return f"{worst} lost {-change:.1f} points of likeness, the most of all."


def show(request: Request) -> Response:
    studio, number = studio_of(request), request.path_params["version"]
    world = opened(studio.world)
    return studio.page(
        "effect.html", here="world", e=effect(studio, world.manifest, number), head=world.version
    )


def effect(studio: Studio, manifest: Manifest, number: int) -> Effect:
    """Raises a 404 for a version that taught nothing, or is not there."""
    version = manifest.versions.get(number)
    at = dataclasses.replace(manifest, head=number)
    if version is None or not versions(at)[-1].brought:
        raise HTTPException(404, f"No concept was learnt in version {number}.")
    found, first = card(at), _first_picture(studio, number, version.token)

    def sheets(name: str, before: str = "") -> tuple[str, str]:
        held = [v.version for v in at.lineage() if v.shows(name) and (name[0] != "<" or name in v.concepts)]
        after = held.pop() if held and held[-1] == number else 0
        place = "/versions/{}/picture?of=" + name.replace("<", "%3C").replace(">", "%3E").replace(" ", "%20")
        return (place.format(held[-1]) if held else before), (place.format(after) if after else "")

    rows = {}
    for row in found["concepts"]:
        is_new = row["token"] == version.token
        before, after = sheets(row["token"])
        if is_new:
            before = sheets(version.noun, first)[0]
        rows[row["token"]] = Row(
            f"{row['token']} {row['noun']}",
            before,
            after,
            row["likeness"],
            row["before"],
            row["change"],
            row["own"],
        )
    new = rows.pop(version.token, None) or Row(
        f"{version.token} {version.noun}", first, sheets(version.token)[1]
    )
    earlier = sorted(rows.values(), key=lambda row: (row.change is None, row.change))
    nouns = [
        Row(row["noun"], *sheets(row["noun"], first if row["noun"] == version.noun else ""), row["drift"])
        for row in found["nouns"]
    ]
    return Effect(number, new, earlier, sorted(nouns, key=lambda row: -(row.figure or 0)))


def _first_picture(studio: Studio, number: int, token: str) -> str:
    """What the world drew of the noun before the learning, where the studio itself did it."""
    for found in studio.queue.all("learn"):
        if (
            found.job.found.get("version") == number
            and found.job.asked["token"] == token
            and (found.path / "0000.png").is_file()
        ):
            return f"/jobs/{found.job.id}/0000.png"
    return ""


ROUTES = [Route("/effect/{version:int}", show)]
