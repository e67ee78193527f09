"""The line of versions: looked at, gone back along, branched from; and a concept that is called otherwise."""

from __future__ import annotations

import re

import pytest
from conftest import QUICK
from handmade import told

from l2dm import World
from l2dm.studio.jobs import Queue
from l2dm.studio.work import Opened, run
from l2dm.studio.worker import work_through
from l2dm.world.repair import examine

STORY = ("+<rex>", "+<tom>", "-<rex>", "+<ada>")


@pytest.fixture
def story(folder):
    return told(folder.world, *STORY)


def test_each_version_shows_what_it_held(browser, folder, story):
    page = browser.get("/").text
    assert [*map(int, re.findall(r'href="/versions/([0-9])"', page))] == [0, 1, 2, 3, 4]
    assert "forgot &lt;rex&gt; dog" in page
    held = [re.findall(r"<h3>&lt;([a-z]+)&gt;", browser.get(f"/versions/{n}").text) for n in range(5)]
    assert held == [[], ["rex"], ["tom", "rex"], ["tom"], ["ada", "tom"]]
    assert (
        "/effect/2" in browser.get("/versions/2").text and "/effect/" not in browser.get("/versions/3").text
    )
    assert browser.get("/effect/3").status_code == browser.get("/versions/5").status_code == 404


def test_one_goes_back_over_several_versions(browser, folder, story):
    page = browser.get("/versions/1").text
    assert "take 3 versions back" in page and "forgot &lt;rex&gt; dog" in page
    for wrong in (
        {"version": "3", "to": "1"},
        {"version": "4", "to": "4"},
        {"version": "4", "to": "7"},
        {"version": "4", "to": "-1"},
    ):
        assert browser.post("/undo", data=wrong).status_code == 422 and World.open(folder.world).version == 4
    assert browser.post("/undo", data={"version": "4", "to": "1"}).status_code == 200
    world = World.open(folder.world)
    assert world.version == 1 and list(world.concepts) == ["<rex>"]
    assert examine(folder.world, deep=True).faults == []


def test_a_branch_is_a_world_beside_this_one(browser, folder, story):
    assert 'value="world-v2"' in browser.get("/versions/2").text
    page = browser.post("/branch", data={"version": "2", "name": "world-v2"})
    assert "from version 2 of world" in page.text and browser.woken == ["draw"]
    work_through(folder, "draw")
    [found] = Queue(folder).all("branch")
    assert found.job.state == "done", found.job.message
    made = World.open(folder.world.with_name("world-v2"))
    assert list(made.concepts) == ["<rex>", "<tom>"] and World.open(folder.world).version == 4
    assert "opens with: l2dm studio world-v2" in browser.get(f"/jobs/{found.job.id}").text
    assert 'value="world-v2b"' in browser.get("/versions/2").text


@pytest.mark.parametrize(
    ("version", "name", "said"),
    [
        ("2", "world", "there is such a folder"),
        ("2", "taken", "there is such a folder"),
        ("2", "../out", "expected one plain name"),
        ("2", "/tmp/out", "expected one plain name"),
        ("2", ".hidden", "expected one plain name"),
        ("2", "out.studio", "expected one plain name"),
        ("2", "con", "expected one plain name"),
        ("2", "a\nb", "expected one plain name"),
        ("2", "", "expected one plain name"),
        ("9", "out", "no version 9"),
        ("-1", "out", "no version -1"),
        ("two", "out", "no version -1"),
    ],
)
def test_what_cannot_be_branched_is_refused_at_once(browser, folder, story, version, name, said):
    folder.world.with_name("taken").mkdir()
    answer = browser.post("/branch", data={"version": version, "name": name})
    assert answer.status_code == 422 and said in answer.text and not list(Queue(folder).all())


def test_a_branching_whose_process_dies_after_its_end_is_done(browser, folder, story):
    browser.post("/branch", data={"version": "2", "name": "out"})
    [found] = Queue(folder).all("branch")
    work_through(folder, "draw")
    found.update(state="running")  # as if the last lines had never been written
    assert run(found, folder, Opened(folder.world)) and found.job.state == "done"


def test_a_branching_takes_no_world_for_its_own_that_came_before(browser, folder, story):
    browser.post("/branch", data={"version": "2", "name": "out"})
    [found] = Queue(folder).all("branch")
    story.branch(folder.world.with_name("out"), 2)
    work_through(folder, "draw")
    assert found.job.state == "failed" and "there is such a folder" in found.job.message


def test_a_concept_is_called_otherwise(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **{**QUICK, "report_pictures": 1})
    assert "New token" in browser.get("/rename", params={"token": "<rex>"}).text
    for was, to, said in (
        ("<rex>", "<rex>", "has learnt it already"),
        ("<tom>", "<max>", "has not learnt"),
        ("<rex>", "max", "in angle brackets"),
    ):
        answer = browser.post("/rename", data={"was": was, "token": to})
        assert answer.status_code == 422 and said in answer.text
    page = browser.post("/rename", data={"was": "<rex>", "token": "<max>"})
    assert "&lt;rex&gt; to &lt;max&gt;" in page.text and browser.woken == ["learn"]
    work_through(folder, "learn")
    [found] = Queue(folder).all("rename")
    assert found.job.state == "done", found.job.message
    assert World.open(world).concepts == {"<max>": "dog"}
    found.update(state="running")
    assert run(found, folder, Opened(world)) and found.job.found["version"] == 2, "once is enough"
    assert "is called &lt;max&gt; now, as version 2" in browser.get(f"/jobs/{found.job.id}").text
    page = browser.get("/").text
    assert "renamed &lt;rex&gt; to &lt;max&gt; dog" in page and "3 photos, 3 steps" in page
    assert browser.get("/effect/1").status_code == 200 and browser.get("/effect/2").status_code == 404
    pictures = re.findall(r'src="(/versions/[^"]+)"', page)
    assert len(pictures) == 1 and browser.get(pictures[0].replace("&amp;", "&")).status_code == 200


def test_what_was_taken_in_has_no_steps_to_tell_of(browser, folder, world, photos, tmp_path):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    World.open(world).branch(tmp_path / "other")
    World.open(world).undo()
    World.open(world).import_concept(tmp_path / "other", "<rex>")
    page = browser.get("/")
    assert page.status_code == 200 and "3 photos" in page.text and "steps," not in page.text
