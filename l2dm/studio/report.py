"""The pages as one folder to share: no form, no script, no server; of pictures only those that the world drew
itself.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..concept.words import file_stem
from ..errors import SettingsError, os_errors
from ..world.store import write_folder
from .app import STATIC, Studio, environment
from .folder import StudioFolder
from .jobs import Queue
from .pages.draw import picture_facts, picture_names
from .pages.effect import effect
from .pages.versions import version_facts
from .views import facts, opened, sheet, versions


class Links:
    """Addresses of the studio -> files of the report; what they need is collected in ``files``."""

    def __init__(self, studio: Studio):
        self.studio, self.world = studio, opened(studio.world)
        self.files: dict[str, bytes] = {}

    def __call__(self, address: str) -> str:
        place, asked = urlsplit(address), parse_qs(urlsplit(address).query)
        match place.path.strip("/").split("/"):
            case [""]:
                return "index.html"
            case ["effect" | "versions" as kind, number]:
                return f"{kind.removesuffix('s')}-{number}.html"
            case ["static", name]:
                return self._keep(f"static/{name}", (STATIC / name).read_bytes())
            case ["versions", number, "picture"]:
                name, cell = asked["of"][0], asked.get("cell")
                stem = file_stem(name.strip("<>")) + "-token" * (name[0] == "<") + "-one" * bool(cell)
                file = f"pictures/{number}-{stem}.png"
                return self._keep(file, sheet(self.world, int(number), name, int(cell[0]) if cell else None))
            case ["jobs", id, name]:
                return self._keep(
                    f"pictures/before-{id}.png", (self.studio.folder.jobs / id / name).read_bytes()
                )
            case ["gallery", name]:
                return f"picture-{Path(name).stem}.html"
            case ["pictures", name]:
                return self._keep(f"drawn/{name}", (self.studio.folder.pictures / name).read_bytes())
            case _:
                return "gallery.html"

    def _keep(self, file: str, content: bytes) -> str:
        self.files[file] = content
        return file


def write_report(world: Path, target: Path, root: Path | None = None) -> list[str]:
    """Write the folder ``target``, which must not exist yet, whole or not at all; the names of its pages,
    ``index.html`` first.

    Raises WorldError where there is no world, SettingsError where the folder cannot be written.
    """
    folder, templates = StudioFolder(world, root), environment()
    studio = Studio(folder, Queue(folder), lambda lane: None, templates)
    links = Links(studio)
    known: MutableMapping[str, Any] = templates.globals
    known.update(static=True, link=links)
    if target.exists():
        raise SettingsError(f"--report {target}: already exists; choose another folder")
    shown, names = links.world, picture_names(studio)
    pages = {
        "index.html": studio.render("world.html", here="world", **facts(shown), history=shown.history()[::-1])
    }
    for stop in versions(shown.manifest):
        told = version_facts(shown, stop.number)
        pages[f"version-{stop.number}.html"] = studio.render("version.html", here="world", **told)
        if stop.brought:
            found = effect(studio, shown.manifest, stop.number)
            pages[f"effect-{stop.number}.html"] = studio.render("effect.html", e=found, head=shown.version)
    pages["gallery.html"] = studio.render("gallery.html", names=names, page=1, pages=1, count=len(names))
    for name in names:
        told = picture_facts(folder.pictures / name)
        pages[f"picture-{Path(name).stem}.html"] = studio.render("picture.html", **told)

    def fill(place: Path) -> None:
        for file, content in {**links.files, **{name: page.encode() for name, page in pages.items()}}.items():
            (place / file).parent.mkdir(exist_ok=True)
            (place / file).write_bytes(content)

    with os_errors(f"--report {target}", SettingsError):
        write_folder(target.absolute(), fill)
    return list(pages)
