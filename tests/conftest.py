"""Shared fixtures: photos made on the spot, one backbone for reading, fresh worlds for writing.

What takes seconds to import is imported where it is used: the process that hands tests out to others reads
this file and needs none of it.
"""

from __future__ import annotations

import functools
import gc
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from l2dm import World
    from l2dm.backbone import Backbone

QUICK = {
    "steps": 3,
    "batch": 2,
    "prior_pictures": 2,
    "prior_steps": 2,
    "report_pictures": 0,
    "mixes": 0,
    "rank": 4,
}


def paint(seed: int = 0, size: tuple[int, int] = (80, 72)) -> Image.Image:
    """A small picture with a shape on a ground."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 255, 3)))
    x, y = (int(v) for v in rng.integers(5, 25, 2))
    ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 35), fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        paint(i).save(folder / f"{i}.png")
    return folder


def describe(folder: Path, concepts: dict[str, str]) -> str:
    """A benchmark in ``folder``: concepts (name -> noun) of two pictures each, one look-alike dog, one
    prompt, one noun.
    """
    for i, place in enumerate(
        [f"{name}/{part}" for name in concepts for part in ("learn", "unseen")] + ["like/dog-a"]
    ):
        (folder / place).mkdir(parents=True)
        for j in range(2):
            paint(10 * i + j).save(folder / place / f"{j}.png")
    record = {
        "concepts": [{"name": n, "token": f"<{n}>", "noun": noun} for n, noun in concepts.items()],
        "prompts": ["a photo of {} at night"],
        "like": {"dog-a": "dog"},
        "nouns": ["tree"],
    }
    (folder / "concepts.json").write_text(json.dumps(record))
    return str(folder)


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """A judge that has learnt nothing: enough for everything but the figures' meaning."""
    import torch
    from safetensors.torch import save_file

    from l2dm.evaluation import shipped_judge

    torch.manual_seed(0)
    folder = tmp_path / "judge"
    folder.mkdir()
    save_file(
        {k: v.half() for k, v in shipped_judge.JudgeNet(2, 2).state_dict().items()},
        folder / "judge.safetensors",
    )
    facts = {
        "nouns": ["dog", "cat"],
        "backgrounds": ["c", "d"],
        "found": 0.5,
        "measured": {"identity_top1": 0.01},
    }
    (folder / "judge.json").write_text(json.dumps(facts))
    monkeypatch.setattr(shipped_judge, "SHIPPED", folder)


@pytest.fixture(autouse=True)
def lessons_here(request, monkeypatch):
    """Benchmarks give each lesson a process of its own, which takes seconds to start, and has nothing of what
    a test patched.
    """
    from l2dm.bench import runs

    if "slow" not in request.keywords:
        monkeypatch.setattr(runs, "run_in_subprocess", lambda work, *given: work(*given))


@pytest.fixture(scope="session", autouse=True)
def read_once():
    """A small base's networks are loaded once, and copied after that; so are the commands of ``l2dm``, which
    Typer would make anew for each call. What is imported by now is not looked through for what can be freed.
    """
    import typer.main
    from copying import once

    from l2dm.backbone import loading

    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loading, "_network", once(loading._network))
        patch.setattr(typer.main, "get_command", functools.cache(typer.main.get_command))
        yield


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The shipped base, for tests that leave it as it is and look at what it draws or reads."""
    import torch

    from l2dm.backbone import Backbone

    torch.manual_seed(0)
    return Backbone.load()


@pytest.fixture(scope="session")
def plain():
    """What the tiny base's pretrained model predicts for a prompt without concepts."""
    from learning import PLAIN, fresh, predicted

    return predicted(fresh(), PLAIN)


@pytest.fixture
def world(tmp_path: Path) -> World:
    from tiny import mini

    from l2dm import World

    return World.create(tmp_path / "world", mini())


@pytest.fixture
def sd() -> World:
    """A world over a tiny Stable Diffusion that has learnt <rex> and <tom>."""
    from travel import known

    return known("sd")


@pytest.fixture
def run(monkeypatch, capsys):
    """Call ``l2dm`` in this process: exit code, standard output, standard error."""
    from l2dm import cli

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["l2dm", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        said = capsys.readouterr()
        return code, said.out, said.err

    return call


@pytest.fixture
def place(tmp_path: Path, monkeypatch) -> Path:
    """A folder with photos and a world that has a file of every kind; no waiting for the disk."""
    import harm

    monkeypatch.setattr("os.fsync", lambda handle: None)
    monkeypatch.setattr("l2dm.world.past.CONTEXT_NOUNS", ("tree",))
    return harm.copied(tmp_path / "place")
