"""A first-time user's whole way through the studio, in a real browser: run by ``make test-browser``."""

from __future__ import annotations

import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import paint
from tiny import mini

from l2dm.studio.folder import StudioFolder
from l2dm.studio.jobs import Queue

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")

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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    assert CHROMIUM, "no chromium here: apt-get install chromium"
    found = Server(tmp_path_factory.mktemp("browser") / "pets")
    yield found
    queue = Queue(StudioFolder(found.world))
    for job in queue.all():
        job.ask("cancel")
    while queue.next("learn") or queue.next(
        "draw"
    ):  # their workers end when there is nothing left and no studio is open
        time.sleep(0.2)
    found.stop()


@pytest.fixture(scope="module")
def chromium():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def context(chromium, server):
    found = chromium.new_context(viewport={"width": 1280, "height": 800})
    found.set_default_timeout(LONG)
    page = found.new_page()
    page.goto(server.address)
    page.wait_for_selector("h1")
    page.close()
    return found


@pytest.fixture
def page(context):
    """A tab; an error in its console is one of the test."""
    found, said = context.new_page(), []
    found.on(
        "console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None
    )
    found.on("pageerror", lambda error: said.append(str(error)))
    yield found
    found.close()
    assert said == []


@pytest.fixture
def four(tmp_path):
    for i in range(4):
        paint(i).save(tmp_path / f"{i}.png")
    return sorted(tmp_path.glob("*.png"))


def is_accessible(page) -> None:
    """axe-core finds nothing serious, and nothing is wider than the window, at 390 pixels in light and 1,600 in dark colours."""
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


def test_a_world_is_made(page, server):
    is_accessible(page_at(page, server, "/"))
    page.fill("[name=base]", mini())
    page.click("text=Make the world")
    page.wait_for_selector("text=The world is made.")
    page.click("text=To the world")
    page.wait_for_selector("text=Nothing taught yet")
    for place in ("/", "/teach", "/draw", "/compare", "/gallery", "/exchange"):
        is_accessible(page_at(page, server, place))


def page_at(page, server, place: str):
    page.goto(server.base + place)
    return page


def test_photos_are_judged_when_they_are_dropped(page, server, four, tmp_path):
    page_at(page, server, "/teach")
    (tmp_path / "notes.txt.pdf").write_bytes(b"%PDF-1.4 no picture")
    page.set_input_files("#files", [*four, tmp_path / "notes.txt.pdf"])
    page.wait_for_selector("text=1 is left out")
    page.wait_for_selector("text=not a photo; remove it")
    page.click("[aria-label='Remove notes.txt.pdf']")
    page.wait_for_selector("text=4 photos can be learnt from.")
    page.evaluate("""() => {
      const canvas = document.createElement("canvas"); canvas.width = canvas.height = 64;
      canvas.toBlob((blob) => {
        const moved = new DataTransfer(); moved.items.add(new File([blob], "dropped.png", {type: "image/png"}));
        document.dispatchEvent(new DragEvent("drop", {dataTransfer: moved, bubbles: true}));
      });
    }""")
    page.wait_for_selector("text=5 photos can be learnt from.")
    page.fill("#token", "rex")
    page.wait_for_selector("text=did you mean '<rex>'?")
    is_accessible(page)


def test_learnt_looked_at_and_taken_back(page, server, four):
    teach(page, server, four, "<rex>", 20)
    page.wait_for_selector("text=While it learns")
    page.reload()  # nothing is lost by it
    page.wait_for_selector("text=Learnt, as version 1.")
    is_accessible(page)
    page.click("text=See what it did")
    page.wait_for_selector("text=What did <rex> dog do?")
    is_accessible(page)
    page.click("text=Take back")
    page.wait_for_selector("text=Nothing taught yet")


def test_learnt_again_watched_in_two_tabs_and_kept(page, context, server, four):
    job = teach(page, server, four, "<rex>", 20)
    other = context.new_page()
    other.goto(job)
    for tab in (page, other):
        tab.wait_for_selector("text=Learnt, as version 2.")
    other.close()
    page.click("text=See what it did")
    page.click("text=Keep")
    page.wait_for_selector("h3:has-text('<rex>')")
    page.goto(f"{server.base}/teach")
    page.fill("#token", "<rex>")
    page.wait_for_selector("text=has learnt it already, as a dog")


def test_a_learning_is_paused_resumed_and_cancelled(page, server, four):
    teach(page, server, four, "<max>", 3000)
    at_work(page)
    page.click("text=Pause")
    page.wait_for_selector("text=nothing is lost")
    is_accessible(page)
    page.click("text=Resume")
    page.wait_for_selector("text=left")
    page.click("text=Cancel")
    page.wait_for_selector("text=Cancelled; the world is as it was.")


def test_a_killed_studio_leaves_the_learning_at_work(page, chromium, context, server, four):
    job = teach(page, server, four, "<max>", 60)
    at_work(page)
    page.goto("about:blank")  # the tab is closed before its studio
    server.stop(signal.SIGKILL)
    server.start()
    tab = chromium.new_context().new_page()
    tab.set_default_timeout(LONG)
    tab.goto(server.address)
    tab.wait_for_selector("h1")
    tab.goto(server.base + "/jobs/" + job.rsplit("/", 1)[1])
    tab.wait_for_selector("text=Learnt, as version 3.")
    page.goto(server.address)
    page.wait_for_selector("h3:has-text('<max>')")
    is_accessible(page)


def test_two_concepts_are_drawn(page, server):
    page_at(page, server, "/draw")
    page.locator("#prompt").press_sequentially("a <r")
    page.keyboard.press("Enter")  # completes
    page.locator("#prompt").press_sequentially(" and a ")
    page.click(".chip:has-text('<max>')")
    assert page.input_value("#prompt") == "a <rex> dog and a <max> dog"
    page.fill("[name=n]", "2")
    page.fill("[name=steps]", "4")
    page.check("[name=attention]")
    page.click("button.primary")
    page.wait_for_selector("text=2 pictures of")
    assert page.locator("#pictures a img").count() == 2
    page.click("#pictures summary >> nth=0")
    is_accessible(page)
    page.click("#pictures a >> nth=1")
    page.wait_for_selector("text=How it was made")
    is_accessible(page)
    page.click("text=Use these settings")
    page.wait_for_url("**/draw?from=*")
    assert (
        page.input_value("#prompt") == "a <rex> dog and a <max> dog"
        and page.input_value("[name=seed]") == "1"
    )


def test_a_concept_goes_out(page, server):
    page_at(page, server, "/exchange")
    page.check("[value=embedding]")
    page.click("text=Write the files")
    page.wait_for_selector("text=Written:")
    is_accessible(page)
    with page.expect_download() as arrived:
        page.click("text=Download")
    assert arrived.value.suggested_filename == "pets-max-embedding.zip"


def test_versions_are_compared(page, server):
    page_at(page, server, "/compare")
    page.fill("#prompt", "a <rex> dog")
    page.fill("[name=n]", "1")
    page.fill("[name=steps]", "2")
    page.click("button.primary")
    page.wait_for_selector("text=the same seeds in every row")
    assert page.locator("#grid img").count() == 2 and page.locator("#grid .nothing").count() == 1
    is_accessible(page)


def test_pages_answer_at_once_while_a_concept_is_learnt(page, server, four):
    """Median of 100 pages under 200 ms; first paint under 300 ms."""
    teach(page, server, four, "<ivy>", 3000)
    at_work(page)
    seconds, paints = [], []
    for place in ("/", "/teach", "/draw", "/effect/3", "/gallery") * 20:
        began = time.monotonic()
        answer = page.request.get(server.base + place)
        seconds.append(time.monotonic() - began)
        assert answer.status == 200
    for place in ("/", "/teach", "/draw"):
        page_at(page, server, place)
        page.wait_for_function("performance.getEntriesByName('first-contentful-paint').length")
        paints.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
    page.click(".pill")
    page.click("text=Cancel")
    page.wait_for_selector("text=Cancelled")
    print(
        f"\nmedian of 100 pages: {1000 * statistics.median(seconds):.0f} ms; first paints: {[round(p) for p in paints]} ms"
    )
    assert statistics.median(seconds) < 0.2 and min(paints) < 300
