"""Settings: ranges, types, layers, TOML."""

from __future__ import annotations

import dataclasses
import json

import pytest

from benchmarks.stress.ground import say
from l2dm import GenerateSettings, LearnSettings
from l2dm.backbone import Backbone
from l2dm.errors import SettingsError
from l2dm.settings import read_toml
from l2dm.world.world import settings_for


def test_later_layers_win_and_none_is_skipped():
    made = LearnSettings.of({"steps": 10, "batch": 3}, {"steps": 20, "batch": None})
    assert (made.steps, made.batch) == (20, 3)


def test_whole_numbers_do_for_fractions_but_not_the_other_way():
    assert LearnSettings(prior_weight=1).prior_weight == 1.0
    with pytest.raises(SettingsError, match="expected int, found float"):
        LearnSettings(steps=2.5)
    with pytest.raises(SettingsError, match="expected int, found bool"):
        LearnSettings(steps=True)


@pytest.mark.parametrize("cls", [LearnSettings, GenerateSettings])
def test_every_bound_is_enforced_and_named(cls):
    for field in dataclasses.fields(cls):
        for bound, beyond in (("low", -1), ("high", 1)):
            if (limit := field.metadata.get(bound)) is not None:
                cls(**{field.name: type(field.default)(limit)})
                with pytest.raises(SettingsError, match=field.name):
                    cls(**{field.name: type(field.default)(limit + beyond)})
        assert field.metadata["text"], "every setting says what it is"


def test_nan_is_out_of_range():
    with pytest.raises(SettingsError, match="learning_rate"):
        LearnSettings(learning_rate=float("nan"))


def test_toml_tables(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[learn]\nsteps = 7\n[generate]\nn = 2\n")
    assert read_toml(path, "learn") == {"steps": 7} and read_toml(path, "generate") == {"n": 2}
    path.write_text("steps = 9\n")
    assert read_toml(path, "learn") == {"steps": 9}


def test_a_base_has_its_own_settings_for_a_tuner_and_what_is_given_wins(monkeypatch):
    own = {
        "learn": {"steps": 7, "batch": 3},
        "tuners": {"gated_lora": {"steps": 5}},
        "generate": {"steps": 4},
    }
    monkeypatch.setattr(Backbone, "own_defaults", lambda base: own)
    assert (
        settings_for("any", "learn", {"method": "gated-lora"}).steps
        == settings_for("any", "learn").steps
        == 5
    )
    assert (
        settings_for("any", "learn", {"method": "l2dm"}).steps == 5
        and settings_for("any", "learn", {"method": "ewc"}).steps == 7
    )
    assert settings_for("any", "generate").steps == 4
    assert settings_for("any", "learn", {"method": "gated-lora", "steps": 2}) == LearnSettings(
        method="gated-lora", steps=2, batch=3
    )


def test_a_file_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "s.toml").write_bytes(b"\xef\xbb\xbfsteps = 7\n")
    assert read_toml(tmp_path / "s.toml", "learn") == {"steps": 7}


def test_every_setting_is_listed_with_what_it_may_be():
    code, said = say(["settings", "--json"])
    told = json.loads(said)
    assert code == 0 and set(told) == {"learn", "generate"}
    for kind, cls in {"learn": LearnSettings, "generate": GenerateSettings}.items():
        assert [row["name"] for row in told[kind]] == list(cls().as_dict())
        assert all(row["help"] and row["default"] == cls().as_dict()[row["name"]] for row in told[kind])
    rows = {row["name"]: row for row in told["learn"]}
    assert (
        rows["steps"]["range"] == "1 to 100000"
        and rows["lr_scheduler"]["range"] == "constant, linear, cosine"
    )
    here = {
        row["name"]: row["here"]
        for row in json.loads(say(["settings", "--base", "mini", "--json"])[1])["learn"]
    }
    assert here == settings_for("mini", "learn").as_dict()
    assert "steps" in say(["settings"])[1]
