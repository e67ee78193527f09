"""Several concepts in one picture, measured: verdicts by hand, what is drawn, parts never repeated, the shape
of the result, the page.
"""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from conftest import QUICK, describe
from tiny import mini

from l2dm import World
from l2dm.bench import comparison, interactions, lifelong, multi, multi_judging
from l2dm.bench.multi_summary import with_each
from l2dm.bench.subjects import Subjects
from l2dm.errors import SettingsError
from l2dm.evaluation.composition_verdict import Verdict, groups, verdict
from l2dm.report import lifelong as lifelong_page
from l2dm.report.multi import table, write_page

NONE = torch.full((3, 8, 8), -1.0)  # two things named and a look-alike of the first


def seen(*spots: tuple[int, int, int, float]) -> Verdict:
    """The verdict on cells that look like thing p at (y, x) by so much, and like nothing elsewhere."""
    like = NONE.clone()
    for p, y, x, value in spots:
        like[p, y, x] = value
    return verdict(like, [0, 1], found=0.5, sure=0.55)


def test_verdicts_by_hand():
    good = [(0, 1, 1, 0.9), (0, 2, 3, 0.8), (1, 6, 6, 0.7)]
    assert seen(*good) == Verdict(True, True, True, True) and seen(*good).success
    assert seen((0, 1, 1, 0.9), (1, 6, 6, 0.4)) == Verdict(False, True, True, True), "the second is neglected"
    assert seen(*good, (2, 1, 1, 0.95)) == Verdict(True, False, True, True), (
        "any other dog than the one asked for"
    )
    assert seen(*good, (0, 6, 2, 0.6)) == Verdict(True, True, False, True), "two of the first"
    assert seen(*good, (0, 6, 2, 0.4)).success, "which is not found there"
    assert seen(*good, (0, 6, 6, 0.6)) == Verdict(True, True, True, False), (
        "the second wears the first's looks"
    )
    assert not seen(*good, (0, 6, 6, 0.6)).success
    assert seen(*good, (0, 6, 6, 0.52)).success, "of its kind, without its looks"


def test_groups_of_cells():
    cells = torch.zeros(8, 8, dtype=torch.bool)
    assert groups(cells) == 0
    cells[0, 0] = cells[2, 2] = cells[2, 4] = True
    assert groups(cells) == 1
    cells[5, 4] = True
    assert groups(cells) == 2 and groups(cells, reach=3) == 1


def test_all_pairs_and_some_triples():
    concepts = list(Subjects.read("shipped").concepts)
    found = {kind: multi.groups(kind, concepts, 20, ["dog", "cat", "owl"]) for kind in multi.TOGETHER}
    assert {kind: len(rows) for kind, rows in found.items()} == {
        "two_concepts": 43,
        "two_of_one_noun": 2,
        "three_concepts": 20,
        "two_plain_nouns": 3,
    }
    assert all(a.noun == b.noun for a, b in found["two_of_one_noun"])
    assert len(set(found["three_concepts"])) == 20 and all(
        len({s.noun for s in group}) == 3 for group in found["three_concepts"]
    )
    assert multi.listed(["a", "b"]) == "a and b" and multi.listed(["a", "b", "c"]) == "a, b and c"


def test_two_rows_from_end_to_end(tmp_path, untrained, monkeypatch):
    folder = describe(tmp_path / "concepts", {"rex": "dog", "tom": "cat", "max": "dog"})
    world = World.create(tmp_path / "world", mini())
    plan = multi.Plan(folder, pictures=1, triples=2, timed=1, generate={"steps": 2, "n": 1})
    with pytest.raises(SettingsError, match="has learnt 0 of the benchmark's concepts"):
        multi.bench(plan, ["none"], [0], [world.path], tmp_path / "out", 0, 1)
    for s in Subjects.read(folder).concepts:
        world.learn(s.learn, token=s.token, noun=s.noun, **{**QUICK, "steps": 1, "prior_weight": 0.0})
    prompts = [
        {"kind": "on", "prompt": "<rex> dog on <tom> cat", "above": ["<rex>", "<tom>"]},
        {"kind": "counts", "prompt": "two <max> dogs", "counts": {"<max>": 2}},
    ]
    (tmp_path / "interactions.json").write_text(json.dumps(prompts))
    monkeypatch.setattr(interactions, "PROMPTS", tmp_path / "interactions.json")
    told, out = [], tmp_path / "out"
    monkeypatch.setattr(multi.run, "__defaults__", (told.append,))
    result = multi.bench(plan, ["none", "l2dm"], [0], [world.path], out, 0, 1)
    assert len(told) == 2 * len(multi.KINDS)
    assert multi.bench(plan, ["none", "l2dm"], [0], [world.path], out, 0, 1) == result and len(
        told
    ) == 2 * len(multi.KINDS), "nothing is repeated"
    with pytest.raises(SettingsError, match="made with other settings"):
        multi.bench(dataclasses.replace(plan, pictures=2), ["none"], [0], [world.path], out, 0, 1)

    assert list(result) == ["compositions", "runs", "settings"] and list(result["compositions"]) == [
        "none",
        "l2dm",
    ]
    for found in result["compositions"].values():
        for name in ("two_concepts", "two_of_one_noun", "two_plain_nouns"):
            assert 0 <= found[name]["mean"] <= 1 and found[name]["std"] == 0
        assert set(found["text_alignment"]) == {"mean", "std"} and isinstance(found["time_over_plain"], float)
        assert (
            set(found["one_concept"]) == {"identification", "image_alignment", "text_alignment"}
            and "three_concepts" not in found
        )
        assert set(found["interactions"]) == {"success", "arranged"}
        assert all(0 <= seams["mean"] <= 1 for seams in found.get("pasted", {}).values())
        assert set(found["verdicts"]["two_concepts"]) == {"present", "own_looks", "none_doubled", "no_leak"}
    assert [(run["composition"], run["seed"], run["two_concepts"]["pictures"]) for run in result["runs"]] == [
        ("none", 0, 2),
        ("l2dm", 0, 2),
    ]
    assert str(tmp_path) not in str(
        {**result["settings"], "plan": {**result["settings"]["plan"], "concepts": ""}}
    )

    samples = multi.samples(out, ["none", "l2dm"], 0)
    assert [[s["prompt"] for s in rows] for rows in samples["two_concepts"].values()] == [
        [s["prompt"] for s in samples["two_concepts"]["none"]]
    ] * 2
    none, l2dm = (samples["two_concepts"][name][0]["file"].read_bytes() for name in ("none", "l2dm"))
    assert none != l2dm
    head, rows = table(result["compositions"])
    assert len(head) == len(rows[0]) and rows[1][0] == "l2dm" and rows[1][3] == "-"
    page = write_page(result, samples, tmp_path / "page.html").read_text()
    assert (
        page.count("data:image/png") == 2 * (2 * 2 + 2 * 1 + 1 + 1)
        and "&lt;rex&gt; dog and &lt;tom&gt; cat" in page
    )


def test_the_comparison_adds_several_concepts_to_every_method_that_holds_them_together(tmp_path, untrained):
    folder = describe(tmp_path / "concepts", {"rex": "dog", "tom": "cat"})
    plan = lifelong.Plan(
        folder, base=mini(), count=2, pictures=1, steps=1, learn={**QUICK, "steps": 1, "prior_weight": 0.0}
    )
    result = comparison.bench(plan, ["sequential", "separate"], [0], tmp_path / "out", 0, 1)
    rows = result["methods"]
    assert {"two_concepts", "two_concepts_guided", "two_concepts_collage"} <= set(
        rows["sequential"]
    ) and not {"two_concepts"} & set(rows["separate"])
    assert json.loads((tmp_path / "out" / "comparison.json").read_text()) == result
    parts = [
        json.loads(path.read_text())
        for path in (tmp_path / "out" / "multi" / "sequential" / "parts").glob("*-two_concepts.json")
    ]
    assert len(parts) == 3 and all(part["pictures"] == comparison.CONTEXTS for part in parts), (
        "the one pair, in the first contexts"
    )
    head, cells = lifelong_page.table(rows)
    assert cells[1][head.index("two together")] == "-" != cells[0][head.index("two together")]


def test_success_is_told_of_each_concept():
    said = [
        ("<rex> dog and <tom> cat", True),
        ("<rex> dog and <ada> owl", False),
        ("<ada> owl and <tom> cat", True),
    ]
    one = {"verdicts": [{"prompt": f"a photo of {prompt}", "success": success} for prompt, success in said]}
    other = {"verdicts": [{"prompt": "a photo of <rex> dog and <tom> cat", "success": True}]}
    rates = with_each([one, other])
    assert {token: rate["mean"] for token, rate in rates.items()} == {
        "<ada>": 0.5,
        "<rex>": 0.75,
        "<tom>": 1.0,
    }


def test_a_judge_that_sees_only_the_whole_is_refused_before_anything(tmp_path, monkeypatch):
    class Whole:
        def presence(self, images, prototypes):
            raise SettingsError("judge 'clip': it cannot say which of several things are in it")

    monkeypatch.setattr(multi_judging, "find_judge", lambda source: Whole())
    with pytest.raises(SettingsError, match="cannot say which"):
        multi.bench(multi.Plan(judge="clip"), ["none"], [0], [tmp_path], tmp_path / "out", 0, 1)
    assert not (tmp_path / "out").exists()
