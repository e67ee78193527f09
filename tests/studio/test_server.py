"""How a studio is opened: its address, its names, who it lets in, and the workers it wakes."""

from __future__ import annotations

import socket
import sys

import pytest

from benchmarks.malformed import call
from l2dm.errors import SettingsError
from l2dm.studio import server
from l2dm.studio.folder import StudioFolder
from l2dm.studio.jobs import Queue
from l2dm.studio.worker import is_held, lane_lock, main


def test_a_taken_port_is_told(tmp_path):
    with server.listen("127.0.0.1", 0) as taken:
        code, said = call(["studio", str(tmp_path / "w"), "--port", str(taken.getsockname()[1])])
    assert (
        code == 2 and "choose another, or --port 0 for any that is free" in said and "Traceback" not in said
    )


def test_a_host_that_is_not_this_machines_is_told(tmp_path):
    code, said = call(["studio", str(tmp_path / "w"), "--host", "203.0.113.1", "--port", "0"])
    assert code == 2 and "WARNING: --host 203.0.113.1: other machines" in said and "--port 0" in said


def test_one_studio_a_world(tmp_path):
    folder = StudioFolder(tmp_path / "w")
    folder.make()
    with (
        lane_lock(folder, "studio").acquire(),
        pytest.raises(SettingsError, match="open already; use its address"),
    ):
        server.serve(folder.world, "127.0.0.1", 0, None, print)


def test_its_names_are_this_machines_alone():
    found = server.access("127.0.0.1", 8321, "t").hosts
    assert found == {"127.0.0.1:8321", "localhost:8321", "[::1]:8321"}
    assert "box.lan:8321" in server.access("Box.lan", 8321, "t").hosts
    assert (
        "[fe80::1]:8321" in server.access("fe80::1", 8321, "t").hosts
        and "localhost" in server.access("::1", 80, "t").hosts
    )


def test_a_worker_is_woken_once_and_not_where_one_is(tmp_path, monkeypatch):
    folder, started = StudioFolder(tmp_path / "w"), []
    folder.make()

    class Process:
        def __init__(self, command, **how):
            started.append((command, how["start_new_session"]))

        def poll(self):
            return None

    monkeypatch.setattr(server.subprocess, "Popen", Process)
    workers = server.Workers(folder)
    workers.wake("learn")
    workers.wake("learn")
    with lane_lock(folder, "draw").acquire():
        workers.wake("draw")
        assert is_held(lane_lock(folder, "draw"))
    assert started == [
        ([sys.executable, "-m", "l2dm.studio.worker", str(folder.world), str(folder.root), "learn"], True)
    ]


def test_a_second_worker_of_a_lane_does_nothing(tmp_path):
    folder = StudioFolder(tmp_path / "w")
    folder.make()
    found = Queue(folder).add("draw", {"prompt": "a dog", "settings": {}, "attention": False})
    with lane_lock(folder, "draw").acquire():
        main(str(folder.world), str(folder.root), "draw")
    assert found.job.state == "queued"
    found.ask("cancel")
    main(str(folder.world), str(folder.root), "draw")
    assert found.job.state == "cancelled", "and ends, as no studio is open"


def test_the_socket_is_this_machines_alone():
    with server.listen("127.0.0.1", 0) as found:
        assert found.family == socket.AF_INET and found.getsockname()[0] == "127.0.0.1"
