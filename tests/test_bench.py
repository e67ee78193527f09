"""The lifelong benchmark: whole matrices, stopped and gone on, never repeated."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICK, describe
from tiny import mini

from benchmarks.malformed import call
from l2dm.backbone import Backbone
from l2dm.bench import comparison, lifelong, multi_judging, pool, runs, scorer
from l2dm.bench.subjects import Subjects, pictures
from l2dm.errors import BaseModelError, SettingsError
from l2dm.evaluation import judging, shipped_judge, summary
from l2dm.methods import METHODS
from l2dm.report.lifelong import ablations, standing, table, write_page


@pytest.fixture
def plan(tmp_path):
    """Two concepts of two pictures, one prompt, one noun."""
    folder = describe(tmp_path / "concepts", {"rex": "dog", "tom": "cat"})
    return lifelong.Plan(folder, base=mini(), count=2, pictures=1, steps=1, learn={**QUICK, "steps": 1})


@pytest.fixture
def brief(plan):
    """One concept alone: for what is refused or goes on by what a record says."""
    return dataclasses.replace(plan, count=1)


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
        shipped_judge.Judge(tmp_path)


def test_a_stopped_run_goes_on_and_ends_as_an_unbroken_one(tmp_path, untrained, plan):
    whole = runs.run(plan, "custom-diffusion", 3, tmp_path / "whole", lambda text: None)
    m = np.array(whole["matrices"]["identification"], dtype=float)
    assert np.isnan(m[1, 0]) and not np.isnan(m[np.triu_indices(2)]).any() and whole["finished"]

    def stop(text):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runs.run(plan, "custom-diffusion", 3, tmp_path / "broken", stop)
    again = runs.run(plan, "custom-diffusion", 3, tmp_path / "broken", lambda text: None)
    measured = ("seconds", "peak_mb", "bytes")
    assert {k: v for k, v in again.items() if k not in measured} == {
        k: v for k, v in whole.items() if k not in measured
    }
    repeated = runs.run(plan, "custom-diffusion", 3, tmp_path / "broken", stop)
    assert repeated == again, "a finished run is read, not repeated"
    with pytest.raises(SettingsError, match="made with other settings"):
        runs.run(lifelong.Plan(count=1), "custom-diffusion", 3, tmp_path / "broken", stop)


def test_separate_worlds_forget_nothing(tmp_path, untrained, plan):
    record = runs.run(plan, "separate", 0, tmp_path, lambda text: None)
    m = np.array(record["matrices"]["image_alignment"], dtype=float)
    assert m[0, 0] == m[0, 1] and np.isnan(m[1, 0])
    found = {"separate": summary.summary([record])}
    assert found["separate"]["forgetting"] == {"mean": 0.0, "std": 0.0}
    head, rows = table(found)
    assert len(head) == len(rows[0]) and rows[0][0] == "separate"
    assert table(found, ("forgetting",)) == (
        ["method", "runs", "forgetting"],
        [["separate", "1", "0.000"]],
    ), "one run has no spread"
    assert table({"separate": summary.summary([record, record])}, ("forgetting",))[1] == [
        ["separate", "2", "0.000 ± 0.000"]
    ]
    result = {
        "methods": found,
        "runs": [record],
        "settings": record["plan"],
        "judge": {"identity_top1": 0.01},
    }
    samples = runs.samples(plan, tmp_path, result)
    assert len(samples["separate"]) == 2
    page = write_page(
        result, tmp_path / "page.html", command="l2dm bench lifelong", samples=samples
    ).read_text()
    assert (
        page.count("data:image/png") == 3 + 2 + 2 + 4 and "separate" in page and "l2dm bench lifelong" in page
    )


def test_the_page_says_who_leads_and_what_each_part_does():
    def of(identification, std=0.0, forgetting=0.1):
        return {
            "identification": {"mean": identification, "std": std},
            "forgetting": {"mean": forgetting, "std": 0.0},
        }

    lines = standing(
        {
            "l2dm": of(0.6, 0.05),
            "sequential": of(0.3, 0.05),
            "separate": of(0.9, forgetting=0.0),
            "l2dm-without-ecd": of(0.7),
        }
    )
    assert lines[0].endswith(
        "l2dm (0.600 ± 0.050) leads before sequential (0.300 ± 0.050), beyond the spreads; it is number 1 of "
        "2."
    )
    assert "ties with sequential" in lines[1], "a ceiling is no rival, nor is a part"
    (behind, _) = standing({"l2dm": of(0.6, 0.05), "gated-lora": of(0.65, 0.02)})
    assert "is behind gated-lora" in behind and "within the spreads; it is number 2 of 2" in behind

    def run(method, seed, value):
        return {
            "method": method,
            "seed": seed,
            "matrices": {"identification": [[value]]},
            "prior_drift": value,
            "seconds": [1.0],
            "peak_mb": [1.0],
            "bytes": [1],
        }

    records = [
        run("l2dm", 0, 0.5),
        run("l2dm", 1, 0.7),
        run("l2dm-without-ecd", 0, 0.4),
        run("l2dm-without-ecd", 1, 0.4),
    ]
    result = {
        "runs": records,
        "methods": {
            m: summary.summary([r for r in records if r["method"] == m]) for m in ("l2dm", "l2dm-without-ecd")
        },
    }
    head, rows = ablations(result, ("identification", "prior_drift"))
    assert head == ["less L2DM's own", "runs", "identification", "prior drift"]
    assert rows == [["l2dm-without-ecd", "2", "-0.200 ± 0.141", "-0.200 ± 0.141"]]


def test_joint_is_handed_the_earlier_photos_anew_each_time(tmp_path, untrained, plan, monkeypatch):
    handed, learn = [], lifelong.World.learn
    monkeypatch.setattr(
        lifelong.World, "learn", lambda self, *a, **k: (handed.append(k["earlier"]), learn(self, *a, **k))[1]
    )
    record = runs.run(plan, "joint", 0, tmp_path / "out", lambda text: None)
    assert record["finished"] and [list(earlier) for earlier in handed] == [[], record["order"][:1]]


def test_orders_are_the_seeds_own():
    subjects = Subjects.read("shipped")
    assert (
        lifelong.order(subjects, 10, 1) == lifelong.order(subjects, 10, 1) != lifelong.order(subjects, 10, 2)
    )
    assert sorted(lifelong.order(subjects, 10, 1)) == list(range(10))


def test_a_record_from_before_a_setting_is_still_that_plans(tmp_path, untrained, brief):
    record = runs.run(brief, "sequential", 0, tmp_path, lambda text: None)
    path = tmp_path / "runs" / "sequential-0" / "run.json"
    del record["plan"]["judge"], record["learn"]["compile"]
    path.write_text(json.dumps(record))
    assert runs.run(brief, "sequential", 0, tmp_path, lambda text: None) == record
    with pytest.raises(SettingsError, match="made with other settings"):
        runs.run(dataclasses.replace(brief, judge="elsewhere"), "sequential", 0, tmp_path)


@pytest.mark.parametrize(
    "what, now", [("own_defaults", {"learn": {"learning_rate": 1e-3}}), ("fingerprint_of", "retrained")]
)
def test_a_base_of_other_settings_or_weights_is_another_benchmark(
    tmp_path, untrained, brief, monkeypatch, what, now
):
    runs.run(brief, "sequential", 0, tmp_path, lambda text: None)
    monkeypatch.setattr(Backbone, what, lambda base: now)
    with pytest.raises(SettingsError, match="made with other settings"):
        runs.run(brief, "sequential", 0, tmp_path)


def test_a_method_of_another_row_is_another_method(tmp_path, untrained, brief, monkeypatch):
    runs.run(brief, "sequential", 0, tmp_path, lambda text: None)
    monkeypatch.setitem(
        METHODS, "sequential", dataclasses.replace(METHODS["sequential"], text="only said otherwise")
    )
    runs.run(brief, "sequential", 0, tmp_path, lambda text: None)
    monkeypatch.setitem(METHODS, "sequential", dataclasses.replace(METHODS["sequential"], directions=True))
    with pytest.raises(SettingsError, match="made with other settings"):
        runs.run(brief, "sequential", 0, tmp_path)


def test_every_cost_stands_beside_quality(tmp_path, untrained, plan):
    result = runs.bench(plan, ["sequential", "separate"], [0], tmp_path, 0, 1, name="comparison")
    assert json.loads((tmp_path / "comparison.json").read_text()) == result
    assert list(result["methods"]) == ["sequential", "separate"]
    for found in result["methods"].values():
        assert {
            "seconds_per_concept",
            "peak_memory_mb",
            "bytes_per_concept",
            "identification",
            "forgetting",
            "text_forgetting",
        } <= set(found)
    apart = result["runs"][1]
    assert result["methods"]["separate"]["bytes_per_concept"]["mean"] == pytest.approx(apart["bytes"][1] / 2)
    assert apart["bytes"][1] == pytest.approx(2 * apart["bytes"][0], rel=0.1), (
        "a world for each concept takes its own bytes"
    )


def test_a_results_file_grows_and_repeats_no_run_on_another_machine(tmp_path, untrained, plan, monkeypatch):
    first = runs.bench(plan, ["sequential"], [0], tmp_path / "here", 0, 1)
    there = tmp_path / "there"
    there.mkdir()
    (there / "lifelong.json").write_text((tmp_path / "here" / "lifelong.json").read_text())
    both = runs.bench(plan, ["textual-inversion"], [0], there, 0, 1)
    assert (
        list(both["methods"]) == ["sequential", "textual-inversion"] and both["runs"][0] == first["runs"][0]
    )
    assert not (there / "runs" / "sequential-0").exists(), "its run was not repeated"
    assert runs.bench(plan, ["sequential", "textual-inversion"], [0], there, 0, 1) == both
    assert list(runs.samples(plan, there, both)) == ["photos", "textual-inversion"], (
        "what is elsewhere cannot be shown"
    )
    with pytest.raises(SettingsError, match="sequential, seed 0: made with other settings"):
        runs.bench(dataclasses.replace(plan, pictures=2), ["lora"], [0], there, 0, 1)


def test_ray_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SettingsError, match=r"the package ray is not installed; pip install 'l2dm\[ray\]'"):
        list(pool.map_jobs(print, [], 1, 1, "local"))


def test_a_missing_package_for_plots_is_said_before_anything_is_learnt(monkeypatch):
    from l2dm.cli import bench as commands

    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'l2dm\[bench\]'"):
        commands.needs_plots()


@pytest.mark.parametrize("asked", [["all"], ["lifelong"], ["multi", "world"]])
def test_the_judge_that_the_command_line_names_is_the_one_that_is_asked(asked, tmp_path, monkeypatch):
    elsewhere, shipped = tmp_path / "judge", Path(shipped_judge.__file__).parent / "judge"
    shutil.copytree(shipped, elsewhere)
    found, judges = [], judging.find_judge

    def find(source):
        found.append(source)
        assert isinstance(judges(source), shipped_judge.Judge)
        raise SettingsError("that is enough")

    for module in (comparison, lifelong, scorer, multi_judging):
        monkeypatch.setattr(module, "find_judge", find)
    monkeypatch.chdir(tmp_path)
    code, said = call(["bench", *asked, "--judge", "judge", "--out", "out"])
    assert (code, found) == (2, [str(elsewhere)]) and "that is enough" in said
    assert not (tmp_path / "out" / "runs").exists(), "before anything is learnt"
