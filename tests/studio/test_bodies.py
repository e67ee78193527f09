"""Bodies that mean harm: longer than they say, of no said length, and files that are not what they seem."""

from __future__ import annotations

import asyncio
import io
import struct
import tracemalloc
import zlib

import pytest
from conftest import paint

from l2dm.studio.app import studio_app
from l2dm.studio.jobs import Queue
from l2dm.studio.security import MOST_FORM, UPLOADS
from l2dm.studio.worker import work_through
from studio.conftest import ACCESS, ORIGIN
from studio.test_teach import give, png, start

START = b'--x\r\nContent-Disposition: form-data; name="%s"; filename="a.%s"\r\n\r\n'
UPLOAD = {
    "/photos": START % (b"files", b"png"),
    "/exchange/in": START % (b"file", b"safetensors"),
    "/draw": b"prompt=",
}


def pour(app, path: str, first: bytes, length: int | None = None, most: int = 10_000) -> tuple[int, str, int]:
    """Send ``first`` and then 64 KiB after 64 KiB, up to ``most`` times, whatever length was said; status,
    text, and how many bytes were taken.
    """
    kind = "multipart/form-data; boundary=x" if first[:2] == b"--" else "application/x-www-form-urlencoded"
    said = {
        "host": ORIGIN[7:],
        "origin": ORIGIN,
        "cookie": f"{ACCESS.cookie}={ACCESS.token}",
        "content-type": kind,
    }
    said |= {"transfer-encoding": "chunked"} if length is None else {"content-length": str(length)}
    scope = {"type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": path}
    scope |= {"raw_path": path.encode(), "query_string": b"", "root_path": "", "server": None, "client": None}
    scope["headers"] = [(name.encode(), value.encode()) for name, value in said.items()]
    taken, answer = 0, {"status": 0, "body": b""}

    async def receive():
        nonlocal taken
        body = b"0" * (1 << 16) if taken else first
        taken += len(body)
        return {"type": "http.request", "body": body, "more_body": taken < most << 16}

    async def send(message):
        answer["status"] = message.get("status", answer["status"])
        answer["body"] += message.get("body", b"")

    asyncio.run(app(scope, receive, send))
    return answer["status"], answer["body"].decode(), taken


@pytest.mark.parametrize("length", [None, 0, 10])
@pytest.mark.parametrize("path", UPLOAD)
def test_a_body_ends_at_its_limit_whatever_it_said(folder, world, monkeypatch, path, length):
    limit = 2 << 20 if path in UPLOADS else MOST_FORM
    if path in UPLOADS:
        monkeypatch.setitem(UPLOADS, path, limit)
    app = studio_app(folder, ACCESS, lambda lane: None)
    status, said, taken = pour(app, path, UPLOAD[path], length)
    assert status == 413 and ("Larger than 2 MiB" if path in UPLOADS else "too large") in said
    assert limit < taken <= limit + (2 << 16), "no more is taken than shows that it is too much"
    assert not list(Queue(folder).all()) and not list(folder.photos.iterdir())


@pytest.mark.parametrize("path", UPLOAD)
def test_what_says_that_it_is_too_large_is_not_even_begun(folder, world, path):
    app = studio_app(folder, ACCESS, lambda lane: None)
    status, said, taken = pour(app, path, UPLOAD[path], UPLOADS.get(path, MOST_FORM) + 1)
    assert status == 413 and taken == 0 and ("4096 MiB" in said) == (path == "/exchange/in")


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(side: int, beside: bytes = b"") -> bytes:
    """A PNG of a few kB that says it has ``side`` x ``side`` pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(bytes(1 << 20), 9))
    return b"\x89PNG\r\n\x1a\n" + header + beside + pixels + chunk(b"IEND", b"")


def jpeg() -> bytes:
    content = io.BytesIO()
    paint(1, (200, 200)).save(content, "JPEG")
    return content.getvalue()


BROKEN = {
    "bomb.png": (bomb(60_000), "more than 200 million pixels"),
    "huge.png": (bomb(2**31 - 1), "more than 200 million pixels"),
    "cut.png": (png(3)[:-200], "broken after"),
    "cut.jpg": (jpeg()[:-300], "broken after"),
    "head.png": (png(3)[:20], "broken after"),
    "empty.png": (b"", "the file is empty"),
    "words.png": (bomb(64, chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(8 << 20), 9))), "broken after"),
    "page.png": (b"<svg onload=alert(1)>", "cannot read, or broken"),
}


def test_photos_that_are_not_what_they_seem(browser, folder, world):
    tracemalloc.start()
    photos, page = give(browser, *((name, content) for name, (content, _) in BROKEN.items()))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert f"{len(BROKEN)} are left out" in page and page.count("Left out:") == len(BROKEN)
    for name, (_, said) in BROKEN.items():
        verdict = page.split(f'title="{name}"')[1].split("</p>")[1]
        assert said in verdict, (name, verdict)
    assert most < 64 << 20 and not (folder.photos / photos / "crops").exists()
    assert "none of these files can be used" in start(browser, photos).text and not list(Queue(folder).all())


def test_a_mask_that_is_a_bomb_ends_a_learning_in_one_sentence(browser, folder, world):
    photos, _ = give(browser, ("a.png", png(1)), ("a-masklabel.png", bomb(60_000)))
    start(browser, photos, masks="beside")
    work_through(folder, "learn")
    [found] = Queue(folder).all("learn")
    assert found.job.state == "failed" and "more than 200 million pixels" in found.job.message


@pytest.mark.parametrize("name", ["a.safetensors", "a.zip"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04" + bytes(100),
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 100) + b'{"a": {"dtype": "F32", "shape": [1000000000000], "data_offsets": [0, 4]}}',
    ],
)
def test_a_file_for_exchange_that_is_none_fails_in_one_sentence(browser, folder, world, name, content):
    asked = {"token": "<tom>", "noun": "dog"}
    answer = browser.post("/exchange/in", data=asked, files={"file": (name, content)})
    assert answer.status_code in (200, 422)
    work_through(folder, "learn")
    for found in Queue(folder).all("import"):
        assert found.job.state == "failed" and "unexpected" not in found.job.message, found.job.message
        assert "\n" not in found.job.message
