"""A first-time user's whole way through the studio, in a real browser: run by ``make test-browser``."""

from __future__ import annotations

import signal
import statistics
import time

import pytest
from conftest import paint
from tiny import mini

from l2dm.studio.folder import StudioFolder
from l2dm.studio.jobs import Queue
from studio.driven import (
    CHROMIUM,
    DROPPED,
    LONG,
    Server,
    at_work,
    drop_folder,
    is_accessible,
    page_at,
    painted,
    teach,
)

pytestmark = pytest.mark.browser
playwright = pytest.importorskip("playwright.sync_api", reason="make test-browser installs it")


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


def test_a_world_is_made(page, server):
    is_accessible(page_at(page, server, "/"))
    page.fill("[name=base]", mini())
    page.click("text=Make the world")
    page.wait_for_selector("text=The world is made.")
    page.click("text=To the world")
    page.wait_for_selector("text=Nothing taught yet")
    for place in ("/", "/teach", "/draw", "/compare", "/gallery", "/exchange"):
        is_accessible(page_at(page, server, place))


def test_photos_are_judged_when_they_are_dropped(page, server, four, tmp_path):
    page_at(page, server, "/teach")
    (tmp_path / "notes.txt.pdf").write_bytes(b"%PDF-1.4 no picture")
    page.set_input_files("#files", [*four, tmp_path / "notes.txt.pdf"])
    page.wait_for_selector("text=1 is left out")
    page.wait_for_selector("text=not a photo; remove it")
    page.click("[aria-label='Remove notes.txt.pdf']")
    page.wait_for_selector("text=4 photos can be learnt from.")
    page.evaluate(DROPPED, ["drop", "dropped.png"])
    page.wait_for_selector("text=5 photos can be learnt from.")
    page.evaluate(DROPPED, ["paste", "from-the-clipboard.png"])
    page.wait_for_selector("text=6 photos can be learnt from")
    (tmp_path / "album" / "inner").mkdir(parents=True)
    for name in ("7.png", "inner/8.png"):
        paint(len(name)).save(tmp_path / "album" / name)
    drop_folder(page, tmp_path / "album")
    page.wait_for_selector("text=8 photos can be learnt from")
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


def test_a_learning_slows_no_page_and_is_paused_resumed_and_cancelled(page, server, four):
    """Median of 100 pages under 200 ms while it is at work; nothing on its page moves for good, which would
    slow it.
    """
    teach(page, server, four, "<max>", 3000)
    at_work(page)
    seconds = []
    for place in ("/", "/teach", "/draw", "/effect/2", "/gallery") * 20:
        began = time.monotonic()
        answer = page.request.get(server.base + place)
        seconds.append(time.monotonic() - began)
        assert answer.status == 200
    print(f"median of 100 pages while it learns: {1000 * statistics.median(seconds):.0f} ms")
    assert statistics.median(seconds) < 0.2
    page.wait_for_selector(".pill")
    endless = "document.getAnimations().filter((a) => a.effect.getTiming().iterations === Infinity).length"
    assert page.evaluate(endless) == 0
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
    assert page.locator("#pictures a img:not(.veil)").count() == 2
    assert page.locator(".veil:visible").count() == 0
    page.click("[data-look] >> nth=1")
    assert page.locator("[data-veil='2']:visible").count() == 2 == page.locator(".veil:visible").count()
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


def test_a_concept_is_renamed_and_the_world_branched_and_taken_back(page, server):
    page_at(page, server, "/rename?token=%3Cmax%3E")
    page.fill("#token", "<rex>")
    page.wait_for_selector("text=has learnt it already, as a dog")
    is_accessible(page)
    page.fill("#token", "<moe>")
    page.click("button.primary")
    page.wait_for_selector("text=<max> is called <moe> now, as version 4.")
    page.click("text=To the world")
    page.click("text=renamed <max> to <moe> dog")
    page.wait_for_selector("h1:has-text('Version 4')")
    is_accessible(page)
    assert page.input_value("#name") == "pets-v4"
    page.click("button:has-text('Branch')")
    page.wait_for_selector("text=l2dm studio pets-v4")
    is_accessible(page)
    page_at(page, server, "/versions/3")
    page.click("summary:has-text('Go back to version 3')")
    page.wait_for_selector("text=version 4 (renamed <max> to <moe> dog)")
    page.click("text=Yes, take 1 version back")
    page.wait_for_selector("h3:has-text('<max>')")
    page.click("text=Forget… >> nth=0")
    page.wait_for_selector("text=From now on")
    is_accessible(page)
    page.click("text=Leave it")


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


def test_every_page_is_small_and_painted_at_once(page, server):
    """First paint under 300 ms, at the best of three; under 150 kB without pictures."""
    job = next(Queue(StudioFolder(server.world)).all("learn")).job.id
    for place in (
        "/",
        "/teach",
        "/draw",
        "/compare",
        "/gallery",
        "/gallery/0000.png",
        "/exchange",
        "/effect/3",
        "/versions/3",
        "/forget?token=%3Cmax%3E",
        "/rename?token=%3Cmax%3E",
        f"/jobs/{job}",
    ):
        shown = [painted(page_at(page, server, place)) for _ in range(3)]
        print(f"{place.replace(job, 'ID'):26} first paint {min(shown)[0]:4.0f} ms, {shown[0][1]:4.0f} kB")
        assert min(shown)[0] < 300 and 20 < shown[0][1] < 150, place
