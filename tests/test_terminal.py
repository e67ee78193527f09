"""Nothing of a world, photo, file or prompt acts on the terminal; every refusal is one line, and JSON where
that was asked for.
"""

from __future__ import annotations

import dataclasses
import errno
import io
import json
import os
import warnings

import pytest
from conftest import paint
from filelock import FileLock, SoftFileLock
from rich.console import Console
from test_schema import GOOD

from benchmarks.malformed import call
from l2dm.cli import terminal
from l2dm.cli.progress import Steady
from l2dm.errors import PromptError, WorldError, WorldLocked
from l2dm.files import write_whole
from l2dm.generation import personal_tokens
from l2dm.world import founding, lock, store
from l2dm.world.manifest import Manifest

HOSTILE = "w[old][b]\x1b]0;title\x07\x9b31m\u202egnp.exe\udcff"

FRESH = dataclasses.replace(GOOD, head=0, versions={})


@pytest.fixture
def run(capsys, monkeypatch):
    def call_main(*arguments):
        from l2dm.cli import app

        code = terminal.run(app, [str(a) for a in arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return call_main


def test_every_character_that_acts_is_shown():
    assert terminal.plain(HOSTILE) == r"w[old][b]\x1b]0;title\x07\x9b31m\u202egnp.exe\udcff"
    assert json.loads(terminal.as_json({HOSTILE: 1})) == {HOSTILE: 1}
    assert not terminal._UNSAFE.search(terminal.as_json({HOSTILE: HOSTILE}))


def test_names_of_worlds_and_photos_are_shown_letter_by_letter(run, tmp_path):
    world = tmp_path / HOSTILE
    world.mkdir()
    FRESH.write(world)
    (world / "noun").mkdir()
    paint(0).save(world / "noun" / f"{HOSTILE}.png")
    (world / "noun" / f"{HOSTILE}.txt").write_text("[/b] a \x1b[31mdog")
    for code, out, err in (
        run("history", world),
        run("check", world / "noun"),
        run("show", tmp_path / f"{HOSTILE}2"),
    ):
        assert not terminal._UNSAFE.search((out + err).replace("\n", "")), (code, out, err)
    assert "w[old][b]" in run("show", tmp_path / f"{HOSTILE}2")[2]


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["learn", "w"], "l2dm learn --help"),
        (["nonsense"], "No such command"),
        (["show", "w", "--bold"], "--bold"),
        (["bench", "multi"], "bench multi --help"),
        (["generate", "w", "a dog", "-n", "x"], "valid int"),
    ],
)
def test_a_wrong_command_line_is_one_line_and_json_where_asked(run, arguments, words):
    code, _, err = run(*arguments)
    assert code == 2 and err.startswith("error: ") and words in err and len(err.splitlines()) == 1
    code, _, err = run(*arguments, "--json")
    assert code == 2 and words in json.loads(err)["message"]


def test_what_is_wrong_in_a_settings_file_is_said_of_the_file(run, tmp_path):
    FRESH.write(tmp_path)
    for content, words in (
        ("steps = 0", "steps = 0"),
        ("step = 1", "did you mean"),
        ("a = " + "[" * 5000, "readable"),
    ):
        (tmp_path / "s.toml").write_text(f"[generate]\n{content}")
        code, _, err = run("generate", tmp_path, "a dog", "--settings", tmp_path / "s.toml")
        assert code == 2 and f"{tmp_path / 's.toml'}: " in err and words in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.EIO, errno.EMFILE, 0]
)
def test_a_refusal_of_the_system_is_one_line(run, monkeypatch, number, tmp_path):
    def refuse(*args, **kwargs):
        raise OSError(number, "refused", str(tmp_path / "a\nb"))

    monkeypatch.setattr("l2dm.concept.check_photos", refuse)
    code, _, err = run("check", tmp_path)
    assert code == 2 and len(err.splitlines()) == 1 and r"a\nb: " in err


@pytest.mark.parametrize("name", ["x" * 300, "file/world", "file"])
@pytest.mark.parametrize("verb", [["init"], ["show"], ["undo"], ["check"]])
def test_impossible_places_are_one_line(tmp_path, name, verb):
    (tmp_path / "file").write_text("")
    code, said = call([*verb, str(tmp_path / name)])
    assert code == 2 and said.startswith("error: ") and len(said.splitlines()) == 1
    assert os.listdir(tmp_path) == ["file"]


def test_a_prompt_that_is_not_text_is_refused():
    for prompt in ("a \udcff dog", "a \x00 dog", b"a dog"):
        with pytest.raises(PromptError, match="expected text"):
            personal_tokens(prompt, [])


def test_half_an_output_never_stays(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "no space")

    write_whole(tmp_path / "a.png", b"before")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        with pytest.raises(OSError):
            write_whole(tmp_path / "a.png", b"after")
    assert os.listdir(tmp_path) == ["a.png"] and (tmp_path / "a.png").read_bytes() == b"before"


@pytest.mark.parametrize("name", ["con", "pets.", "NUL.world"])
def test_windows_own_names_are_no_worlds(tmp_path, name):
    with pytest.raises(WorldError, match="Windows has the name"):
        founding.check_free(tmp_path / name, "nt")
    founding.check_free(tmp_path / name, "posix")


def test_a_failed_world_leaves_nothing_and_a_killed_one_is_taken_over(tmp_path, monkeypatch):
    world = tmp_path / "a" / "b" / "world"

    def full(self, world):
        write_whole(world / f"{store.PART}x", b"half")
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "write", full)
        with pytest.raises(OSError):
            founding.found(world, GOOD)
    assert os.listdir(tmp_path) == []
    world.mkdir(parents=True)
    (world / ".part-manifest.json-7").write_text("{")
    (world / ".lock").touch()
    founding.check_free(world)
    founding.found(world, GOOD)
    assert set(os.listdir(world)) - {".lock"} == {"manifest.json", "manifest-copy.json"}
    with pytest.raises(WorldError, match="holds a world"):
        founding.found(world, GOOD)


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    """A copied world brings another system's lock file; the marker in its place goes with its holder."""

    def missing(self):
        raise OSError(errno.ENOSYS, "no locks here")

    monkeypatch.setattr(FileLock, "_acquire", missing)
    (tmp_path / ".lock").touch()
    warnings.simplefilter("error")
    for _ in range(2):
        with lock.locked(tmp_path):
            assert (tmp_path / ".locked").exists()
            with pytest.raises(WorldLocked, match=r"remove .*\.locked"), lock.locked(tmp_path):
                pass
    other = SoftFileLock(tmp_path / ".locked")
    other.acquire()
    (tmp_path / ".locked").write_text(f"{2**22 + 1}\n" + (tmp_path / ".locked").read_text().split("\n", 1)[1])
    with lock.locked(tmp_path):
        pass
    other.release(force=True)


def test_progress_is_told_line_by_line_where_there_is_no_terminal():
    log = io.StringIO()
    with Steady(console=Console(file=log), every=1e9) as progress:
        task = progress.add_task("learning <rex>", total=3, note="")
        for done in (1, 2, 3, 3):
            progress.update(task, completed=done, note="7 images/s")
    assert log.getvalue() == "learning <rex> 3/3 7 images/s\n"
    log = io.StringIO()
    with Steady(console=Console(file=log), every=0) as progress:
        task = progress.add_task("learning", total=3)
        for done in (1, 2, 3):
            progress.update(task, completed=done)
    assert log.getvalue().splitlines() == ["learning 1/3", "learning 2/3", "learning 3/3"]


@pytest.mark.parametrize("mark", ["\u200e", "\u200f", "\u202e", "\u2066", "\ufeff"])
def test_marks_that_turn_the_direction_of_writing_are_shown(mark):
    assert terminal.plain(f"a{mark}b") == f"a\\u{ord(mark):04x}b"
