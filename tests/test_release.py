"""What is released: one version everywhere, a changelog that names it, and a wheel that runs in an
environment of its own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from commands import REX
from conftest import QUICK

import l2dm

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_one_version_everywhere():
    assert re.fullmatch(r"\d+\.\d+\.\d+", l2dm.__version__)
    heads = re.findall(r"^## (.*)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert heads[0] == "Unreleased" and heads[1].split(" - ")[0] == l2dm.__version__
    cited = dict(re.findall(r"^(version|date-released): (.*)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert cited == {"version": l2dm.__version__, "date-released": heads[1].split(" - ")[1]}
    assert 'dynamic = ["version"]' in (ROOT / "pyproject.toml").read_text()


def test_the_changelog_has_the_headings_of_keep_a_changelog_and_no_line_twice():
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    for release in "\n".join(lines).split("\n## ")[1:]:
        heads = re.findall(r"^### (.*)$", release, re.M)
        assert set(heads) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
        assert len(heads) == len(set(heads)), release.splitlines()[0]
    said = [line for line in lines if line.startswith("- ")]
    assert len(said) == len(set(said))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel made from the sdist, as ``make build`` makes it."""
    place = tmp_path_factory.mktemp("dist")
    tree = place / "tree"
    leave = shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__", "results", "docs")
    shutil.copytree(ROOT, tree, ignore=leave, symlinks=True)
    build = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place), str(tree)]
    made = subprocess.run(build, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    assert [file.name for file in place.glob("*.tar.gz")] == [f"l2dm-{l2dm.__version__}.tar.gz"]
    (found,) = place.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_what_is_shipped_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"l2dm", f"l2dm-{l2dm.__version__}.dist-info"}
    for part in (
        "py.typed",
        "backbone/mini/model_index.json",
        "evaluation/judge/judge.json",
        "bench/concepts/concepts.json",
        "studio/templates/draw.html",
        "studio/static/studio.css",
    ):
        assert f"l2dm/{part}" in names, part


def interpreter(version: str) -> str | None:
    """A Python of ``version`` that runs: this one, one on the path, or one installed beside this one, as
    version managers keep them.
    """
    beside = sorted(Path(sys.base_prefix).parent.glob(f"{version}.*/bin/python"))
    found = [sys.executable] if version == HERE else [shutil.which(f"python{version}"), *map(str, beside)]
    runs = (
        one for one in found if one and not subprocess.run([one, "-c", ""], capture_output=True).returncode
    )
    return next(runs, None)


@pytest.mark.slow
@pytest.mark.parametrize("version", PYTHONS)
def test_the_wheel_runs_in_an_environment_of_its_own(wheel, version, photos, tmp_path):
    """Its dependencies are this environment's where the interpreter is the same, else installed anew."""
    if (python := interpreter(version)) is None:
        pytest.skip(f"no python{version} on this machine: the wheel is untried on it")
    place = tmp_path / "empty"
    scripts = place / ("Scripts" if os.name == "nt" else "bin")
    plain = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*command: object) -> str:
        said = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, env=plain, cwd=tmp_path
        )
        assert said.returncode == 0, f"{command}: {said.stdout[-1000:]}{said.stderr[-2000:]}"
        return said.stdout

    if version == HERE:
        venv.create(place, with_pip=True)
        own = run(scripts / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
        (Path(own) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        run(scripts / "pip", "install", "-q", "--no-deps", wheel)
    else:
        run(python, "-m", "venv", place)
        if subprocess.run(
            [scripts / "pip", "download", "-q", "--no-deps", "-d", place, "packaging"], env=plain
        ).returncode:
            pytest.skip(f"no package index is reached: the wheel is untried on Python {version}")
        run(scripts / "pip", "install", "-q", "-c", ROOT / "constraints.txt", "torch==2.13.0", wheel)
    assert run(scripts / "l2dm", "--version").strip() == f"l2dm {l2dm.__version__}"
    where = run(scripts / "python", "-c", "import l2dm; print(l2dm.__file__)")
    assert Path(where.strip()).is_relative_to(place.resolve()), "the installed one, not this tree"
    (tmp_path / "few.toml").write_text("[learn]\n" + "".join(f"{k} = {v}\n" for k, v in QUICK.items()))
    world = tmp_path / "world"
    run(scripts / "l2dm", "init", world)
    run(
        scripts / "l2dm",
        "learn",
        world,
        photos,
        *REX,
        "--steps",
        2,
        "--settings",
        "few.toml",
    )
    run(scripts / "l2dm", "generate", world, "a <rex> dog", "-n", 1, "--steps", 2, "--out", tmp_path / "out")
    assert len(list((tmp_path / "out").glob("*.png"))) == 2, "a picture and its sheet"
