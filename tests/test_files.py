"""Outputs: whole or not at all, each under a name of its own, on systems of every kind."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from l2dm import files
from l2dm.files import is_reserved, replace, sync, write_new, write_whole


def numbered(folder: Path):
    return (folder / f"{i:04d}.png" for i in range(1000))


def no_links(*args, **options):
    raise OSError(errno.EPERM, "no hard links here")


CLAIM = """
import itertools, os, sys
from pathlib import Path
from l2dm.files import write_new
if sys.argv[2] == "no links":
    def refuse(*args): raise PermissionError
    os.link = refuse
print("ready", flush=True)
sys.stdin.read()
free = (Path(sys.argv[1]) / f"{i:04d}.png" for i in itertools.count())
for _ in range(40):
    path = write_new(free, f"{os.getpid()}".encode())
    print(path.name)
"""


@pytest.mark.parametrize("kind", ["links", "no links"])
def test_six_processes_get_names_of_their_own(tmp_path, kind):
    """Each says which names it got, and those files, and no others, are its own."""
    waiting, begin = os.pipe()
    running = [
        subprocess.Popen(
            [sys.executable, "-c", CLAIM, tmp_path, kind], stdin=waiting, stdout=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    assert all(process.stdout.readline() == "ready\n" for process in running)
    os.close(begin)
    said = {process.pid: process.communicate()[0].split() for process in running}
    os.close(waiting)
    got = sorted(name for names in said.values() for name in names)
    assert got == [f"{i:04d}.png" for i in range(240)] == sorted(os.listdir(tmp_path))
    for pid, names in said.items():
        assert all((tmp_path / name).read_text() == str(pid) for name in names)


@pytest.mark.parametrize("links", [True, False])
def test_nothing_is_overwritten(tmp_path, monkeypatch, links):
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "0000.png").touch()
    (tmp_path / "0001.png").mkdir()
    assert write_new(numbered(tmp_path), b"new").name == "0002.png"
    assert sorted(os.listdir(tmp_path)) == ["0000.png", "0001.png", "0002.png"]
    assert (tmp_path / "0002.png").read_bytes() == b"new" and not (tmp_path / "0000.png").read_bytes()


@pytest.mark.parametrize("call", ["write", "fsync", "link", "replace"])
@pytest.mark.parametrize("write", [write_new, write_whole])
def test_a_full_disk_leaves_no_empty_file(tmp_path, monkeypatch, call, write):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, "no space")

    if call == "write":
        device = Path("/dev/full").open  # whatever is written there finds no room
        monkeypatch.setattr(Path, "open", lambda path, mode: device("wb", buffering=0))
    else:
        monkeypatch.setattr(os, call, full)
        if call == "replace":
            monkeypatch.setattr(os, "link", no_links)
    where = numbered(tmp_path) if write is write_new else tmp_path / "a.png"
    if call == "link":
        write(where, b"x")  # a link that is refused has another way
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"x"]
    else:
        with pytest.raises(OSError, match=r"[Nn]o space"):
            write(where, b"x")
        assert os.listdir(tmp_path) == []


def test_windows_waits_for_a_file_that_another_program_has_open(tmp_path, monkeypatch):
    """Simulated: the rename is refused twice, or for good."""
    (tmp_path / "a").write_bytes(b"a")
    real, refused, waited = os.replace, [2], []

    def busy(source, target):
        if refused[0]:
            refused[0] -= 1
            raise PermissionError(errno.EACCES, "used by another process")
        real(source, target)

    monkeypatch.setattr(os, "replace", busy)
    replace(tmp_path / "a", tmp_path / "b", "nt", waited.append)
    assert os.listdir(tmp_path) == ["b"] and len(waited) == 2 and sum(waited) < 0.1
    refused[0] = 10**9
    with pytest.raises(PermissionError):
        replace(tmp_path / "b", tmp_path / "a", "nt", waited.append)
    assert os.listdir(tmp_path) == ["b"] and sum(waited) < 2
    waited.clear()
    with pytest.raises(PermissionError):
        replace(tmp_path / "b", tmp_path / "a", "posix", waited.append)
    assert not waited, "elsewhere a refusal is one"


def test_windows_flushes_no_folder_and_no_handle_that_reads_alone(tmp_path, monkeypatch):
    """Simulated: the flags with which things are opened to be flushed."""
    (tmp_path / "a").write_bytes(b"a")
    real, opened = os.open, []
    monkeypatch.setattr(os, "open", lambda path, flags: opened.append((path, flags)) or real(path, flags))
    sync(tmp_path, "nt")
    sync(tmp_path / "a", "nt")
    assert opened == [(tmp_path / "a", os.O_RDWR)]
    sync(tmp_path, "posix")
    assert opened[1:] == [(tmp_path, os.O_RDONLY)]


def test_a_file_system_that_flushes_no_folders(tmp_path, monkeypatch):
    def refuse(handle):
        raise OSError(errno.EINVAL, "not for folders")

    (tmp_path / "a").touch()
    monkeypatch.setattr(os, "fsync", refuse)
    sync(tmp_path)
    with pytest.raises(OSError):
        sync(tmp_path / "a")


def test_names_that_windows_has_for_itself():
    for name in ("CON", "nul", "Aux.txt", "com1", "LPT9.tar.gz", "COM¹", "a.", "a ", "con .txt", "CONIN$"):
        assert is_reserved(name), name
    for name in (
        "console",
        "null",
        "com",
        "com10",
        "lpt0.txt",
        ".con",
        "a.b",
        "adapter-con.safetensors",
        "auxiliary",
    ):
        assert not is_reserved(name), name


def test_what_a_killed_process_left_goes_with_the_next_writer(tmp_path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    rest = "0123456789abcdef"
    for owner in (
        f"{files._HERE}-{ended.pid}",
        f"{files._HERE}-{os.getpid()}",
        f"deadbeef-{ended.pid}",
        "notes",
    ):
        (tmp_path / f"{files.PART}{owner}-{rest}").write_bytes(b"half")
    write_whole(tmp_path / "a.png", b"x")
    assert {path.name for path in tmp_path.iterdir()} == {
        "a.png",
        f"{files.PART}{files._HERE}-{os.getpid()}-{rest}",
        f"{files.PART}deadbeef-{ended.pid}-{rest}",
        f"{files.PART}notes-{rest}",
    }, "another machine's, and what runs still, stay"
