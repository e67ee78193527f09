"""Nothing that a client, a file or a world says becomes markup on a page: every field of every form, and a
world that means harm.
"""

from __future__ import annotations

import dataclasses
import re

import pytest
from handmade import told
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from l2dm.studio.jobs import Queue
from l2dm.studio.worker import work_through
from studio.markup import EVIL, Page, is_clean
from studio.test_teach import give, png

PLACES = ("/", "/teach", "/draw", "/compare", "/exchange", "/gallery", "/status")
#: What must be right for a form to be taken, where the page leaves it empty.
GOOD = {"prompt": "a dog", "token": "<new>", "noun": "dog"}
FORMS = {
    "/teach": "/teach",
    "/draw": "/draw",
    "/compare": "/compare",
    "/exchange/out": "/exchange",
    "/rename": "/rename?token=%3Crex%3E",
    "/forget": "/forget?token=%3Crex%3E",
    "/branch": "/versions/1",
    "/undo": "/versions/0",
}


@pytest.fixture
def story(folder):
    return told(folder.world, "+<rex>")


def look_everywhere(browser, folder) -> None:
    """Each page, and each page of a job with what it sends while one looks."""
    places = [
        *PLACES,
        "/versions/0",
        "/versions/1",
        "/effect/1",
        "/rename?token=<rex>",
        "/forget?token=<rex>",
    ]
    for found in Queue(folder).all():
        kind = found.job.kind
        places.append(
            f"/{kind}?job={found.job.id}" if kind in ("draw", "compare") else f"/jobs/{found.job.id}"
        )
        places.append(f"/teach?like={found.job.id}")
    for place in places:
        assert is_clean(browser.get(place).text), place


@pytest.mark.parametrize("action", FORMS)
def test_a_field_of_a_form_becomes_no_markup(browser, folder, story, action):
    page = Page(browser.get(FORMS[action]).text)
    [fields] = [fields for at, fields in page.forms if at == action][:1]
    good = {**fields, **{name: value for name, value in GOOD.items() if name in fields}}
    if action == "/teach":
        good["photos"], _ = give(browser, ("a.png", png(1)))
        good["caption-01.png"] = ""
    assert good
    for name in good:
        answer = browser.post(action, data={**good, name: EVIL})
        assert answer.status_code in (200, 409, 422) and is_clean(answer.text), name
    look_everywhere(browser, folder)


def test_what_is_queued_or_fails_with_markup_shows_none(browser, folder, story):
    browser.post("/draw", data={"prompt": EVIL.replace("<", "("), "negative_prompt": EVIL})
    for settings in (
        {"layout": EVIL},
        {"subjects": EVIL},
        {"n": "1", "steps": "1", "negative_prompt": "<b>"},
    ):
        browser.post("/draw", data={"prompt": "a dog", **settings})
    browser.post(
        "/exchange/in",
        data={"token": "<new>", "noun": "dog", "trigger": EVIL},
        files={"file": (f"{EVIL}.safetensors", b"no tensors")},
    )
    for lane in ("draw", "learn"):
        work_through(folder, lane, 0)
    states = {found.job.state for found in Queue(folder).all()}
    assert "failed" in states and states <= {"failed", "done"}
    look_everywhere(browser, folder)
    for found in Queue(folder).all():
        kind = found.job.kind if found.job.kind == "draw" else "jobs"
        with browser.stream("GET", f"/{kind}/{found.job.id}/events") as events:
            assert is_clean("\n".join(line.removeprefix("data:") for line in events.iter_lines()))


@pytest.mark.parametrize("typed", [{"base": EVIL, "clip": ""}, {"base": "mini", "clip": EVIL}])
def test_a_base_of_markup(browser, folder, typed):
    assert is_clean(browser.post("/create", data=typed).text)
    work_through(folder, "learn", 0)
    [found] = Queue(folder).all("create")
    page = browser.get(f"/jobs/{found.job.id}").text
    assert found.job.state == "failed" and "evil-tag" in page and is_clean(page)


@pytest.mark.parametrize(
    "query",
    [
        "/teach?token={}&noun={}&photos={}&like={}",
        "/teach/words?token={}",
        "/teach/words?noun={}",
        "/draw?prompt={}",
        "/draw?from={}",
        "/draw?job={}",
        "/compare?job={}",
        "/gallery?page={}",
        "/gallery/{}",
        "/rename?token={}",
        "/forget?token={}",
        "/versions/1/picture?of={}",
        "/versions/{}",
        "/jobs/{}",
        "/{}",
    ],
)
def test_an_address_becomes_no_markup(browser, folder, story, query):
    evil = re.sub("[^a-z]", lambda found: f"%{ord(found[0]):02x}", EVIL)
    assert is_clean(browser.get(query.replace("{}", evil)).text)


@pytest.mark.parametrize("changes", [{"noun": EVIL}, {"token": EVIL}, {"created": EVIL}, {}])
def test_a_world_that_means_harm(browser, folder, story, changes):
    """Whatever its history says, and a base, noun, token or date of markup: shown as text, or refused."""
    manifest = story.manifest
    journal = [line | {"at": EVIL, EVIL: EVIL, "was": EVIL} for line in manifest.journal]
    journal.append({"at": "2026-01-01", "action": EVIL, "version": 1, "notes": EVIL})
    token, noun = changes.get("token", "<rex>"), changes.get("noun", "dog")
    version = dataclasses.replace(manifest.present, **changes, concepts={token: noun})
    dataclasses.replace(manifest, base=EVIL, journal=journal, versions={1: version}).write(folder.world)
    page = browser.get("/")
    assert page.status_code == (422 if "noun" in changes or "token" in changes else 200), page.text
    assert "evil-tag" in page.text and is_clean(page.text)
    look_everywhere(browser, folder)


def test_a_picture_that_tells_markup(browser, folder, story):
    told, things = PngInfo(), PngInfo()
    for name in ("prompt", "seed", "negative_prompt", EVIL):
        told.add_itxt(name[:70], EVIL)
    things.add_itxt("name", EVIL)
    Image.new("RGB", (8, 8)).save(folder.pictures / "0000.png", pnginfo=told)
    Image.new("RGB", (8, 8)).save(folder.pictures / "0000-attention-1.png", pnginfo=things)
    for place in ("/gallery/0000.png", "/gallery", "/draw?from=0000.png"):
        page = browser.get(place)
        assert page.status_code == 200 and is_clean(page.text), place
