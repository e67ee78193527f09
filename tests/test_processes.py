"""Processes that ``accelerate launch`` starts beside each other learn as one does, and one of them alone
writes.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import sharing
import torch
from commands import REX
from learning import begin
from safetensors.torch import load_file
from tiny import mini

from l2dm import Processes, World
from l2dm.errors import NotKept, ProcessLost, SettingsError
from l2dm.processes import ToldByMain, _Ended

#: As for GPUs: of processors alone ``accelerate launch --cpu`` starts several by MPI only.
ACCELERATE = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes=2",
    "--mixed_precision=no",
]


def launched(*command: object) -> subprocess.CompletedProcess:
    free = ["--main_process_port=0", "--num_machines=1", "--dynamo_backend=no"]
    return subprocess.run(
        [*ACCELERATE, *free, *map(str, command)],
        timeout=500,
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
    )


def weights(world: Path) -> dict[str, torch.Tensor]:
    found = {}
    for file in sorted((world / "versions").rglob("*.safetensors")):
        found |= {f"{file.relative_to(world)}/{name}": t for name, t in load_file(file).items()}
    return found


@pytest.mark.slow
def test_two_processes_learn_as_one_does_and_stop_and_go_on(photos, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    sharing.teach(mini(), photos, one)
    two.mkdir()
    done = launched("sharing.py", mini(), photos, two)
    assert done.returncode == 0, done.stderr
    for method in sharing.METHODS:
        alone, shared = weights(one / method), weights(two / method)
        assert alone.keys() == shared.keys() and len(alone) > 4
        for name in alone:
            assert torch.allclose(alone[name], shared[name], rtol=2e-3, atol=2e-4), (method, name)
        assert any(not torch.equal(alone[name], shared[name]) for name in alone), "added up in another order"
        World.open(two / method).verify()
    stopped = weights(two / "stopped")
    first = {name: t for name, t in weights(two / "gated-lora").items() if "0001" in name}
    assert {name: t for name, t in stopped.items() if "0001" in name}.keys() == first.keys()
    assert all(torch.equal(stopped[name], t) for name, t in first.items()), "taken up exactly"
    raised = [json.loads((two / f"{number}.json").read_text()) for number in (0, 1)]
    assert raised[0] == raised[1]
    assert raised[0][0].startswith("LearningStopped: stopped at step 1 of 3")
    assert raised[0][1].startswith("TokenError: token 'rex'")
    assert raised[0][2].startswith(
        "SettingsError: batch = 1: a step has 2 rows, too few for 2 processes with 2 shares each"
    )


@pytest.mark.slow
def test_the_command_line_speaks_once_for_all_processes(photos, tmp_path):
    World.create(tmp_path / "world", mini())
    (tmp_path / "few.toml").write_text('method = "gated-lora"\nsteps = 2\nmixes = 0\nreport_pictures = 0\n')
    learn = [
        "-m",
        "l2dm",
        "learn",
        tmp_path / "world",
        photos,
        *REX,
        "--settings",
        tmp_path / "few.toml",
    ]
    done = launched(*learn, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["version"] == 1 and World.open(tmp_path / "world").concepts == {
        "<rex>": "dog"
    }
    again = launched(*learn)
    assert again.returncode and again.stderr.count("error: token '<rex>'") == 1
    other = launched("-m", "l2dm", "forget", tmp_path / "world", "<rex>")
    said = r"error: (process 1: )?l2dm forget: 2 processes were launched, and it is the work of one"
    assert re.search(said, other.stderr), "by whichever ends first: the launcher then ends the other"


def test_what_one_process_is_told_by_none(photos):
    alone = Processes.together()
    assert (alone.count, alone.number, alone.is_main) == (1, 0, True)
    assert alone.told(3) == 3 and alone.all_of([1]) == [1] and alone.mean([0.1, 2]) == [0.1, 2]


def test_too_few_rows_for_the_processes_are_refused_before_a_step(photos):
    learning = begin(photos, "gated-lora", batch=1, mixes=0)
    learning.processes = Processes(3, 0)
    with pytest.raises(SettingsError, match="a step has 1 rows, too few for 3 processes with 1 shares each"):
        next(learning.run())


def test_the_main_process_tells_how_it_ended():
    said = []

    class Main(Processes):
        def told(self, what=None):
            said.append(what)

    with pytest.raises(NotKept), Main(2).leading():
        raise NotKept("<rex>", 3.0, 2.0)
    with pytest.raises(NotKept, match="<rex> was not kept: an earlier concept") as raised:
        said.pop().check()
    assert isinstance(raised.value.__cause__, ToldByMain) and raised.value.loss == 3.0
    with Main(2).leading():
        pass
    assert said.pop() == _Ended()
    main = Main(2)
    with pytest.raises(MemoryError), main.leading(), main.step():
        raise MemoryError
    assert not said, "the others wait for numbers then"


def test_a_process_that_is_gone_is_one_line():
    def gone():
        raise RuntimeError("Connection closed by peer [127.0.0.1]:1")

    with pytest.raises(ProcessLost, match="a process beside this one ended or cannot be reached"):
        Processes(2)._talk(gone)
