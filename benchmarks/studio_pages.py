"""Pictures of every page of the studio, light and dark, wide and narrow, each page's four in one file:
docs/studio/

python -m benchmarks.studio_pages [WORLD] [--out FOLDER] [--whole FOLDER]    (needs playwright and a chromium)

WORLD: one with a few concepts, such as demo/out/world of `make demo`; a copy of it is used. --whole: also
each picture as it was taken.
"""

from __future__ import annotations

import argparse
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from benchmarks.main import ROOT
from benchmarks.studio import chromium, studio
from l2dm import World
from l2dm.studio.folder import StudioFolder

WIDE, NARROW, HEIGHT = 1600, 390, 1000
LOOKS = [(WIDE, "light"), (WIDE, "dark"), (NARROW, "light"), (NARROW, "dark")]
SHOWN, GAP, COLOURS = 0.4, 12, 128  # scale, pixels between, and colours of what is kept


class Pages:
    """Takes the four pictures of whatever the tab shows."""

    def __init__(self, tab: Any, base: str, out: Path, whole: Path | None):
        self.tab, self.base, self.out, self.whole = tab, base, out, whole

    def go(self, place: str) -> None:
        self.tab.goto(self.base + place)

    def take(self, name: str) -> None:
        taken = []
        for width, scheme in LOOKS:
            self.tab.set_viewport_size({"width": width, "height": HEIGHT})
            self.tab.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self.tab.wait_for_timeout(200)
            taken.append(Image.open(io.BytesIO(self.tab.screenshot())).convert("RGB"))
            if self.whole:
                taken[-1].save(self.whole / f"{name}-{scheme}-{width}.png")
        self.tab.emulate_media(color_scheme="light")
        self.tab.set_viewport_size({"width": WIDE, "height": HEIGHT})
        small = [image.resize([round(SHOWN * s) for s in image.size], Image.LANCZOS) for image in taken]
        sheet = Image.new(
            "RGB", (sum(i.width for i in small) + GAP * (len(small) - 1), small[0].height), "#888888"
        )
        x = 0
        for image in small:
            sheet.paste(image, (x, 0))
            x += image.width + GAP
        sheet.quantize(COLOURS, dither=Image.Dither.NONE).save(self.out / f"{name}.png", optimize=True)


def visit(pages: Pages, concepts: dict[str, str], head: int) -> None:
    """Every page, with something on it."""
    tab, names = pages.tab, [f"{token} {noun}" for token, noun in concepts.items()]
    last = quote(list(concepts)[-1])
    for name, place in (
        ("world", "/"),
        ("effect", f"/effect/{head}"),
        ("version", f"/versions/{head - 1}"),
        ("forget", f"/forget?token={last}"),
        ("rename", f"/rename?token={last}"),
    ):
        pages.go(place)
        pages.take(name)
    pages.go("/draw")
    tab.fill("#prompt", f"a {names[0]} and a {names[1]} in a garden")
    tab.check("[name=attention]")
    tab.click("button.primary")
    tab.wait_for_selector("text=4 pictures of")
    pages.take("draw")
    tab.click("[data-look] >> nth=0")
    pages.take("draw-looked")
    tab.click("#pictures a >> nth=0")
    tab.click("[data-look] >> nth=1")
    pages.take("picture")
    pages.go("/compare")
    tab.fill("#prompt", f"a photo of {names[0]}")
    tab.click("button.primary")
    tab.wait_for_selector("text=the same seeds in every row")
    pages.take("compare")
    pages.go("/gallery")
    pages.take("gallery")
    pages.go("/exchange")
    pages.take("exchange")
    tab.click("text=Write the files")
    tab.wait_for_selector("text=Written:")
    pages.take("written")
    pages.go("/teach")
    tab.set_input_files(
        "#files", [*sorted((ROOT / "demo/photos/rex").glob("*.png"))[:4], ROOT / "pyproject.toml"]
    )
    tab.wait_for_selector("text=4 photos can be learnt from")
    tab.fill("#token", "<bello>")
    tab.fill("#noun", "dog")
    tab.fill("[name=steps]", "60")
    pages.take("teach")
    tab.click("text=All settings")
    tab.evaluate("document.querySelector('details[open]').scrollIntoView()")
    pages.take("teach-settings")
    tab.fill("[name=prior_pictures]", "4")
    tab.click("text=Start learning")
    tab.wait_for_selector(".samples li")
    tab.click("text=Pause")
    tab.wait_for_selector("text=nothing is lost")
    pages.take("learning")
    tab.click("text=Cancel")
    tab.wait_for_selector("text=the world is as it was")


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path, nargs="?", default=ROOT / "demo/out/world")
    parser.add_argument("--out", type=Path, default=ROOT / "docs/studio")
    parser.add_argument("--whole", type=Path)
    asked = parser.parse_args()
    for folder in filter(None, (asked.out, asked.whole)):
        folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        tab = browser.new_context(viewport={"width": WIDE, "height": HEIGHT}).new_page()
        tab.set_default_timeout(300_000)
        for name, world in (("first", Path(place) / "new"), ("", Path(place) / "pets")):
            if not name:
                shutil.copytree(asked.world, world)
            with studio(StudioFolder(world)) as (_, address):
                tab.goto(address)
                tab.wait_for_selector("h1")
                pages = Pages(tab, address.split("/?")[0], asked.out, asked.whole)
                if name:
                    pages.take(name)
                else:
                    visit(pages, World.open(world).concepts, World.open(world).version)
        browser.close()


if __name__ == "__main__":
    main()
