"""The lifelong benchmark: whole matrices, stopped and gone on, never repeated."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from safetensors.torch import save_file

from l2dm.bench import lifelong
from l2dm.bench.subjects import Subjects, pictures
from l2dm.errors import BaseModelError, SettingsError
from l2dm.evaluation import judge
from l2dm.report.lifelong import table, write_page


@pytest.fixture
def plan(tmp_path):
    """Two concepts of two pictures, one prompt, one noun."""
    folder, names = tmp_path / "concepts", ("rex", "tom")
    for i, place in enumerate(["rex/learn", "rex/unseen", "tom/learn", "tom/unseen", "like/dog-a"]):
        (folder / place).mkdir(parents=True)
        for j in range(2):
            paint(10 * i + j).save(folder / place / f"{j}.png")
    record = {
        "concepts": [{"name": n, "token": f"<{n}>", "noun": noun} for n, noun in zip(names, ("dog", "cat"))],
        "prompts": ["a photo of {} at night"], "like": {"dog-a": "dog"}, "nouns": ["tree"],
    }  # fmt: skip
    (folder / "concepts.json").write_text(json.dumps(record))
    return lifelong.Plan(str(folder), count=2, pictures=1, steps=1, learn={**QUICK, "steps": 1})


@pytest.fixture
def untrained(tmp_path, monkeypatch):
    """A judge that has learnt nothing: enough for everything but the figures' meaning."""
    torch.manual_seed(0)
    folder = tmp_path / "judge"
    folder.mkdir()
    save_file({k: v.half() for k, v in judge.JudgeNet(2, 2).state_dict().items()}, folder / "judge.safetensors")
    (folder / "judge.json").write_text(json.dumps({"nouns": ["a", "b"], "backgrounds": ["c", "d"], "measured": {"identity_top1": 0.01}}))
    monkeypatch.setattr(judge, "SHIPPED", folder)


def test_the_shipped_concepts_are_whole():
    subjects = Subjects.read("shipped")
    assert len(subjects.concepts) == 10 and len({s.token for s in subjects.concepts}) == 10
    nouns = [s.noun for s in subjects.concepts]
    assert nouns.count("dog") == nouns.count("cat") == 2
    for s in subjects.concepts:
        assert len(pictures(s.learn)) == len(pictures(s.unseen)) == 5 and len(subjects.like[s.noun]) >= 2
    assert not set(subjects.nouns) & set(nouns)


def test_a_folder_that_is_no_benchmark_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"concepts\.json: no such file"):
        Subjects.read(str(tmp_path))
    (tmp_path / "concepts.json").write_text('{"concepts": [{"name": "x"}]}')
    with pytest.raises(SettingsError, match="not a description of concepts"):
        Subjects.read(str(tmp_path))


def test_no_judge_is_an_error_that_tells_the_way(tmp_path):
    with pytest.raises(BaseModelError, match="no judge here; train one with"):
        judge.Judge(tmp_path)


def test_a_stopped_run_goes_on_and_ends_as_an_unbroken_one(tmp_path, untrained, plan):
    whole = lifelong.run(plan, "custom-diffusion", 3, tmp_path / "whole", lambda text: None)
    m = np.array(whole["matrices"]["identification"], dtype=float)
    assert np.isnan(m[1, 0]) and not np.isnan(m[np.triu_indices(2)]).any() and whole["finished"]

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lifelong.run(plan, "custom-diffusion", 3, tmp_path / "broken", stop)
    again = lifelong.run(plan, "custom-diffusion", 3, tmp_path / "broken", lambda text: None)
    measured = ("seconds", "peak_mb", "bytes")
    assert {k: v for k, v in again.items() if k not in measured} == {k: v for k, v in whole.items() if k not in measured}
    repeated = lifelong.run(plan, "custom-diffusion", 3, tmp_path / "broken", stop)
    assert repeated == again, "a finished run is read, not repeated"
    with pytest.raises(SettingsError, match="made with other settings"):
        lifelong.run(lifelong.Plan(count=1), "custom-diffusion", 3, tmp_path / "broken", stop)


def test_separate_worlds_forget_nothing(tmp_path, untrained, plan):
    record = lifelong.run(plan, "separate", 0, tmp_path, lambda text: None)
    m = np.array(record["matrices"]["image_alignment"], dtype=float)
    assert m[0, 0] == m[0, 1] and np.isnan(m[1, 0])
    found = {"separate": lifelong.summary([record])}
    assert found["separate"]["forgetting"] == {"mean": 0.0, "std": 0.0}
    head, rows = table(found)
    assert len(head) == len(rows[0]) and rows[0][0] == "separate"
    result = {"methods": found, "runs": [record], "settings": record["plan"], "judge": {"identity_top1": 0.01}}
    page = write_page(result, tmp_path / "page.html").read_text()
    assert page.count("data:image/png") == 3 and "separate" in page


def test_joint_is_handed_the_earlier_photos_anew_each_time(tmp_path, untrained, plan, monkeypatch):
    handed, learn = [], lifelong.World.learn
    monkeypatch.setattr(lifelong.World, "learn", lambda self, *a, **k: (handed.append(k["earlier"]), learn(self, *a, **k))[1])
    record = lifelong.run(plan, "joint", 0, tmp_path / "out", lambda text: None)
    assert record["finished"] and [list(earlier) for earlier in handed] == [[], record["order"][:1]]


def test_orders_are_the_seeds_own():
    subjects = Subjects.read("shipped")
    assert lifelong.order(subjects, 10, 1) == lifelong.order(subjects, 10, 1) != lifelong.order(subjects, 10, 2)
    assert sorted(lifelong.order(subjects, 10, 1)) == list(range(10))
