"""A handful of what ``python -m benchmarks.stress`` does by the thousand; it sees what it looks for."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
from pathlib import Path

import pytest

from benchmarks.stress import flips
from benchmarks.stress.faults import Log, answered, figures, name_of, refusals, refusing, spread, stratum
from benchmarks.stress.ground import Ground, contents, say, state
from benchmarks.stress.jobs import verbs
from benchmarks.stress.kills import dying
from benchmarks.stress.operations import CHANGES, watch
from l2dm.world.recorded import record
from l2dm.world.sealed import seal, unseal

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")


@pytest.fixture(scope="module")
def jobs(tmp_path_factory):
    """Jobs by name; their tries are made in turn."""
    ground = Ground(tmp_path_factory.mktemp("stress").resolve())
    return {job.name: job for job in verbs(ground)}


def killed(job, at):
    """Kill ``job`` at a changing operation; what is wrong then, and after it was run again."""
    job.set_up()
    assert job.ground.command(job.arguments, prepare=dying(job, at)).killed
    done, fault = job.stands()
    return fault or job.finish(done)


@pytest.mark.parametrize(
    "verb", ["undo", "purge", "rename", "branch", "import a world", "export", "export a world"]
)
def test_kills_at_operations(jobs, verb):
    job = jobs[verb]
    job.run_undisturbed()
    for at in random.Random(0).sample(range(1, job.changes + 1), 3):
        assert killed(job, at) == "", f"operation {at}"


def test_a_world_that_a_kill_breaks_is_seen(jobs, monkeypatch):
    monkeypatch.setattr(os, "replace", lambda new, old: Path(old).write_bytes(Path(new).read_bytes()))
    job = dataclasses.replace(jobs["undo"], operations=[])
    job.run_undisturbed()
    changes = [kind for kind in job.operations if kind in CHANGES]
    found = [killed(job, at) for at, kind in enumerate(changes, 1) if kind == "write"]
    assert any(fault.startswith("does not open") for fault in found), found


def test_refusals_at_operations(jobs):
    job = jobs["undo"]
    job.run_undisturbed()
    rng = random.Random(1)
    for at in rng.sample(range(1, len(job.operations) + 1), 4):
        error = rng.choice(refusals(job.operations[at - 1]))
        job.set_up()
        ended = job.ground.command(job.arguments, prepare=refusing(job, at, error))
        assert answered(ended) == "", f"{errno.errorcode[error]} at operation {at}"
        done, fault = job.stands()
        assert (fault or job.finish(done)) == ""


@pytest.mark.parametrize("verb, kind", [("learn", "tensors"), ("forget", "write")])
def test_a_disk_that_is_full_while_tensors_are_written_is_said(jobs, verb, kind):
    job = jobs[verb]
    job.run_undisturbed()
    job.set_up()
    at = job.operations.index(kind) + 1
    ended = job.ground.command(job.arguments, prepare=refusing(job, at, errno.ENOSPC))
    assert ended.value[0] == 2 and "the disk is full" in ended.value[1]


def test_a_checkpoint_of_another_version_is_cleared(jobs):
    """``undo`` leaves an unfinished lesson over a version that never comes again."""
    job = jobs["learn"]
    job.run_undisturbed()
    job.set_up()
    saved = [kind for kind in job.operations if kind in CHANGES]
    assert job.ground.command(job.arguments, prepare=dying(job, len(saved) * 3 // 5)).killed
    assert list(job.world.glob("learning/[0-9]*"))
    (job.world / "learning/.part-000002-1").mkdir(exist_ok=True)
    assert say(["verify", str(job.world)])[0] == 0, "what a kill left half done is no damage"
    job.ground.do(["undo", str(job.world)])
    job.ground.do(["repair", str(job.world)])
    assert not (job.world / "learning").exists()


def test_every_kind_of_operation_is_told_of(jobs, tmp_path):
    def work():
        kinds = []
        watch(tmp_path, lambda kind, path, *half: kinds.append(kind))
        file = tmp_path / "folder" / "file"
        file.parent.mkdir()
        file.write_bytes(b"x")
        file.chmod(0o600)
        with file.open("rb") as opened:
            os.fsync(opened.fileno())
            opened.read()
        os.link(file, tmp_path / "second")
        file.rename(tmp_path / "third")
        (tmp_path / "third").unlink()
        file.parent.rmdir()
        Path(os.devnull).read_bytes()
        return kinds

    told = jobs["undo"].ground.child(work).value
    assert [kind for kind in told if kind != "stat"] == [
        "mkdir",
        "create",
        "write",
        "chmod",
        "open",
        "fsync",
        "read",
        "link",
        "rename",
        "remove",
        "rmdir",
    ]


@pytest.mark.parametrize("damage", [flips.link, flips.flip])
def test_a_damaged_version_is_named(jobs, damage):
    job, name = jobs["undo"], "versions/0001/tokens.safetensors"
    job.set_up()
    damage(job.world / name, random.Random(0))
    by, said = flips.who_names(job.world, name)
    assert by in ("open", "verify") and flips.WAY_OUT.search(said)
    if damage != flips.link:
        assert flips.follow(job.world, said) == ""


def test_refusals_are_spread_over_kinds(jobs):
    job = dataclasses.replace(jobs["undo"], operations=["read"] * 9 + ["write"] * 2 + ["stat"])
    plan = [(job, at, 5) for at in range(1, 13)]
    found = [stratum(refusal)[1] for refusal in spread(plan, random.Random(0))]
    assert set(found[:3]) == {"read", "write", "stat"} and set(found[3:5]) == {"read", "write"}
    assert sorted(found) == sorted(job.operations)


def test_a_file_s_kind():
    assert flips.kind_of("versions/0002/adapter-rex.safetensors") == "versions/*/adapter-*.safetensors"
    assert flips.kind_of("learning/memory-5b1afe939d0244ca/short-term.json") == "learning/*/short-term.json"
    kept = "learning/kept-8e06370008c4b64e-000001/step-000001.safetensors"
    assert flips.kind_of(kept) == "learning/kept-*/step-*.safetensors"
    assert flips.kind_of("prior/cat-4x1/latents.safetensors") == "prior/*/latents.safetensors"


@pytest.mark.parametrize("verb", ["export", "export a world", "import a world"])
def test_half_of_a_folder_is_gone_after_the_next_try(jobs, verb):
    """What is made outside of a world is nobody's to sweep but the next command's there."""
    job = jobs[verb]
    job.run_undisturbed()
    job.set_up()
    changes = [kind for kind in job.operations if kind in CHANGES]
    at = len(changes) - changes[::-1].index("rename")  # whole by then, but for its name
    assert job.ground.command(job.arguments, prepare=dying(job, at)).killed
    assert [path.name for path in job.place.rglob(".part-*")]
    assert job.finish(False) == "" and not list(job.place.rglob(".part-*"))


def test_what_a_command_finds_is_the_same_at_another_time(jobs):
    """``state`` leaves out times alone: what was found once is judged once."""
    job, states = jobs["learn"], []
    job.run_undisturbed()
    for seconds in (1, 9):
        job.set_up()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("l2dm.world.manifest.now", lambda seconds=seconds: f"2026-01-0{seconds}")
            changes = sum(kind in CHANGES for kind in job.operations)
            assert job.ground.command(job.arguments, prepare=dying(job, changes * 3 // 5)).killed
        draft = next(job.world.glob("learning/*/draft.json"))
        draft.write_bytes(seal({**json.loads(unseal(draft.read_bytes())[0]), "seconds": seconds}))
        record(draft.parent)
        states.append(state(job.place))
        if seconds == 1:
            draft.write_bytes(draft.read_bytes() + b" ")
            assert state(job.place) != states[0]
    assert states[0] == states[1]
    (job.world / "versions/0001/tokens.safetensors").write_bytes(b"x")
    assert state(job.place) != states[0]


def test_a_stopped_measurement_of_refusals_goes_on(jobs, tmp_path):
    job = dataclasses.replace(jobs["export"], operations=["open", "stat"])
    plan, log = [(job, at, 5) for at in (1, 2)], Log(tmp_path / "log", "1")
    log.write(name_of(plan[0]))
    log.write(name_of(plan[1]))
    log.write(name_of(plan[1]), [["world", "is damaged"]], False, 0.5)
    with pytest.raises(ValueError, match="refusals of 1, and this is 2"):
        Log(tmp_path / "log", "2")
    again = Log(tmp_path / "log", "1")
    assert again.begun == set() and set(again.found) == {name_of(plan[1])}
    found = figures([job], plan, plan[1:], again)
    assert (found["refusals"], found["of_possible"]) == (1, 2)
    assert found["damaged_worlds"] == ["export, EIO at operation 2 (stat): is damaged"]


def test_what_a_child_does_stays_in_it(jobs, tmp_path):
    ground = jobs["undo"].ground
    before = contents(ground.place / "starts")
    assert ground.child(lambda: 1 / 0).trace.strip().endswith("ZeroDivisionError: division by zero")
    assert ground.child(lambda: say(["show", str(tmp_path / "none")])).value[0] == 2
    assert contents(ground.place / "starts") == before
