"""What users call has types that an editor can complete and that a type checker can hold them to."""

from __future__ import annotations

import ast
import dataclasses
import shutil
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import l2dm
from l2dm import changes

ROOT = Path(l2dm.__file__).parent
SETTINGS = [(l2dm.LearnSettings, changes.LearnChanges), (l2dm.GenerateSettings, changes.GenerateChanges)]


def defined() -> dict[str, ast.stmt]:
    """The package's classes, names of types and ``__all__``'s functions, but the backbone's, which are about
    diffusers' own, and the programs'.
    """
    beside, found = ("backbone", "bench", "cli", "studio"), {}
    for path in ROOT.rglob("*.py"):
        if path.relative_to(ROOT).parts[0] in beside:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0])[0].isupper():
                found[ast.unparse(node.targets[0])] = node
            elif isinstance(node, ast.ClassDef) or (
                isinstance(node, ast.FunctionDef) and node.name in l2dm.__all__
            ):
                found[node.name] = node
    return found


def hints(node: ast.stmt) -> dict[str, list[ast.expr]]:
    """Public name in ``node`` -> the types of its parameters, of its result or of its value."""
    if isinstance(node, ast.Assign):
        return {"is": [node.value]}
    if isinstance(node, ast.FunctionDef):
        given = node.args
        every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        return {node.name: [hint for hint in (*(a.annotation for a in every if a), node.returns) if hint]}
    found: dict[str, list[ast.expr]] = {"its parents": node.bases}
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and not ast.unparse(line.target).startswith("_"):
            found[ast.unparse(line.target)] = [line.annotation]
        elif isinstance(line, ast.FunctionDef) and (not line.name.startswith("_") or line.name == "__init__"):
            found.setdefault(line.name, []).extend(hints(line)[line.name])
    return found


def words(hint: ast.expr) -> set[str]:
    """The names in a type, those within quotes too."""
    quoted = [n.value for n in ast.walk(hint) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
    within = [ast.parse(text, mode="eval").body for text in quoted if text.isidentifier()]
    return {n.id for part in (hint, *within) for n in ast.walk(part) if isinstance(n, ast.Name)}


def test_no_public_signature_is_any():
    known, open_, seen, vague = defined(), list(l2dm.__all__), set(), []
    while open_:
        name = open_.pop()
        if name in seen or name not in known:
            continue
        seen.add(name)
        for member, found in hints(known[name]).items():
            named = set().union(*map(words, found)) if found else set()
            vague += [f"{name}.{member}"] * ("Any" in named)
            open_ += named
    assert not vague
    assert {"World", "Loaded", "Version", "Picture", "PhotoReport", "Progress", "Export", "Findings"} <= seen


@pytest.mark.parametrize(("settings", "keywords"), SETTINGS)
def test_the_keywords_of_learn_and_generate_are_the_settings(settings, keywords):
    own = typing.get_type_hints(settings)
    wider = {"masks", "class_pictures", "layout"}
    given = typing.get_type_hints(keywords)
    assert list(given) == [field.name for field in dataclasses.fields(settings)]
    for name, kind in given.items():
        assert {own[name], type(None)} <= set(typing.get_args(kind)), name
        assert name in wider or set(typing.get_args(kind)) == {own[name], type(None)}, name


def test_a_type_checker_knows_every_setting(tmp_path):
    checker = shutil.which("pyrefly", path=str(Path(sys.executable).parent))
    assert checker, "pyrefly is among the packages of the extra test"
    (tmp_path / "use.py").write_text(
        "from l2dm import World\n"
        "world = World.open('w')\n"
        "version = world.learn('photos', token='<rex>', noun='dog', steps=3, method='l2dm')\n"
        "pictures = world.generate('a <rex> dog', n=1, composition='none')\n"
        "world.learn('photos', token='<rex>', noun='dog', step=3)\n"
        "world.generate('a <rex> dog', n='one')\n"
        "world.settings('learn').rank + 1, world.settings('generate').rank\n"
    )
    (tmp_path / "pyrefly.toml").touch()  # or its rules are those of a folder without a project
    found = subprocess.run(
        [
            checker,
            "check",
            "--threads",
            "1",
            "--output-format",
            "min-text",
            "--python-interpreter-path",
            sys.executable,
            "--search-path",
            str(ROOT.parent),
            "use.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    lines = sorted(
        {int(line.split(":")[1]) for line in found.stdout.splitlines() if line.startswith("ERROR")}
    )
    assert lines == [5, 6, 7], found.stdout + found.stderr
