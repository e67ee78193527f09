"""The pages as a folder."""

from __future__ import annotations

import re
import urllib.parse

import pytest
from conftest import QUICK

from l2dm import World
from l2dm.errors import SettingsError, WorldError
from l2dm.studio.report import write_report
from l2dm.studio.work import _show_attention


def test_every_link_of_the_report_is_there_and_nothing_of_a_server(folder, world, photos, tmp_path):
    World.open(world).learn(photos, token="<rex>", noun="dog", **{**QUICK, "report_pictures": 1})
    folder.make()
    World.open(world).generate("a dog", n=1, steps=1)[0].save(folder.pictures / "0000.png")
    [written] = World.open(world).generate("a <rex> dog", n=1, seed=7, steps=2, show_attention=(0,))
    _show_attention(written, written.save(folder.pictures / "0001.png"))
    World.open(world).forget("<rex>")
    before = sorted(world.rglob("*"))
    assert write_report(world, tmp_path / "out") == [
        "index.html",
        "version-0.html",
        "version-1.html",
        "effect-1.html",
        "version-2.html",
        "gallery.html",
        "picture-0001.html",
        "picture-0000.html",
    ]
    linked = set()
    for page in (tmp_path / "out").glob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert (
            "<form" not in text
            and "<script" not in text
            and "<button" not in text
            and str(tmp_path) not in text
        )
        linked |= {urllib.parse.unquote(link) for link in re.findall(r'(?:src|href)="([^"#]+)"', text)}
    assert linked >= {
        "index.html",
        "effect-1.html",
        "drawn/0000.png",
        "drawn/0001-attention.png",
        "version-2.html",
        "picture-0000.html",
        "pictures/1-rex-token.png",
        "static/studio.css",
    }
    assert [link for link in linked if not (tmp_path / "out" / link).is_file()] == []
    assert sorted(world.rglob("*")) == before, "a report changes nothing"
    told = (tmp_path / "out" / "picture-0001.html").read_text(encoding="utf-8")
    shown = dict(re.findall(r"<dt>([^<]*)</dt><dd>([^<]*)", told))
    assert (shown["prompt"], shown["seed"], shown["steps"]) == ("a &lt;rex&gt; dog", "7", "2")


def test_a_report_overwrites_nothing(world, tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(SettingsError, match="already exists; choose another folder"):
        write_report(world, tmp_path / "out")
    with pytest.raises(WorldError, match="no world here"):
        write_report(tmp_path / "nowhere", tmp_path / "other")
