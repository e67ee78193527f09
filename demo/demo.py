"""The main job: three personal concepts learnt one after another, then drawn alone in new places and
together.

    make demo        (or: python demo/demo.py [--out FOLDER])

Leaves sheet.png, front.png, index.html and the world itself in the output folder. docs/demo.png and
docs/front.png are the first two of these.
"""

from __future__ import annotations

import argparse
import functools
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from l2dm import LearnSettings, World
from l2dm.cli.progress import Steady
from l2dm.report import Page
from l2dm.report.card import card, row_cells
from l2dm.world.manifest import Version

HERE = Path(__file__).parent
PLACES = ("on the beach", "in the grass", "in the snow", "on a blue background")
CELL, GAP, MARGIN = 128, 4, 400


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=HERE / "out", help="where the results go (emptied first)")
    parser.add_argument(
        "--method", default=LearnSettings.method, help="how the past is kept: a row of l2dm/methods.py"
    )
    options = parser.parse_args()
    out: Path = options.out
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    console, began = Console(), time.monotonic()
    concepts = [
        (HERE / "photos" / name, about)
        for name, about in json.loads((HERE / "concepts.json").read_text()).items()
    ]
    world = World.create(out / "world")
    rows: list[tuple[str, list[Image.Image]]] = []
    page = Page(
        "l2dm demo",
        "Three personal concepts, learnt one after another on the shipped base, then drawn alone and "
        "together.",
    )
    page.heading("Learning")
    columns = (TextColumn("{task.description:28}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    learnt = []
    with Steady(*columns, console=console) as progress:
        draw = functools.partial(drawn, world, progress)
        for folder, about in concepts:
            version = taught(world, progress, folder, about, options.method)
            learnt.append(version)
            photos = [Image.open(p).convert("RGB") for p in sorted(folder.glob("*.png"))]
            name = f"{about['token']} {about['noun']}"
            rows.append((f"photos of {name}", photos[:4]))
            fresh = [draw(f"a photo of {name} {place}", 1, seed)[0] for seed, place in enumerate(PLACES)]
            rows.append((f"{name}, just learnt", fresh))
            page.pictures(photos, f"photos of {name}")
            page.pictures(fresh, f"a photo of {name} … {', '.join(PLACES)} (right after learning)")
        at_the_end(page, rows, draw, [about for _, about in concepts])
    page.heading("What the last concept did to the others")
    report = card(world.manifest)
    page.table(
        ["concept", "likeness before", "now", "change", "own"], [row_cells(row) for row in report["concepts"]]
    )
    page.table(["noun", "drift"], [[row["noun"], row["drift"]] for row in report["nouns"]])
    page.heading("How it was made")
    page.table(
        ["concept", "photos", "seconds", "steps"],
        [[f"{v.token} {v.noun}", v.photos, v.seconds, v.settings["steps"]] for v in learnt],
    )
    page.save(out / "index.html")
    sheet(rows).save(out / "sheet.png", optimize=True)
    front(rows).save(out / "front.png", optimize=True)
    console.print(
        f"done in {time.monotonic() - began:.0f} s: {out / 'sheet.png'} and {out / 'index.html'}",
        highlight=False,
    )


def drawn(
    world: World, progress: Progress, prompt: str, n: int, seed: int = 0, **changes: Any
) -> list[Image.Image]:
    """``n`` pictures, while a bar of their own moves."""
    task = progress.add_task(prompt[:28], total=n)
    pictures = world.generate(
        prompt, n=n, seed=seed, on_picture=lambda done: progress.update(task, completed=done), **changes
    )
    return [picture.image for picture in pictures]


def taught(world: World, progress: Progress, folder: Path, about: dict[str, str], method: str) -> Version:
    """One concept learnt, while a bar for each stage moves."""
    tasks: dict[str, TaskID] = {}
    labels = {
        "prior": "prior pictures",
        "memory": "memory",
        "learn": f"learning {about['token']}",
        "report": "report card",
    }

    def show(p: Any) -> None:
        label = labels[p.stage]
        if label not in tasks:
            tasks[label] = progress.add_task(label, total=p.total)
        progress.update(tasks[label], completed=p.done)

    how = {"method": method, "checkpoint_every": 1000}  # a stopped demo begins anew
    return world.learn(folder, token=about["token"], noun=about["noun"], on_progress=show, **how)


def at_the_end(
    page: Page, rows: list, draw: Callable[..., list[Image.Image]], concepts: list[dict[str, str]]
) -> None:
    """Every concept again, several together, and the base's own nouns."""
    page.heading("After all three")
    for about in concepts:
        name = f"{about['token']} {about['noun']}"
        images = draw(f"a photo of {name} in the grass", 4, 100)
        rows.append((f"{name} in the grass, at the end", images))
        page.pictures(images, f"a photo of {name} in the grass")
    page.heading("Together")
    names = [f"{about['token']} {about['noun']}" for about in concepts]
    for together in (names[:2], names[1:], names):
        prompt = f"a photo of {', '.join(together[:-1])} and {together[-1]} on the beach"
        for guidance, label in (("none", "plain"), ("collage", "collage")):
            images = draw(prompt, 4, 200, composition=guidance)
            rows.append((f"{', '.join(n.split()[0] for n in together)} on the beach, {label}", images))
            page.pictures(images, f"{prompt} ({label})")
    page.heading("What the base still draws")
    for noun in dict.fromkeys(about["noun"] for about in concepts):
        images = draw(f"a photo of a {noun}", 4, 300)
        rows.append((f"a {noun} (not ours)", images))
        page.pictures(images, f"a photo of a {noun}")


def sheet(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """One labelled row of four pictures for each entry."""
    canvas = Image.new("RGB", (MARGIN + 4 * (CELL + GAP), len(rows) * (CELL + GAP)), "white")
    pen = ImageDraw.Draw(canvas)
    for r, (label, images) in enumerate(rows):
        pen.text((10, r * (CELL + GAP) + CELL // 2 - 8), label, fill="black", font_size=16)
        for c, image in enumerate(images):
            canvas.paste(
                image.resize((CELL, CELL), Image.Resampling.BICUBIC),
                (MARGIN + c * (CELL + GAP), r * (CELL + GAP)),
            )
    return canvas


def front(rows: list[tuple[str, list[Image.Image]]]) -> Image.Image:
    """The first pictures of what matters: a photo of each concept, two of it at the end, two of concepts
    together. ``rows`` as of ``sheet``.
    """
    photos, ended, together = rows[0:6:2], rows[6:9], rows[10:15:2]
    head, wide = 34, CELL + GAP
    canvas = Image.new("RGB", (5 * wide + 4 * GAP, head + 3 * wide), "white")
    pen = ImageDraw.Draw(canvas)
    for row, each in enumerate(zip(photos, ended, together)):
        pictures = [each[0][1][0], *each[1][1][:2], *each[2][1][:2]]
        for column, picture in enumerate(pictures):
            left = column * wide + 2 * GAP * ((column > 0) + (column > 2))
            canvas.paste(picture.resize((CELL, CELL), Image.Resampling.BICUBIC), (left, head + row * wide))
    titles = ("one of the photos", "after all three were learnt", "together in one prompt")
    for title, column, gaps in zip(titles, (0, 1, 3), (0, 1, 2)):
        pen.text((column * wide + 2 * GAP * gaps + 2, 10), title, fill="black", font_size=14)
    return canvas


if __name__ == "__main__":
    main()
