"""Comparing as a grid: one prompt and the same seeds over a world's versions or over compositions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ...errors import SettingsError
from ...settings import COMPOSITIONS
from ..app import Studio
from ..forms import fields, given, text
from ..jobs import JobFolder
from ..live import live
from ..progress import duration, progress
from ..views import cards, exists, opened, settings, versions
from .common import go, job_of, posted, studio_of
from .draw import check_prompt

OVER = ("versions", "compositions")
PLAIN = ("n", "seed", "steps")


def show(request: Request) -> Response:
    studio = studio_of(request)
    if not exists(studio.world):
        return go("/")
    world = opened(studio.world)
    found = studio.queue.get(request.query_params.get("job", ""))
    found = found if found and found.job.kind == "compare" else None
    asked = found.job.asked if found else {"prompt": "", "settings": {"n": 3}, "over": "versions", "rows": []}
    shown = settings(studio.world, "generate", asked["settings"])
    return studio.page(
        "compare.html",
        here="compare",
        cards=cards(world.manifest),
        versions=versions(world.manifest),
        compositions=COMPOSITIONS,
        asked=asked,
        fields={field.name: field for field in fields(shown)},
        plain=PLAIN,
        job=found,
        parts=parts(studio, found) if found else {},
    )


def compare(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    world, prompt, over = opened(studio.world), " ".join(text(form, "prompt").split()), text(form, "over")
    changed = given(form, settings(studio.world, "generate"))
    settings(studio.world, "generate", changed)
    known = {
        "versions": [str(stop.number) for stop in versions(world.manifest)],
        "compositions": list(COMPOSITIONS),
    }.get(over, [])
    chosen = set(form.getlist(over)) if over in OVER else set()  # type: ignore[attr-defined]
    rows = [name for name in known if name in chosen]
    if not rows:
        raise SettingsError(f"compare: choose at least one of the {over if over in OVER else 'versions'}")
    check_prompt(
        prompt, {token for version in world.manifest.versions.values() for token in version.concepts}
    )
    found = studio.queue.add("compare", {"prompt": prompt, "settings": changed, "over": over, "rows": rows})
    studio.wake("draw")
    return go(f"/compare?job={found.job.id}")


def stream(request: Request) -> Response:
    studio, found = studio_of(request), job_of(request)
    return live(found, lambda: parts(studio, found))


def parts(studio: Studio, found: JobFolder) -> dict[str, str]:
    shown, asked = progress(found), found.job.asked
    drawn = settings(studio.world, "generate", asked["settings"])
    facts = {"p": shown, "duration": duration, "asked": asked, "n": drawn.n, "seed": drawn.seed}
    return {name: studio.render(f"compare-{name}.html", **facts) for name in ("stage", "grid")}


ROUTES = [
    Route("/compare", show),
    Route("/compare", posted(compare), methods=["POST"]),
    Route("/compare/{id}/events", stream),
]
