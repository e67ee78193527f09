"""What each kind of job does, by the public verbs of a world; what happens is told as events on disk."""

from __future__ import annotations

import dataclasses
import itertools
import re
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .. import L2DMError, LearningStopped, World
from ..concept.words import class_prompt
from ..errors import (
    TOLD,
    PromptError,
    PromptWarning,
    WorldError,
    WorldLocked,
    first_line,
    hearing,
)
from ..files import write_new
from ..generation.picture import Picture, contact_sheet, save_png
from ..report.attention import sheet, veils
from ..settings import LearnSettings
from .changes import branch, rename
from .exchange import bring_in, take_out
from .folder import StudioFolder
from .jobs import JobFolder
from .told import Interrupted, Told, committed, listen

MOST_TRIES = 3
#: The file of what a concept's noun looked like before it was learnt.
BEFORE = "0000.png"


class Opened:
    """The world as it is now; its model is kept from one job to the next while nothing changes."""

    def __init__(self, path: Path):
        self.path = path
        self._kept: World | None = None

    def __call__(self) -> World:
        fresh = World.open(self.path, verify=False)
        if self._kept is None or self._kept.manifest != fresh.manifest:
            self._kept = fresh
        return self._kept


def run(
    found: JobFolder, folder: StudioFolder, opened: Opened, pause: Callable[[float], None] = time.sleep
) -> bool:
    """Do one job to its end, and record which. False where this process was asked to end: the next one takes
    the job up.
    """
    reached = max((event["done"] for event in found.events() if event.get("stage") == "learn"), default=0)
    before = found.job
    tries = 1 if reached > before.found.get("reached", 0) else before.tries + 1
    found.update(state="running", tries=tries, message="", found={**before.found, "reached": reached})
    if found.control == "cancel":
        _cancel(found, folder, begun=before.state != "queued")
        return True
    if tries > MOST_TRIES:
        found.update(
            state="failed",
            message=f"its process ended {MOST_TRIES} times without a word, as when memory ends; see the "
            f"logs in {folder.root}",
        )
        return True
    try:
        while True:
            try:
                with _notes(found):
                    came = KINDS[before.kind](found, folder, opened)
                break
            except WorldLocked as busy:
                listen(found)
                if found.job.message != str(busy):
                    found.update(message=str(busy))
                pause(1.0)
        found.update(state="done", message="", found={**found.job.found, **came})
    except (Interrupted, LearningStopped):
        if found.control == "cancel":
            _cancel(found, folder)
        elif found.control == "pause":
            found.update(state="paused", message="", tries=0)
        else:
            found.update(tries=0)
            return False
    except L2DMError as error:
        found.update(state="failed", message=str(error))
    except Exception as error:  # ours: the log has it whole, the page one line, and the queue goes on
        traceback.print_exc()
        said = f"unexpected: {type(error).__name__}: {first_line(error)}; see the logs in {folder.root}"
        found.update(state="failed", message=said)
    return True


def create(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Make the world."""
    found.tell(stage="create", done=0, total=1)
    asked = found.job.asked
    for note in World.create(folder.world, asked["base"], asked["clip"] or None).backbone().notes:
        found.tell(note=note)
    return {}


def draw(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """One picture after another, each told as soon as it is drawn; picture i depends on seed + i alone."""
    asked = found.job.asked
    world = opened()
    settings = world.settings("generate", asked["settings"], place="the form")
    steps = (
        tuple(sorted({round(i * (settings.steps - 1) / 3) for i in range(4)}))
        if asked.get("attention")
        else ()
    )
    drawn = [event["picture"] for event in found.events() if "picture" in event]
    found.tell(stage="draw", done=len(drawn), total=settings.n)
    for i in range(len(drawn), settings.n):
        listen(found)
        one = dataclasses.replace(settings, n=1, seed=settings.seed + i)
        [picture] = world.generate(asked["prompt"], one, show_attention=steps)
        path = write_new(free_names(folder.pictures), picture.png())
        drawn.append(path.name)
        found.tell(picture=path.name, things=_show_attention(picture, path))
        found.tell(stage="draw", done=i + 1, total=settings.n)
    return {"pictures": drawn}


def _show_attention(picture: Picture, path: Path) -> list[str]:
    """Beside a picture: a sheet of where each thing was looked for, step by step, and of each thing a veil
    over the picture. Their names.
    """
    if not picture.attention:
        return []
    save_png(sheet(picture.image, picture.attention), path.with_name(f"{path.stem}-attention.png"))
    found = veils(picture.image, picture.attention)
    for number, (name, veil) in enumerate(found, 1):
        save_png(veil, path.with_name(f"{path.stem}-attention-{number}.png"), {"name": name})
    return [name for name, _ in found]


def compare(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """One prompt and its seeds, row by row: by the versions of the world, or by compositions. A row that
    cannot be drawn says why.
    """
    asked, world = found.job.asked, opened()
    settings = world.settings("generate", asked["settings"], place="the form")
    done = {(event["row"], event["column"]) for event in found.events() if "column" in event}
    found.tell(stage="draw", done=len(done), total=len(asked["rows"]) * settings.n)
    for row, which in enumerate(asked["rows"]):
        here = world.at(int(which)) if asked["over"] == "versions" else world
        chosen = settings if asked["over"] == "versions" else dataclasses.replace(settings, composition=which)
        for column in (column for column in range(settings.n) if (row, column) not in done):
            listen(found)
            try:
                [picture] = here.generate(
                    asked["prompt"], dataclasses.replace(chosen, n=1, seed=settings.seed + column)
                )
                if int(picture.provenance["world_version"]) != here.version or (
                    which != str(here.version) and here is not world
                ):
                    raise WorldError(f"{world.path}: version {which} was taken back meanwhile")
            except (PromptError, WorldError) as error:
                found.tell(refused=str(error), row=row)
                break
            found.tell(
                cell=write_new(free_names(folder.pictures), picture.png()).name, row=row, column=column
            )
            done.add((row, column))
            found.tell(stage="draw", done=len(done), total=len(asked["rows"]) * settings.n)
    return {"pictures": len(done)}


def learn(found: JobFolder, folder: StudioFolder, opened: Opened) -> dict[str, Any]:
    """Learn a concept, from where a killed or paused process left it."""
    asked = found.job.asked
    token, noun = asked["token"], asked["noun"]
    world = World.open(folder.world)
    if number := committed(found, world, token):
        return {"version": number}
    settings = world.settings("learn", asked["settings"], place="the form")
    if settings.report_pictures and not (found.path / BEFORE).exists():
        _draw_before(found, world, noun, settings)
    version = world.learn(
        found.path / "photos",
        token=token,
        noun=noun,
        settings=settings,
        skip_bad=True,
        on_progress=Told(found, settings.report_pictures),
    )
    return {"version": version.version}


def _draw_before(found: JobFolder, world: World, noun: str, settings: LearnSettings) -> None:
    """What the world draws of the noun before it learns the concept: the examination's own prompt, seeds and
    steps.
    """
    found.tell(stage="before", done=0, total=1)
    wanted = world.settings(
        "generate",
        {"n": settings.report_pictures, "steps": settings.prior_steps, "seed": 0, "composition": "none"},
    )
    pictures = world.generate(class_prompt(noun), wanted)
    save_png(contact_sheet([picture.image for picture in pictures]), found.path / BEFORE)
    found.tell(stage="before", done=1, total=1)


KINDS: dict[str, Callable[[JobFolder, StudioFolder, Opened], dict[str, Any]]] = {
    "create": create,
    "learn": learn,
    "draw": draw,
    "compare": compare,
    "export": take_out,
    "import": bring_in,
    "rename": rename,
    "branch": branch,
}


def free_names(folder: Path) -> Any:
    """Names for pictures in ``folder``, from the first that nothing has used yet."""
    numbers = [int(path.stem) for path in folder.glob("*.png") if re.fullmatch("[0-9]{4,12}", path.stem)]
    return (folder / f"{i:04d}.png" for i in itertools.count(1 + max(numbers, default=-1)))


def _cancel(found: JobFolder, folder: StudioFolder, begun: bool = True) -> None:
    """End a job for good, and drop what it had learnt so far. While another process writes to the world,
    wait.
    """
    if found.job.kind == "learn" and begun:
        world = World.open(folder.world, verify=False)
        while True:
            try:
                world.drop_unfinished(found.job.asked["token"])
                break
            except WorldLocked:
                time.sleep(1.0)
    found.update(state="cancelled", message="")


@contextmanager
def _notes(found: JobFolder) -> Iterator[None]:
    """Within the block what the library warns of becomes events, each once."""
    said = {event["note"] for event in found.events() if "note" in event}

    def tell(text: str) -> None:
        if text not in said:
            said.add(text)
            found.tell(note=text)

    with hearing((PromptWarning, *TOLD), tell):
        yield
