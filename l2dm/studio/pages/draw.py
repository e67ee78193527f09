"""Drawing: a prompt, pictures that arrive one by one, and a gallery of all that was drawn."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from ...errors import PromptError, SettingsError
from ...settings import GenerateSettings
from ...world.repository import Repository
from ..app import Studio
from ..folder import PICTURE, inside
from ..forms import fields, given, text
from ..jobs import JobFolder
from ..live import live
from ..progress import duration, progress
from ..views import cards, exists, opened
from ..views import settings as settings_of
from .common import go, job_of, posted, studio_of

#: Fields that have a place of their own in the form, or none, as pictures are drawn one by one.
PLAIN = ("n", "seed", "steps", "negative_prompt", "composition")
PAGE = 48  # pictures of the gallery on one page


def show(request: Request) -> Response:
    studio = studio_of(request)
    if not exists(studio.world):
        return go("/")
    world, asked = opened(studio.world), request.query_params
    found = studio.queue.get(asked.get("job", ""))
    if found and found.job.kind == "draw":
        given_, prompt, attention = (
            found.job.asked["settings"],
            found.job.asked["prompt"],
            found.job.asked["attention"],
        )
        settings = settings_of(studio.world, "generate", given_)
    elif "from" in asked:
        prompt, settings, attention = _again(studio, _picture(studio, asked["from"]))
    else:
        prompt, settings, attention, found = (
            text(asked, "prompt"),
            settings_of(studio.world, "generate"),
            False,
            None,
        )
    return _page(
        studio, world, prompt, settings, attention, found if found and found.job.kind == "draw" else None
    )


def draw(request: Request, form: Mapping[str, Any]) -> Response:
    studio = studio_of(request)
    world, prompt = opened(studio.world), " ".join(text(form, "prompt").split())
    changed = given(form, settings_of(studio.world, "generate"))
    settings = settings_of(studio.world, "generate", changed)
    check_prompt(prompt, world.concepts)
    check_prompt(settings.negative_prompt or "-", world.concepts)
    found = studio.queue.add(
        "draw", {"prompt": prompt, "settings": changed, "attention": "attention" in form}
    )
    studio.wake("draw")
    return go(f"/draw?job={found.job.id}")


def check_prompt(prompt: str, known: Collection[str]) -> None:
    """Raises PromptError for what the world would refuse to draw, before it is queued."""
    from ...generation import personal_tokens, without_escapes  # imports torch: not before it is needed

    if not prompt:
        raise PromptError("prompt '': say what to draw, such as: a photo of a dog on the beach")
    without_escapes(prompt)
    personal_tokens(prompt, known)


def stream(request: Request) -> Response:
    studio, found = studio_of(request), job_of(request)
    return live(found, lambda: parts(studio, found))


def parts(studio: Studio, found: JobFolder) -> dict[str, str]:
    shown = progress(found)
    things = next((names for names in shown.things.values() if names), [])
    facts = {"p": shown, "duration": duration, "things": things}
    return {name: studio.render(f"draw-{name}.html", **facts) for name in ("stage", "pictures")}


def gallery(request: Request) -> Response:
    studio, page = studio_of(request), text(request.query_params, "page")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 9 else 1
    names = picture_names(studio)
    shown = names[(number - 1) * PAGE : number * PAGE]
    return studio.page(
        "gallery.html", here="draw", names=shown, page=number, pages=-(-len(names) // PAGE), count=len(names)
    )


def look(request: Request) -> Response:
    """One picture and how it was made."""
    studio, name = studio_of(request), request.path_params["name"]
    return studio.page("picture.html", here="draw", **picture_facts(_picture(studio, name)))


def picture_facts(path: Path) -> dict[str, Any]:
    """What the page of a picture needs."""
    told = {key: value for key, value in provenance(path).items() if value not in ("", "[]")}
    veils = sorted(
        path.parent.glob(f"{path.stem}-attention-*.png"), key=lambda veil: (len(veil.name), veil.name)
    )
    things = [provenance(veil).get("name", "") for veil in veils]
    return {"name": path.name, "told": told, "things": things}


def file(request: Request) -> Response:
    return FileResponse(_picture(studio_of(request), request.path_params["name"]), media_type="image/png")


def remove(request: Request, form: Mapping[str, Any]) -> Response:
    path = _picture(studio_of(request), request.path_params["name"])
    for beside in path.parent.glob(f"{path.stem}-attention*.png"):
        beside.unlink(missing_ok=True)
    path.unlink(missing_ok=True)
    return go("/gallery")


def picture_names(studio: Studio) -> list[str]:
    """Newest first, without the maps of attention."""
    found = [path for path in studio.folder.pictures.glob("*.png") if path.stem.isdigit()]
    return [path.name for path in sorted(found, key=lambda path: int(path.stem), reverse=True)]


def provenance(path: Path) -> dict[str, str]:
    """What the PNG tells of itself; nothing where it is none of ours."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return {str(key): str(value) for key, value in image.text.items()}  # type: ignore[attr-defined]
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return {}


def _page(
    studio: Studio,
    world: Repository,
    prompt: str,
    settings: GenerateSettings,
    attention: bool,
    found: JobFolder | None,
) -> Response:
    return studio.page(
        "draw.html",
        here="draw",
        cards=cards(world.manifest),
        prompt=prompt,
        settings=settings,
        attention=attention,
        job=found,
        fields={field.name: field for field in fields(settings)},
        plain=PLAIN,
        parts=parts(studio, found) if found else {},
        recent=picture_names(studio)[:12],
    )


def _again(studio: Studio, path: Path) -> tuple[str, GenerateSettings, bool]:
    """Prompt and settings of a picture, from what it tells of itself; what is none of ours is left out."""
    told, shown = provenance(path), settings_of(studio.world, "generate")
    wanted = {"n": "1", **{name: told[name] for name in told if name not in ("threads", "subjects")}}
    wanted["composition"] = told.get("guidance", "")
    try:
        settings = settings_of(studio.world, "generate", given(wanted, shown))
    except SettingsError:
        settings = shown
    return text(told, "prompt"), settings, False


def _picture(studio: Studio, name: str) -> Path:
    if path := inside(studio.folder.pictures, name, PICTURE):
        return path
    raise HTTPException(404, "There is no such picture here.")


ROUTES = [
    Route("/draw", show),
    Route("/draw", posted(draw), methods=["POST"]),
    Route("/draw/{id}/events", stream),
    Route("/gallery", gallery),
    Route("/gallery/{name}", look),
    Route("/pictures/{name}", file),
    Route("/pictures/{name}", posted(remove), methods=["POST"]),
]
