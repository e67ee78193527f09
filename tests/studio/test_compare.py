"""One prompt over versions, and over compositions."""

from __future__ import annotations

import pytest
from conftest import QUICK
from PIL import Image

from l2dm import World
from l2dm.errors import WorldError
from l2dm.studio.jobs import Queue
from l2dm.studio.worker import work_through


def ask(browser, folder, **changes):
    asked = {"prompt": "a <rex> dog", "over": "versions", "n": "2", "seed": "4", "steps": "1", **changes}
    answer = browser.post("/compare", data=asked)
    return answer, next(Queue(folder).all("compare"), None)


def test_versions_and_compositions_side_by_side(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    World.open(world).forget("<rex>")
    answer, found = ask(browser, folder, versions=["0", "1", "2"])
    assert answer.status_code == 200 and browser.woken == ["draw"]
    work_through(folder, "draw")
    assert found.job.state == "done", found.job.message
    cells = {(e["row"], e["column"]): e["cell"] for e in found.events() if "cell" in e}
    refused = {e["row"]: e["refused"] for e in found.events() if "refused" in e}
    assert set(cells) == {(1, 0), (1, 1)} and set(refused) == {0, 2} and "not in this world" in refused[0]
    [alone] = World.open(world).at(1).generate("a <rex> dog", n=1, seed=5, steps=1)
    assert (folder.pictures / cells[1, 1]).read_bytes() == alone.png()
    page = browser.get(f"/compare?job={found.job.id}").text
    assert page.count("<img src") == 2 and "seed 5" in page and "it has learnt nothing yet" in page
    _, found = ask(
        browser,
        folder,
        prompt="a dog and a cat",
        over="compositions",
        compositions=["none", "collage"],
        n="1",
    )
    work_through(folder, "draw")
    told = [Image.open(folder.pictures / e["cell"]).text["guidance"] for e in found.events() if "cell" in e]
    assert told == ["none", "collage"]


def test_what_cannot_be_compared_is_refused(browser, folder, world):
    assert "choose at least one" in ask(browser, folder)[0].text
    answer, found = ask(browser, folder, versions=["0", "9", "../1"], prompt="a <b>x</b>")
    assert answer.status_code == 422 and found is None and "<b>x" not in answer.text


def test_a_version_that_is_not_there(world):
    with pytest.raises(WorldError, match=r"no version 3; it has 0$"):
        World.open(world).at(3)
    assert World.open(world).at(0).version == 0
