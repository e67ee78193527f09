"""Threads that fit the machine."""

from __future__ import annotations

import subprocess
import sys
import time

import pytest
import torch
from conftest import QUICK

import l2dm
from l2dm import threads
from l2dm.threads import Others, Threads, fitting, spoken


@pytest.fixture
def four(monkeypatch):
    """A machine of four cores, torch with four threads, nothing said in the environment."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(threads, "cores", lambda: set(range(4)))
    monkeypatch.setattr(threads, "_MOMENT", 0)
    monkeypatch.setattr(threads, "_WINDOW", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield
    torch.set_num_threads(before)


def busy(monkeypatch, *cores_of_others: float) -> None:
    found = iter(cores_of_others)
    monkeypatch.setattr(Others, "look", lambda self: next(found))


@pytest.mark.parametrize("others, count", [(0, 4), (0.3, 4), (1, 3), (2.4, 2), (4, 1), (40, 1)])
def test_what_others_use_is_left_to_them(four, monkeypatch, others, count):
    busy(monkeypatch, others)
    with Threads().during():
        assert torch.get_num_threads() == fitting(others) == count
    assert torch.get_num_threads() == 4


def test_falls_when_others_come_and_never_rises(four, monkeypatch):
    busy(monkeypatch, 0, 0, 2, 0, 3.2)
    work = Threads()
    with work.during():
        assert [work.after(step) for step in (1, 2, 3, 4)] == [False, True, False, True]
        assert torch.get_num_threads() == 1
    assert work.history == [(0, 4), (2, 2), (4, 1)]
    assert spoken(work.history) == "4 threads, 2 from step 2 on, 1 from step 4 on"


def test_what_the_user_says_stays(four, monkeypatch):
    busy(monkeypatch)  # nobody looks
    assert Threads(3).count == 3
    assert not Threads(3).after(1)
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    work = Threads()
    assert work.count == 4 and not work.after(1)


def test_work_taken_up_keeps_the_threads_of_its_checkpoint(four, monkeypatch):
    busy(monkeypatch)
    work = Threads(before=2)
    work.go_on([(0, 4), (7, 2)], 20)
    assert work.count == 2 and work.history == [(0, 4), (7, 2)]
    other = Threads(1, before=2)
    other.go_on([(0, 4), (7, 2)], 20)
    assert other.count == 1 and other.history == [(0, 4), (7, 2), (20, 1)]


@pytest.mark.skipif(not threads._STAT.exists(), reason="only Linux tells")
def test_other_work_is_seen():
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        time.sleep(0.1)
        look = Others()
        time.sleep(0.5)
        assert look.look() > 0.2
    finally:
        other.kill()
        other.wait()


def test_a_lesson_and_a_picture_say_how_many(world, photos):
    version = world.learn(photos, token="<rex>", noun="dog", threads=1, **QUICK)
    assert [list(pair) for pair in version.threads] == [[0, 1]]
    assert l2dm.World.open(world.path).manifest.present.threads == [(0, 1)]
    picture = world.generate("a photo of <rex> dog", n=1, steps=1, threads=1)[0]
    assert picture.provenance["threads"] == "1"


def test_torch_starts_with_threads_that_sleep():
    code = "import l2dm, os; print(os.environ['GOMP_SPINCOUNT'], sorted(dir(l2dm)).count('World'))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["1000", "1"]
