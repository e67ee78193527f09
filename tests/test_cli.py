"""The command line: the main job, for people and as JSON."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from commands import REX
from conftest import QUICK
from PIL import Image
from tiny import mini

from l2dm.world.lesson_checkpoint import LessonCheckpoint


@pytest.fixture
def quick(tmp_path):
    path = tmp_path / "quick.toml"
    path.write_text(
        "[learn]\n" + "".join(f"{k} = {v}\n" for k, v in QUICK.items()) + "[generate]\nsteps = 2\nn = 2\n"
    )
    return path


def test_the_main_job_as_json(run, quick, photos, tmp_path):
    world = tmp_path / "w"
    assert json.loads(run("init", world, "--base", mini(), "--json")[1])["version"] == 0
    learnt = json.loads(
        run(
            "learn",
            world,
            photos,
            *REX,
            "--settings",
            quick,
            "--steps",
            2,
            "--json",
        )[1]
    )
    assert (learnt["version"], learnt["photos"], learnt["steps"]) == (1, 3, 2)
    for first in (0, 2):
        drawn = json.loads(
            run("generate", world, "a <rex> dog", "--settings", quick, "--out", tmp_path / "out", "--json")[1]
        )
        assert [os.path.basename(f) for f in drawn["files"]] == [f"{first + i:04d}.png" for i in range(2)], (
            "nothing is overwritten"
        )
    with Image.open(drawn["sheet"]) as sheet:
        assert sheet.width > 200
    assert json.loads(run("show", world, "--json")[1])["concepts"] == [
        {"token": "<rex>", "noun": "dog", "photos": 3, "version": 1}
    ]
    assert json.loads(run("undo", world, "--json")[1])["dropped"] == "<rex>"
    assert [e["action"] for e in json.loads(run("history", world, "--json")[1])["history"]] == [
        "init",
        "learn",
        "undo",
    ]
    assert json.loads(run("check", photos, "--json")[1])["problems"] == []


def test_the_main_job_for_people(run, quick, photos, tmp_path):
    world, seen = tmp_path / "w", tmp_path / "seen.toml"
    seen.write_text(quick.read_text().replace("report_pictures = 0", "report_pictures = 1"))
    assert "fresh world" in run("init", world, "--base", mini())[1]
    code, out, err = run("learn", world, photos, *REX, "--settings", quick)
    assert code == 0 and "learnt <rex> dog from 3 photos" in out and "images/s" in err
    page = tmp_path / "card.html"
    assert "no examination yet" in run("report", world)[1]
    run("learn", world, photos, "--token", "<tom>", "--noun", "cat", "--settings", seen)
    assert "drift" in run("report", world, "--html", page)[1] and "concept" in page.read_text()
    assert "<tom> is forgotten" in run("forget", world, "<tom>")[1]
    assert "<rex>" in run("show", world)[1] and "learn" in run("history", world)[1]
    assert "taken back" in run("undo", world)[1]


def test_attention_is_shown_beside_the_pictures(run, quick, tmp_path):
    world, out = tmp_path / "w", tmp_path / "out"
    run("init", world, "--base", mini())
    draw = (
        "generate",
        world,
        "a dog and a cat",
        "--settings",
        quick,
        "--out",
        out,
        "--composition",
        "l2dm",
        "--json",
    )
    drawn = json.loads(run(*draw, "--show-attention")[1])
    assert [os.path.basename(f) for f in drawn["attention"]] == ["0000-attention.png", "0001-attention.png"]
    with Image.open(drawn["attention"][0]) as shown:
        assert shown.size == (2 * 128, 2 * (128 + 16)), "two steps, two things"
    page = (out / "0000-attention.html").read_text()
    assert page.count("data:image/png") == 2 * (1 + 4) and "dog step 0, dog step 1" in page
    assert len(json.loads(run(*draw, "--attention-steps", "1")[1])["attention"]) == 2
    plain = json.loads(run(*draw, "--subjects", "cat")[1])
    assert "attention" not in plain and plain["subjects"] == ["cat"] and drawn["subjects"] == ["dog", "cat"]
    assert (
        plain["composition"].startswith("none (l2dm needs two things or more; found cat)")
        and plain["parts"] == []
    )
    assert "note: composition: none (oaa needs" in run(*draw[:-2], "oaa", "--subjects", "dog")[1]
    for steps, message in (
        ("2", "expected a step between 0 and 1"),
        ("x", "--attention-steps x: expected whole numbers"),
    ):
        assert message in run(*draw, "--attention-steps", steps)[2]
    assert (
        "nothing to show the attention of" in run("generate", world, "mist", "--show-attention", "--json")[2]
    )


def test_bench_multi_says_what_it_does_not_know(run, tmp_path):
    for option, value, message in (
        ("--compositions", "none,l2md", "unknown composition 'l2md'; known: all, none, collage"),
        ("--seeds", "0,-1", "from 0 on"),
    ):
        code, _, err = run(
            "bench", "multi", tmp_path / "w", "--out", tmp_path / "out", option, value, "--json"
        )
        assert code == 2 and message in err and not (tmp_path / "out").exists()


def test_errors_are_json_where_json_was_asked_for(run, tmp_path):
    code, out, err = run("show", tmp_path / "none", "--json")
    assert (code, out) == (2, "") and json.loads(err)["error"] == "WorldError"


def test_ctrl_c_ends_with_130_and_tells_how_to_go_on(run, quick, photos, tmp_path, monkeypatch):
    world = tmp_path / "w"
    run("init", world, "--base", mini())
    save = LessonCheckpoint.save

    def interrupted(self, *args):
        save(self, *args)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(LessonCheckpoint, "save", interrupted)
    code, _, err = run("learn", world, photos, *REX, "--settings", quick, "--json")
    assert code == 130 and "run the same command again" in err


@pytest.mark.parametrize(
    "command", ["", "check", "init", "learn", "generate", "show", "history", "report", "forget", "undo"]
)
def test_help_teaches(run, command):
    code, out, _ = run(*([command] if command else []), "--help")
    assert code == 0 and "Usage" in out and len(out.splitlines()) > 6


def test_help_and_show_do_not_wait_for_torch():
    code = (
        "import sys; sys.argv = ['l2dm', '--version']; from l2dm.cli import main\ntry: main()\nexcept "
        "SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
