"""Every lesson is examined: what it did to the others, and whether it is kept."""

from __future__ import annotations

import pytest
from conftest import QUICK
from teaching import teach

from l2dm import World
from l2dm.errors import NotKept, SettingsError
from l2dm.report.card import card, pictures

REPORT = {**QUICK, "steps": 1, "report_pictures": 1}


def test_every_lesson_is_examined(world, photos):
    first = teach(world, photos, **REPORT)
    second = world.learn(photos, token="<tom>", noun="cat", **REPORT)
    assert (
        set(first.scores) == {"<rex>"}
        and set(second.scores) == {"<rex>", "<tom>"}
        and set(second.drift) == {"dog", "cat"}
    )
    assert {s["version"] for s in second.scores.values()} == {2}
    report = card(world.manifest)
    rex, tom = report["concepts"]
    assert rex["change"] == pytest.approx(rex["likeness"] - rex["before"], abs=0.11) and tom["before"] is None
    assert [version for version, _ in pictures(world.path, world.manifest, "<rex>")] == [1, 2]
    world.undo()
    assert card(world.manifest)["token"] == "<rex>"


@pytest.mark.parametrize("method", ["gated-kv", "gated-lora", "dytox", "cidm", "den", "custom-diffusion"])
def test_the_pretrained_model_is_drawn_beside_every_tuner(world, photos, method):
    assert set(teach(world, photos, **REPORT, method=method).drift) == {"dog"}


def test_a_pretrained_noun_has_no_drift(world, photos):
    version = teach(world, photos, **{**REPORT, "learning_rate": 1e-8, "token_learning_rate": 0.0})
    assert version.drift["dog"] == pytest.approx(0, abs=1e-4)


def test_a_concept_that_costs_the_others_too_much_is_not_kept(world, photos, monkeypatch):
    teach(world, photos, **REPORT)
    before = world.manifest
    monkeypatch.setattr("l2dm.world.lesson.max_forgetting", lambda was, now: 12.5)
    with pytest.raises(
        NotKept, match=r"<tom> was not kept: an earlier concept lost 12\.5 points .* more than the 5 allowed"
    ):
        world.learn(photos, token="<tom>", noun="cat", **REPORT, keep_if_forgetting_below=5)
    assert World.open(world.path).manifest == before and not (world.path / "learning").exists()
    assert len(list((world.path / "versions").iterdir())) == 1
    assert world.learn(photos, token="<tom>", noun="cat", **REPORT, keep_if_forgetting_below=20).version == 2
    with pytest.raises(SettingsError, match="needs the report card"):
        world.learn(
            photos, token="<ada>", noun="owl", **{**REPORT, "report_pictures": 0}, keep_if_forgetting_below=20
        )
