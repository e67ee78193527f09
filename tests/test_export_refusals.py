"""What cannot be exported is told and leaves nothing; a kill leaves a whole folder or none."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from crash import kill_at_each_change
from safetensors.torch import load
from travel import copied, made

from benchmarks.stress.ground import say
from l2dm.errors import SettingsError, TokenError
from l2dm.exchange.files import file_of
from l2dm.world.repair import examine


@pytest.mark.parametrize(
    "given, message",
    {
        "kind": ({"format": "ckpt"}, "expected one of lora, diffusers, kohya"),
        "dtype": ({"dtype": "int8"}, "expected one of float32"),
        "strength": ({"strength": 0.0}, "not 0"),
        "vectors": ({"format": "embedding", "strength": 0.8}, "it multiplies adapters, .* vectors alone"),
        "custom": ({"format": "custom-diffusion"}, "no keys or values of the text"),
        "world": ({"format": "world"}, "goes whole and as it is"),
    }.values(),
)
def test_what_cannot_be_exported_is_told(sd, tmp_path, given, message):
    with pytest.raises(SettingsError, match=message):
        sd.export("<rex>", out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["versions", "versions/0009", "learning/x", "prior/a/b", "../w/quarantine"])
def test_nothing_goes_where_a_world_clears_up(sd, tmp_path, place):
    world = copied(sd, tmp_path / "w")
    out = str(world.path / place)
    for command in (
        ["export", "<rex>", "--out", out],
        ["export", "--format", "world", "--out", f"{out}/w.zip"],
        ["generate", "a <rex> dog", "--out", out],
        ["report", "--html", f"{out}/report.html"],
    ):
        code, said = say([command[0], str(world.path), *command[1:]])
        assert code == 2 and "keeps for itself and clears" in said
    assert not (world.path / "versions/0009").exists() and examine(world.path).faults == []
    assert world.export("<rex>", out=world.path / "exported").files


def test_a_file_is_the_same_every_time():
    told = {name: name for name in "abcdefghijkl"}
    made = [file_of({"x": torch.ones(2), "y": torch.zeros(3)}, told) for _ in range(5)]
    assert len(set(made)) == 1 and load(made[0])["x"].tolist() == [1, 1]
    assert list(json.loads(made[0][8 : 8 + int.from_bytes(made[0][:8], "little")])["__metadata__"]) == list(
        told
    )


def test_unknown_tokens_taken_places_and_empty_worlds_are_told(sd, tmp_path):
    with pytest.raises(TokenError, match="has learnt <rex>, <tom>"):
        sd.export("<max>", out=tmp_path / "out")
    (tmp_path / "taken").mkdir()
    with pytest.raises(SettingsError, match="already exists"):
        sd.export("<rex>", out=tmp_path / "taken")
    with pytest.raises(TokenError, match="nothing is learnt yet"):
        made("sd", tmp_path / "empty").export(out=tmp_path / "out")


@pytest.mark.slow
def test_an_export_is_whole_or_not_there(sd, tmp_path):
    place = tmp_path / "place"

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    for _ in kill_at_each_change(
        place, fresh, lambda: sd.export("<rex>", format="embedding", out=place / "out")
    ):
        if (place / "out").exists():
            told = json.loads((place / "out" / "export.json").read_text())["files"]
            assert set(told) == {"rex-embedding.safetensors", "rex.png"}
    assert (place / "out").exists()
