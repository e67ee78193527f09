"""The studio's Teach page, its jobs of learning, and what it says that they did."""

from __future__ import annotations

import io
import re
import shutil

import pytest
from conftest import QUICK, paint
from PIL import Image
from safetensors.torch import load_file
from tiny import mini

from l2dm import World
from l2dm.errors import LearningStopped, PhotoError, WorldLocked
from l2dm.studio.jobs import Queue
from l2dm.studio.photos import PhotoSet, sweep
from l2dm.studio.work import MOST_TRIES, Opened, run
from l2dm.studio.worker import work_through

SET = re.compile(r'name="photos" value="([^"]+)"')


def png(seed: int, size: tuple[int, int] = (80, 72)) -> bytes:
    content = io.BytesIO()
    paint(seed, size).save(content, "PNG")
    return content.getvalue()


def give(browser, *files: tuple[str, bytes], photos: str = "") -> tuple[str, str]:
    """Upload; the set's id, and the page's part that shows it."""
    answer = browser.post("/photos", data={"photos": photos}, files=[("files", file) for file in files])
    assert answer.status_code == 200
    return SET.search(answer.text)[1], answer.text


def start(browser, photos: str, token: str = "<rex>", **changes: object):
    typed = {**QUICK, "report_pictures": 1, **changes}
    return browser.post(
        "/teach",
        data={"photos": photos, "token": token, "noun": "dog", **{k: str(v) for k, v in typed.items()}},
    )


@pytest.fixture
def begun(browser, folder, world):
    """A learning of <rex> that waits for its turn."""
    assert (
        "Waiting for its turn" in start(browser, give(browser, ("a.png", png(1)), ("b.png", png(2)))[0]).text
    )
    [found] = Queue(folder).all("learn")
    return found


def weights(world) -> dict:
    [version] = (world / "versions").iterdir()
    return {(p.name, k): v for p in version.glob("*.safetensors") for k, v in load_file(p).items()}


def test_each_photo_is_judged_at_once_under_the_users_own_name(browser, folder, world):
    evil = "<img src=x onerror=alert(1)>.png"
    photos, said = give(
        browser,
        ("rex.png", png(1)),
        ("tiny.png", png(2, (20, 20))),
        ("notes.pdf", b"%PDF-1.4"),
        ("rex 2.png", png(1)),
        (evil, png(3)),
    )
    assert "2 photos can be learnt from, 3 are left out" in said
    assert (
        "at least 32 a side are needed" in said
        and "not a photo; remove it" in said
        and "the same picture as rex.png" in said
    )
    assert "<img src=x" not in said and str(folder.root) not in said
    assert Image.open(io.BytesIO(browser.get(f"/photos/{photos}/01.png").content)).size == (256, 256)
    _, said = give(browser, ("wide.png", png(4, (200, 80))), photos=photos)
    assert "3 photos can be learnt from" in said and "the centre square" in said
    removed = browser.post(
        "/photos/remove", data={"photos": photos, "remove": "01.png", "caption-06.png": " at  the sea "}
    ).text
    assert 'title="rex.png"' not in removed and 'value="at the sea"' in removed
    for file in ("../../world/manifest.json", "01.png/../../..", "names.json"):
        assert browser.post("/photos/remove", data={"photos": photos, "remove": file}).status_code == 200
    assert (folder.world / "manifest.json").exists()


def test_captions_come_with_their_photos(browser, folder, world):
    _, said = give(
        browser, ("rex.jpg.png", png(1)), ("rex.jpg.txt", b"a dog at the sea"), ("else.txt", b"of nothing")
    )
    assert 'value="a dog at the sea"' in said and "of nothing" not in said


def test_too_many_photos_are_refused_in_one_sentence(browser, world):
    assert (
        "31 photos; a concept takes at most 30" in give(browser, *[(f"{i}.png", b"x") for i in range(31)])[1]
    )


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("token=rex", "did you mean &#39;&lt;rex&gt;&#39;?"),
        ("token=<rex>", ""),
        ("token=", ""),
        ("noun=dog", ""),
        ("noun=a+1", "expected one to four words"),
    ],
)
def test_words_are_judged_while_they_are_typed(browser, world, query, said):
    page = browser.get(f"/teach/words?{query}").text
    assert said in page if said else not page.strip()


def test_nothing_is_queued_that_cannot_be_learnt(browser, folder, world):
    photos, _ = give(browser, ("a.png", png(1)))
    for answer, said in {
        start(browser, ""): "no photos yet",
        start(browser, photos, "rex"): "expected a name in angle brackets",
        start(browser, photos, steps="many"): "steps = &#39;many&#39;: expected int",
        start(browser, photos, learning_rate="nan"): "expected a value between",
        start(browser, photos, method="magic"): "expected one of",
        start(browser, give(browser, ("a.pdf", b"%PDF"))[0]): "none of these files can be used",
        start(browser, photos, **{"caption-01.png": "with <max>"}): "&lt;max&gt;",
    }.items():
        assert answer.status_code == 422 and said in answer.text, said
    assert not list(Queue(folder).all()) and browser.woken == []
    assert 'value="&lt;rex&gt;"' in answer.text and 'value="3"' in answer.text, (
        "what was typed is still there"
    )


def test_masks_come_with_their_photos_and_from_no_folder_of_the_disk(browser, folder, world, tmp_path):
    photos = give(browser, ("a.png", png(1)), ("a-masklabel.png", png(2)))[0]
    shown = browser.get("/teach").text
    assert re.search(
        r'<select id="f-masks"[^>]*><option selected></option><option>beside</option><option>alpha<', shown
    )
    answer = start(browser, photos, masks=str(tmp_path))
    assert (
        answer.status_code == 422
        and "a page takes no folder" in answer.text
        and not list(Queue(folder).all())
    )
    start(browser, photos, masks="beside")
    work_through(folder, "learn")
    [found] = Queue(folder).all("learn")
    assert found.job.state == "done", found.job.message
    assert World.open(world).manifest.present.settings["masks"] == "beside"


def test_a_concept_is_learnt_and_shown_and_taken_back(browser, folder, world, begun):
    work_through(folder, "learn")
    assert begun.job.state == "done", begun.job.message
    assert World.open(world).concepts == {"<rex>": "dog"}
    begun.update(state="running")  # as if a kill had come between the commit and our noting it
    assert run(begun, folder, Opened(world)) and begun.job.state == "done" and begun.job.found["version"] == 1
    page = browser.get(f"/jobs/{begun.job.id}").text
    assert "Learnt, as version 1" in page and "<polyline" in page and "at step 1" in page
    page = browser.get("/effect/1")
    assert (
        page.status_code == 200
        and "nothing before it that could be harmed" in page.text
        and "moved by" in page.text
    )
    for place in re.findall(r'<img src="([^"]+)"', page.text) + re.findall(
        r'<img src="([^"]+)"', browser.get("/").text
    ):
        assert browser.get(place.replace("&amp;", "&")).headers["content-type"] == "image/png", place
    assert "learnt it already, as a dog" in browser.get("/teach/words?token=<rex>").text
    assert "versions removed: 1" in browser.get("/forget?token=<rex>").text
    browser.post("/undo", data={"version": "1"})
    assert World.open(world).concepts == {} and browser.get("/effect/1").status_code == 404
    again = browser.post(f"/jobs/{begun.job.id}/again", data={"again": "yes"})
    assert "2 photos can be learnt from" in again.text and 'value="&lt;rex&gt;"' in again.text


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_samples_change_nothing_that_is_learnt(folder, world, photos, tmp_path, precision):
    seen = []

    def look(p):
        if p.sample:
            seen.append(p.sample(1)[0])

    for name, watch in (("a", look), ("b", lambda p: None)):
        place = tmp_path / name
        shutil.copytree(world, place)
        World.open(place).learn(
            photos,
            token="<rex>",
            noun="dog",
            on_progress=watch,
            threads=1,
            **{**QUICK, "precision": precision},
        )
    one, other = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert len(seen) == 3 and one.keys() == other.keys() and all(one[k].equal(other[k]) for k in one)


def test_pause_resume_and_the_very_same_weights(browser, folder, world, begun, tmp_path):
    """Paused after its first step, resumed, cut off and taken up: as in one go."""
    shutil.copytree(world, tmp_path / "straight")
    begun.ask("pause")
    work_through(folder, "learn")
    assert begun.state == "paused" and "nothing is lost" in browser.get(f"/jobs/{begun.job.id}").text
    later = start(browser, give(browser, ("c.png", png(5)))[0], "<max>")
    assert "Waiting" in later.text
    work_through(folder, "learn")
    assert begun.state == "paused" and not World.open(world).concepts, (
        "what is paused holds back what is behind it"
    )
    browser.post(f"/jobs/{begun.job.id}", data={"what": "resume"})
    browser.post(f"/jobs/{next(Queue(folder).all('learn')).job.id}", data={"what": "cancel"})
    work_through(folder, "learn")
    assert begun.state == "done"
    straight = World.open(tmp_path / "straight")
    straight.learn(begun.path / "photos", token="<rex>", noun="dog", **{**QUICK, "report_pictures": 1})
    one, other = weights(world), weights(straight.path)
    assert all(one[key].equal(other[key]) for key in other)


def test_cancelling_what_is_paused_leaves_no_trace_in_the_world(browser, folder, world, begun):
    begun.ask("pause")
    work_through(folder, "learn")
    assert list((world / "learning").glob("[0-9]*")), "its checkpoint is there"
    browser.post(f"/jobs/{begun.job.id}", data={"what": "cancel"})
    work_through(folder, "learn")
    assert (
        begun.job.state == "cancelled"
        and not list(world.glob("learning/[0-9]*"))
        and not World.open(world).concepts
    )


def test_a_learning_waits_while_another_process_writes(folder, world, begun, monkeypatch):
    refusals, waited = [WorldLocked("another process is writing"), PhotoError("and then this")], []

    def learn(*given, **named):
        raise refusals.pop(0)

    monkeypatch.setattr(World, "learn", learn)
    assert run(begun, folder, Opened(world), lambda seconds: waited.append(begun.job.message))
    assert waited == ["another process is writing"] and begun.job.message == "and then this"


def test_an_unforeseen_error_ends_the_job_and_not_the_queue(folder, world, begun, capsys, monkeypatch):
    monkeypatch.setattr(World, "learn", lambda *a, **k: 1 / 0)
    work_through(folder, "learn")
    assert (
        begun.job.state == "failed"
        and "ZeroDivisionError" in begun.job.message
        and "Traceback" in capsys.readouterr().err
    )


def test_photos_that_nobody_used_go(browser, folder, world):
    photos, _ = give(browser, ("a.png", png(1)))
    sweep(folder)
    assert (
        PhotoSet.get(folder, photos) is None
        and "give them once more" in browser.post("/photos/remove", data={"photos": photos}).text
    )


def test_pausing_often_is_no_failure(folder, world, begun, monkeypatch):
    def stop(*given, **named):
        begun.ask("pause")
        raise LearningStopped(0, 3)

    monkeypatch.setattr(World, "learn", stop)
    for _ in range(MOST_TRIES + 2):
        begun.ask("resume")
        assert run(begun, folder, Opened(world)) and begun.job.state == "paused"
    monkeypatch.setattr(
        World, "learn", lambda *given, **named: begun.ask("") or (_ for _ in ()).throw(LearningStopped(0, 3))
    )
    for _ in range(MOST_TRIES + 2):
        assert not run(begun, folder, Opened(world)) and begun.job.state == "running", (
            "its process was asked to end: another goes on"
        )


def test_a_job_that_is_damaged_hides_no_other(folder, world, begun):
    begun_later = Queue(folder).add("draw", {"prompt": "a dog"})
    (begun_later.path / "job.json").write_text("{")
    assert [found.path for found in Queue(folder).all()] == [begun.path]


def test_a_world_is_made_as_a_job(folder):
    folder.make()
    found = Queue(folder).add("create", {"base": mini(), "clip": ""})
    assert run(found, folder, Opened(folder.world)) and found.job.state == "done", found.job.message
    found = Queue(folder).add("create", {"base": mini(), "clip": ""})
    assert (
        run(found, folder, Opened(folder.world)) and "already exists and holds a world" in found.job.message
    )
