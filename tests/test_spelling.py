"""Earlier spellings are read for one release: typed ones with a note, stored ones without."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings

import pytest
from handmade import fresh, taught
from tiny import mini

from l2dm import GenerateSettings, LearnSettings
from l2dm.bench.runs import begun
from l2dm.cli.shared import names
from l2dm.errors import RenamedWarning, SettingsError
from l2dm.methods import METHODS
from l2dm.settings import read_toml
from l2dm.spelling import SETTINGS, today
from l2dm.world.manifest import Manifest
from l2dm.world.sealed import seal, unseal
from l2dm.world.world import settings_for

EARLIER = [
    (old, new, cls)
    for old, new in SETTINGS.items()
    for cls in (LearnSettings, GenerateSettings)
    if new in vars(cls)
]


@pytest.mark.parametrize(("old", "new", "cls"), EARLIER)
def test_earlier_names_of_settings_are_read_with_a_note(old, new, cls):
    value = {"composition": "caa"}.get(new, 3)
    with pytest.warns(RenamedWarning, match=f"'{old}' is called '{new}' now"):
        assert getattr(cls(**{old: value}), new) == value
    with pytest.warns(RenamedWarning, match=f"few.toml: '{old}' is called"):
        made = cls.of({old: value}, place="few.toml")
    assert getattr(made, new) == value and old not in made.as_dict()
    with pytest.warns(RenamedWarning):
        assert getattr(made, old) == value


def test_every_earlier_name_is_of_a_setting():
    assert {old for old, _, _ in EARLIER} == set(SETTINGS)


def test_an_earlier_method_is_learnt_by_as_it_is_called_now(capsys):
    with pytest.warns(RenamedWarning, match="few: 'switched' is called 'gated-lora' now"):
        given = settings_for("mini", "learn", {"method": "switched"}, "few")
    assert given == settings_for("mini", "learn", {"method": "gated-lora"}) and given.method == "gated-lora"
    assert names("--methods", "ewc,isolated", list(METHODS)) == ["ewc", "gated-kv"]
    assert "note: --methods: 'isolated' is called 'gated-kv' now" in capsys.readouterr().err


def test_one_setting_by_both_names_is_refused():
    with pytest.raises(SettingsError, match=r"few\.toml: 'report_pictures' is given twice"):
        LearnSettings.of({"previews": 1, "report_pictures": 2}, place="few.toml")
    assert LearnSettings.of({"previews": None, "report_pictures": 2}).report_pictures == 2
    with pytest.raises(AttributeError, match="no setting 'preview'"):
        _ = LearnSettings().preview


def test_a_settings_file_of_before_is_read_by_the_command_line(run, tmp_path, world):
    (tmp_path / "few.toml").write_text("[generate]\nguidance = 'none'\nsteps = 1\nn = 1\n")
    draw = [
        "generate",
        world.path,
        "a dog",
        "--settings",
        tmp_path / "few.toml",
        "--out",
        tmp_path / "out",
        "--json",
    ]
    code, told, notes = run(*draw)
    assert code == 0 and json.loads(told)["settings"]["composition"] == "none"
    assert notes.count("note: ") == 1 and "few.toml: 'guidance' is called 'composition' now" in notes
    told = json.loads(run(*draw, "--guidance", "caa", "--height", "64")[1])
    assert told["settings"]["composition"] == "caa"
    assert read_toml(tmp_path / "few.toml", "generate")["guidance"] == "none"


@pytest.mark.parametrize("format", [2, 3])
def test_a_world_of_before_goes_on(tmp_path, format):
    world = taught(fresh(tmp_path / "world"), "<rex>")
    content = json.loads(unseal((world.path / "manifest.json").read_bytes())[0])
    if format < 3:
        content = json.loads(json.dumps(dataclasses.asdict(world.manifest))) | {"format": format}
    content["versions"]["1"]["settings"] |= {"previews": 2, "guide": 0.5, "candidates": 3, "budget": 7}
    content["versions"]["1"]["settings"]["method"], content["tuner"] = "switched", "switched"
    for name in ("manifest.json", "manifest-copy.json"):
        (world.path / name).write_bytes(seal(content))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        manifest = Manifest.read(world.path, verify=False)
    found = manifest.versions[1].settings
    assert manifest.tuner == "gated_lora" and found["method"] == "gated-lora"
    assert not set(SETTINGS) & set(found)
    kept = {
        "report_pictures": 2,
        "rainbow_similarity_weight": 0.5,
        "memory_candidates": 3,
        "memory_budget": 7,
    }
    assert kept.items() <= found.items() and LearnSettings.of(found).memory_budget == 7


def test_a_base_of_before_keeps_its_settings(tmp_path):
    base = shutil.copytree(mini(), tmp_path / "base")
    own = {"learn": {"previews": 3}, "tuners": {"switched": {"steps": 5}}, "generate": {"guidance": "none"}}
    (base / "l2dm.json").write_text(json.dumps(own))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learn, generate = (settings_for(str(base), kind) for kind in ("learn", "generate"))
    assert (learn.report_pictures, learn.steps, generate.composition) == (3, 5, "none")


def test_what_a_benchmark_wrote_before_is_gone_on_with(tmp_path):
    learn = LearnSettings().as_dict()
    old = {now: before for before, now in SETTINGS.items()}
    (tmp_path / "run.json").write_text(json.dumps({"learn": {old.get(k, k): v for k, v in learn.items()}}))
    assert begun(tmp_path / "run.json", {"learn": learn}) == {"learn": learn}


def test_headings_and_deep_tables_are_read_as_they_are_called_now():
    before = {
        "guidance": {"none": {"mean": 1}},
        "runs": [{"guidance": "none", "row": {"tuner": "isolated"}, "method": "switched"}],
        "methods": {"isolated": {"n": 3}},
        "tuners": {"switched": {"guide": 2}},
    }
    assert today(before) == {
        "compositions": {"none": {"mean": 1}},
        "runs": [{"composition": "none", "row": {"tuner": "gated_kv"}, "method": "gated-lora"}],
        "methods": {"gated-kv": {"n": 3}},
        "tuners": {"gated_lora": {"rainbow_similarity_weight": 2}},
    }
