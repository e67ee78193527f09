"""Commands and settings in README and docs are real: all are parsed; those of README and guide are run, over
a tiny base.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import paint
from tiny import mini
from typer.main import get_command

from benchmarks.main import ROOT
from benchmarks.malformed import call
from benchmarks.readme import pages
from l2dm.backbone import source
from l2dm.cli.app import app
from l2dm.settings import GenerateSettings, LearnSettings

PAGES = [*pages(), ROOT / "CONTRIBUTING.md"]
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a language; of "shell" the indented ones."""
    text = page.read_text(encoding="utf-8")
    if language != "shell":
        return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
    outside = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return re.findall(r"(?:^|\n\n)((?:    \S.*\n?)+)", outside)


def commands(page: Path) -> list[list[str]]:
    """The words of every shell line; ``;`` parts two commands."""
    found = []
    for line in "\n".join(blocks(page, "shell")).splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";")
        lexer.whitespace_split, words = True, []
        for word in [*lexer, ";"]:
            if word.strip(";"):
                words.append(word)
            elif words:
                found.append(words)
                words = []
    return found


whole = functools.cache(lambda: get_command(app))


def parsed(words: list[str]) -> None:
    """Raises what the command line raises for what it does not understand."""
    command = whole()
    context = command.make_context("l2dm", list(words), resilient_parsing=True)
    while hasattr(command, "resolve_command"):
        name, command, words = command.resolve_command(context, words)
        assert command, f"no command {name}"
        context = command.make_context(
            name, list(words), parent=context, resilient_parsing=hasattr(command, "resolve_command")
        )


@each_page
def test_every_command_is_one(page):
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.M)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for words in commands(page):
        if words[:3] == ["accelerate", "launch", "-m"]:
            words = words[3:]
        match words:
            case ["l2dm", *rest]:
                parsed(rest)
            case ["make", target]:
                assert target in targets
            case ["python", "-m", module, *_]:
                assert importlib.util.find_spec(module), words
            case ["pip", "install", place]:
                assert place == "." or set(re.fullmatch(r"\.\[(.*)\]", place)[1].split(",")) <= set(extras)
            case _:
                raise AssertionError(f"{words}: a command that no one checks")
    text = page.read_text(encoding="utf-8")
    for module in re.findall(r"`python -m ([\w.]+)", text):
        assert importlib.util.find_spec(module), module
    for target in re.findall(r"`make ([\w-]+)`", text):
        assert target in targets
    for inner in re.findall(r"`pip install '\.\[([\w,]+)\]'`", text):
        assert set(inner.split(",")) <= set(extras)


@each_page
def test_every_setting_is_one(page):
    for text in blocks(page, "toml"):
        tables = tomllib.loads(text)
        tables = tables if all(isinstance(value, dict) for value in tables.values()) else {"learn": tables}
        for name, table in tables.items():
            {"learn": LearnSettings, "generate": GenerateSettings}[name].of(table)
    for text in blocks(page, "json"):
        LearnSettings.of(json.loads(text)["learn"]), GenerateSettings.of(json.loads(text)["generate"])


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder to work in, with photos of two things, where the shipped base is a tiny one that learns tokens
    in two steps.
    """
    folder = Path(shutil.copytree(mini(), tmp_path / "mini"))
    few = {"method": "textual-inversion", "steps": 2, "batch": 1, "report_pictures": 1}
    (folder / "l2dm.json").write_text(
        json.dumps({"learn": few, "generate": {"steps": 2, "composition": "collage"}})
    )
    monkeypatch.setattr(source, "MINI_FOLDER", folder)
    for name in ("rex", "tom"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            paint(i).save(tmp_path / f"photos/{name}/{i}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", ["README.md", pytest.param("docs/guide.md", marks=pytest.mark.slow)])
def test_a_newcomer_goes_through_the_page(desk, name):
    page = ROOT / name
    for text in blocks(page, "toml"):
        (desk / "mine.toml").write_text(re.sub(r"steps = \d+", "steps = 2", text))
    ran = [words for words in commands(page) if words[0] == "l2dm" and "bench" not in words]
    for words in ran:
        code, said = call(words[1:])
        assert code == 0, (words, said)
    assert len(ran) >= 4 and len(list((desk / "pictures").glob("[0-9]*.png"))) >= 4
    for code in blocks(page, "python"):
        shutil.rmtree(desk / "pets")
        exec(compile(code, name, "exec"), {})
        assert sorted(path.name for path in desk.glob("*.png")) == ["1.png", "2.png", "3.png", "4.png"]


def test_every_page_has_a_place_in_the_site():
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    folder = ROOT / "docs"
    names = [page.relative_to(folder).as_posix() for page in folder.rglob("*.md")]
    assert [name for name in names if f": {name}\n" not in site] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_asks_nothing_of_other_hosts(tmp_path):
    pytest.importorskip("mkdocs")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    built = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True
    )
    assert built.returncode == 0 and not built.stderr, built.stderr
    fetched = re.compile(r"""<(?:script|link|img|iframe)[^>]*(?:src|href)="?(https?:)?//""")
    assert [
        page.name for page in tmp_path.rglob("*.html") if fetched.search(page.read_text(encoding="utf-8"))
    ] == []
