"""The studio's pages, asked as a browser asks."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from PIL import Image

from l2dm import World
from l2dm.studio.jobs import Queue
from l2dm.studio.work import MOST_TRIES, run
from l2dm.studio.worker import work_through
from studio.conftest import ORIGIN


def test_a_world_is_made_from_the_first_page(browser):
    assert "Make a world" in browser.get("/").text
    page = browser.post("/create", data={"base": "mini", "clip": ""})
    assert page.status_code == 200 and "Waiting for its turn" in page.text and browser.woken == ["learn"]
    twice = browser.post("/create", data={"base": "/etc", "clip": ""})
    assert twice.status_code == 422 and "is being made already" in twice.text


def test_what_is_typed_reaches_no_page_as_markup(browser, folder, world):
    evil = "<b>x</b><script>alert(1)</script>"
    found = Queue(folder).add("draw", {"prompt": evil, "settings": {}, "attention": False})
    found.tell(note=evil)
    found.update(state="failed", message=evil)
    page = browser.get(f"/draw?job={found.job.id}").text + browser.get("/draw", params={"prompt": evil}).text
    assert page.count("&lt;script&gt;alert(1)") >= 4 and "<script>alert" not in page and "<b>x" not in page


def test_pictures_are_drawn_one_by_one_and_tell_how(browser, folder, world):
    asked = {"prompt": "a  photo of a dog", "n": "2", "seed": "5", "steps": "2", "negative_prompt": "red"}
    page = browser.post("/draw", data=asked)
    assert "Waiting for its turn" in page.text and browser.woken == ["draw"]
    work_through(folder, "draw")
    [found] = Queue(folder).all("draw")
    assert found.job.state == "done" and found.job.found["pictures"] == ["0000.png", "0001.png"]
    told = [event["picture"] for event in found.events() if "picture" in event]
    assert told == ["0000.png", "0001.png"], "each is told when it is there"
    with Image.open(folder.pictures / "0001.png") as image:
        assert (image.text["prompt"], image.text["seed"], image.text["steps"]) == (
            "a photo of a dog",
            "6",
            "2",
        )
    together = World.open(folder.world).generate(
        "a photo of a dog", n=2, seed=5, steps=2, negative_prompt="red"
    )
    for name, picture in zip(told, together):
        assert (folder.pictures / name).read_bytes() == picture.png(), "the same as drawn at once"
    with browser.stream("GET", f"/draw/{found.job.id}/events") as events:
        lines = list(events.iter_lines())
    assert "0001.png" in lines[0] and "event: end" in lines
    page = browser.get("/draw?from=0001.png").text
    assert 'value="6"' in page and "a photo of a dog</textarea>" in page and 'value="red"' in page
    assert (
        "/gallery/0001.png" in browser.get("/gallery").text
        and "a photo of a dog" in browser.get("/gallery/0001.png").text
    )
    assert browser.get("/pictures/0001.png").content == (folder.pictures / "0001.png").read_bytes()
    browser.post("/pictures/0001.png", data={"sure": "yes"})
    assert not (folder.pictures / "0001.png").exists() and browser.get("/gallery/0001.png").status_code == 404


def test_a_cut_off_drawing_goes_on_where_it_was(folder, world):
    folder.make()
    found = Queue(folder).add(
        "draw", {"prompt": "a dog", "settings": {"n": 3, "steps": 1}, "attention": False}
    )
    found.update(state="running", tries=1)
    (folder.pictures / "0000.png").touch()
    found.tell(picture="0000.png")
    work_through(folder, "draw")
    assert found.job.found["pictures"] == ["0000.png", "0001.png", "0002.png"]


def test_a_job_whose_process_dies_again_and_again_is_given_up(folder):
    folder.make()
    found = Queue(folder).add("draw", {"prompt": "a dog", "settings": {}, "attention": False})
    found.update(state="running", tries=MOST_TRIES)
    assert run(found, folder, None) and found.job.state == "failed" and "without a word" in found.job.message


def test_a_refusal_is_the_librarys_own_sentence(browser, folder, world):
    page = browser.post("/draw", data={"prompt": "a photo of <rex> dog"})
    assert (
        page.status_code == 422 and "&lt;rex&gt; is not in this world; it has learnt nothing yet" in page.text
    )
    page = browser.post("/draw", data={"prompt": "a dog", "steps": "0"}, headers={"hx-request": "true"})
    assert page.text.startswith("<p class") and "steps = 0: expected a value between 1 and 1000" in page.text


def test_what_waits_can_be_cancelled_without_a_worker(browser, folder, world):
    browser.post("/draw", data={"prompt": "a dog"})
    [found] = Queue(folder).all("draw")
    browser.post(f"/jobs/{found.job.id}", data={"what": "cancel"})
    assert found.state == "cancelled"
    assert browser.post(f"/jobs/{found.job.id}", data={"what": "pause"}).status_code == 409
    work_through(folder, "draw")
    assert found.job.state == "cancelled" and not list(folder.pictures.iterdir())


def test_importing_the_library_imports_no_web_server():
    code = (
        "import sys, l2dm, l2dm.cli; print([n for n in ('starlette', 'uvicorn', 'jinja2') if n in "
        "sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize("path", ["/", "/draw", "/gallery"])
def test_pages_are_light(browser, folder, path, world):
    """Under 150 kB without pictures, everything they load from the studio itself."""
    page = browser.get(path)
    loaded = re.findall(r'(?:src|href)="(/static/[^"]+)"', page.text)
    assert len(loaded) == 4 and "http" not in page.text.replace(ORIGIN, "").replace("http-equiv", "")
    assert len(page.content) + sum(len(browser.get(place).content) for place in loaded) < 150_000


def test_old_drawings_make_room_but_nothing_else_goes(folder):
    folder.make()
    queue = Queue(folder)
    kinds = ["draw", "learn", "draw", "compare", "draw"]
    made = [queue.add(kind, {"prompt": "a dog"}) for kind in kinds]
    for found in made[:4]:
        found.update(state="done")
    queue.prune(1)
    assert [found.path.exists() for found in made] == [False, True, False, True, True]


def test_events_are_read_as_they_come_and_a_line_cut_off_hides_no_other(folder):
    folder.make()
    found = Queue(folder).add("draw", {"prompt": "a dog"})
    assert found.events() == []
    for i in range(3):
        found.tell(i=i)
        assert [event["i"] for event in found.events()] == list(range(i + 1))
    file = found.path / "events.jsonl"
    with file.open("a", encoding="utf-8") as cut:
        cut.write('{"i": 3, "pic')
    assert len(found.events()) == 3
    found.tell(i=4)  # on the line that was cut off: both are lost
    found.tell(i=5)
    assert [event["i"] for event in found.events()] == [0, 1, 2, 5]
    file.unlink()
    assert found.events() == []
