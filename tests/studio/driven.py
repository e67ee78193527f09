"""Driving the studio in a real browser: its server as a user starts it, and what is done and asked of its
pages.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
AXE = ROOT / "build/npm/node_modules/axe-core/axe.min.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
LONG = 120_000  # milliseconds that anything may take on a busy machine


class Server:
    """``l2dm studio`` as a user starts it."""

    def __init__(self, world: Path):
        self.world = world
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "l2dm", "studio", str(self.world), "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        self.address = re.search(r"http://\S+", self.process.stdout.readline())[0]
        self.base = self.address.split("/?")[0]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        self.process.send_signal(how)
        self.process.wait(timeout=20)


def is_accessible(page) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window, at 390 pixels in light and 1,600
    in dark colours.
    """
    for width, scheme in ((390, "light"), (1600, "dark")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            f"{page.url} is wider than {width}"
        )
        page.evaluate(AXE.read_text())
        found = page.evaluate("axe.run()")["violations"]
        serious = [(v["id"], v["nodes"][0]["html"]) for v in found if v["impact"] in ("serious", "critical")]
        assert serious == [], f"{page.url}, {scheme}, {width}"
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})


def teach(page, server, photos, token: str, steps: int) -> str:
    """Fill the form and start; the job's address."""
    page.goto(f"{server.base}/teach")
    page.set_input_files("#files", photos)
    page.wait_for_selector("text=4 photos can be learnt from")
    page.fill("#token", token)
    page.fill("#noun", "dog")
    page.fill("[name=steps]", str(steps))
    page.click("text=All settings")
    for name, value in {
        "prior_pictures": 2,
        "prior_steps": 2,
        "report_pictures": 1,
        "checkpoint_every": 5,
    }.items():
        page.fill(f"[name={name}]", str(value))
    page.click("text=Start learning")
    page.wait_for_url("**/jobs/*")
    return page.url


def at_work(page) -> None:
    """Wait until steps are made."""
    page.wait_for_selector(".curve")


def page_at(page, server, place: str):
    page.goto(server.base + place)
    return page


def painted(page) -> tuple[float, float]:
    """Milliseconds to the first paint of the page that is shown, and kB that it and all but its pictures came
    to.
    """
    for _ in range(200):  # not wait_for_function: it needs eval, which the page's own policy forbids
        if page.evaluate("performance.getEntriesByName('first-contentful-paint').length"):
            break
        page.wait_for_timeout(25)
    return tuple(
        page.evaluate("""() => {
          const loaded = ["navigation", "resource"].flatMap((kind) => performance.getEntriesByType(kind))
            .filter((entry) => entry.initiatorType !== "img");
          const bytes = loaded.reduce((sum, entry) => sum + entry.decodedBodySize, 0);
          return [performance.getEntriesByName("first-contentful-paint")[0].startTime, bytes / 1000];
        }""")
    )


DROPPED = """([kind, name]) => {
  const canvas = document.createElement("canvas"); canvas.width = canvas.height = 64;
  const pen = canvas.getContext("2d");
  pen.fillStyle = name.length % 2 ? "#a33" : "#3a3"; pen.fillRect(9, 9, 40, 30);
  canvas.toBlob((blob) => {
    const moved = new DataTransfer(); moved.items.add(new File([blob], name, {type: "image/png"}));
    document.dispatchEvent(kind === "drop" ? new DragEvent("drop", {dataTransfer: moved, bubbles: true})
      : new ClipboardEvent("paste", {clipboardData: moved, bubbles: true}));
  });
}"""


def drop_folder(page, folder: Path) -> None:
    """Drag a folder of the disk onto the page, as from a file manager."""
    data = {"items": [], "files": [str(folder)], "dragOperationsMask": 1}
    session = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        session.send("Input.dispatchDragEvent", {"type": kind, "x": 400, "y": 300, "data": data})
    session.detach()
