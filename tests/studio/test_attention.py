"""Where it looked: a veil of each named thing over a drawn picture."""

from __future__ import annotations

import numpy as np
from conftest import QUICK
from PIL import Image

from l2dm import World
from l2dm.generation.attention_recorder import AttentionSnapshot
from l2dm.report.attention import EDGE, veils
from l2dm.studio.jobs import Queue
from l2dm.studio.worker import work_through


def test_a_veil_hides_most_where_most_was_looked():
    low, high = np.zeros((4, 4), np.float32), np.zeros((4, 4), np.float32)
    low[0, 0], high[0, 0], high[3, 3] = 0.2, 0.6, 0.2
    shots = [AttentionSnapshot(s, n, m) for s, m in ((0, low), (5, high)) for n in ("<rex> dog", "cat")]
    found = veils(Image.new("RGB", (64, 32)), tuple(shots), 32)
    assert [name for name, _ in found] == ["<rex> dog", "cat"]
    assert {veil.size for _, veil in found} == {(32, 16)} and {veil.mode for _, veil in found} == {"RGBA"}
    alpha = np.asarray(found[0][1])[..., 3]
    assert alpha[0, 0] == round(0.8 * 255) and alpha[0, -1] == 0 and 0 < alpha[-1, -1] < 0.4 * 255
    assert tuple(np.asarray(found[0][1])[0, 0, :3]) == (255, 255, 255), "white where it looked most"


def test_a_veil_shows_the_part_that_a_thing_is_held_to():
    map, part = np.ones((4, 4), np.float32), np.zeros((4, 4), bool)
    part[:, :2] = True
    [(_, veil)] = veils(Image.new("RGB", (32, 32)), (AttentionSnapshot(0, "<rex>", map, part),), 32)
    assert np.asarray(veil)[0, 0].tolist() == np.asarray(veil)[9, 15].tolist() == [*EDGE, 255]
    assert np.asarray(veil)[9, 9, 3] == np.asarray(veil)[9, 20, 3] == 204


def test_a_picture_is_drawn_with_what_was_looked_for(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    asked = {"prompt": "a <rex> dog", "n": "2", "steps": "2", "attention": "on"}
    browser.post("/draw", data=asked)
    work_through(folder, "draw")
    [found] = Queue(folder).all("draw")
    assert found.job.state == "done", found.job.message
    page = browser.get(f"/draw?job={found.job.id}").text
    assert page.count('data-look="') == 1 and "&lt;rex&gt;</button>" in page
    assert page.count('class="veil"') == 2 and 'data-look="1"' in browser.get("/gallery/0001.png").text
    with Image.open(folder.pictures / "0001-attention-1.png") as veil:
        assert veil.mode == "RGBA" and veil.text["name"] == "<rex>"
    assert browser.get("/pictures/0001-attention-1.png").status_code == 200
    assert [*browser.get("/gallery").text.split("0001-attention")] == [browser.get("/gallery").text]
    browser.post("/pictures/0001.png", data={"sure": "yes"})
    left = sorted(path.name for path in folder.pictures.iterdir())
    assert left == ["0000-attention-1.png", "0000-attention.png", "0000.png"]
