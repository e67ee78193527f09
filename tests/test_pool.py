"""Work in several processes: as many as there are, each with all results, and none left when whoever began
them is gone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import QUICK, describe
from tiny import mini, tiny_clip

from l2dm.bench import lifelong, pool, runs
from l2dm.errors import SettingsError
from l2dm.settings import read_toml


@pytest.fixture
def plan(tmp_path):
    """Two concepts of two pictures, one prompt, one noun."""
    folder = describe(tmp_path / "concepts", {"rex": "dog", "tom": "cat"})
    return lifelong.Plan(folder, base=mini(), count=2, pictures=1, steps=1, learn={**QUICK, "steps": 1})


def measured_apart(result):
    """A benchmark's result without what differs from run to run: time, memory, and the bytes of JSON that
    holds time.
    """
    rows = [
        {k: v for k, v in run.items() if k not in ("seconds", "peak_mb", "bytes")} for run in result["runs"]
    ]
    scores = {
        m: {k: v for k, v in found.items() if not k.startswith(("seconds", "peak", "bytes"))}
        for m, found in result["methods"].items()
    }
    return {**result, "runs": rows, "methods": scores}


def test_as_many_workers_as_asked_for_or_launched_or_cores(monkeypatch):
    cores = os.cpu_count()
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pool.resolve_workers(0) == (cores, 1) and pool.resolve_workers(1) == (1, cores)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pool.resolve_workers(0) == (1, cores) and pool.resolve_workers(3)[0] == 3
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert pool.resolve_workers(0)[0] == pool.resolve_workers(3)[0] == 4


SHARED = """
import json, os, sys, time
from pathlib import Path
from l2dm.bench import pool

def work(k):
    time.sleep(0.1)
    return k * k, os.environ["RANK"]

found = {str(workers): list(pool.map_jobs(work, [(k,) for k in range(5)], workers, 1)) for workers in (2, 1)}
(Path(sys.argv[1]) / os.environ["RANK"]).write_text(json.dumps(found))
"""


def test_launched_processes_share_the_jobs_and_each_has_all_results(tmp_path):
    (tmp_path / "script.py").write_text(SHARED)
    command = ["torch.distributed.run", "--standalone", "--nproc_per_node=2"]  # as accelerate does on GPUs
    done = subprocess.run(
        [sys.executable, "-m", *command, tmp_path / "script.py", tmp_path],
        timeout=120,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert (
        found[0]
        == found[1]
        == {"2": [[k, [k * k, "01"[k % 2]]] for k in range(5)], "1": [[k, [k * k, "0"]] for k in range(5)]}
    )


def test_a_work_alone_has_a_process_of_its_own_and_its_errors_arrive(tmp_path):
    assert pool.run_in_subprocess(os.getpid) != os.getpid()
    with pytest.raises(SettingsError, match=f"{tmp_path}/none.toml: no such settings file"):
        pool.run_in_subprocess(read_toml, tmp_path / "none.toml", "learn")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_workers_end_with_whoever_started_them(tmp_path):
    told = tmp_path / "worker"
    work = (
        f"import os, pathlib, time; pathlib.Path({str(told)!r}).write_text(str(os.getpid())); time.sleep(60)"
    )
    main = tmp_path / "main.py"
    main.write_text(
        "from l2dm.bench import pool\nif __name__ == '__main__':\n    "
        f"list(pool.map_jobs(exec, [({work!r},)], 1, 1))\n"
    )
    parent = subprocess.Popen([sys.executable, str(main)])
    try:
        assert until(lambda: told.exists() and told.read_text(), 60)
    finally:
        parent.kill()
        parent.wait()
    assert until(lambda: ended(int(told.read_text())), 10)


def until(true, seconds: float) -> bool:
    """Whether ``true()`` came to hold in time."""
    end = time.monotonic() + seconds
    while not true() and time.monotonic() < end:
        time.sleep(0.05)
    return bool(true())


def ended(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


@pytest.mark.slow
def test_processes_and_ray_give_what_this_process_gives(tmp_path, plan):
    plan = dataclasses.replace(plan, judge=str(tiny_clip(tmp_path / "clip")))
    jobs = (plan, ["sequential", "custom-diffusion"], [0])
    here = measured_apart(runs.bench(*jobs, tmp_path / "here", 0, torch.get_num_threads()))
    assert measured_apart(runs.bench(*jobs, tmp_path / "processes", 2, torch.get_num_threads())) == here
    pytest.importorskip("ray")
    assert measured_apart(runs.bench(*jobs, tmp_path / "ray", 2, 1, ray="local")) == here
    assert (
        json.loads((tmp_path / "ray" / "lifelong.json").read_text())["methods"].keys()
        == here["methods"].keys()
    )
