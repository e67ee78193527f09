"""Requests that mean harm: none succeeds, each is answered with a clear status, and nothing on the disk
changes.
"""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from tiny import mini

from l2dm import World
from l2dm.studio.app import studio_app
from l2dm.studio.folder import StudioFolder
from l2dm.studio.security import MOST_FORM, MOST_UPLOAD
from studio.conftest import ACCESS, ORIGIN

EVIL = "http://evil.example"
COOKIE = {"cookie": f"{ACCESS.cookie}={ACCESS.token}"}
SENT = {**COOKIE, "origin": ORIGIN}
FORM = {**SENT, "content-type": "application/x-www-form-urlencoded"}
SCRIPT = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{7*7}}"
UP = [
    "..;",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "....//",
    "%00",
    "0000.png%00.txt",
    "..%5c..%5cwin.ini",
    "/etc/passwd",
]


def multipart(*parts: bytes, boundary: bytes = b"x") -> tuple[dict[str, str], bytes]:
    body = (
        b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + boundary + b"--\r\n"
    )
    return {**SENT, "content-type": f"multipart/form-data; boundary={boundary.decode()}"}, body


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = StudioFolder(tmp_path_factory.mktemp("studio") / "world")
    World.create(folder.world, mini())
    (folder.world.parent / "secret.png").write_bytes(b"not for you")
    return folder


@pytest.fixture
def stranger(place):
    """No cookie, no origin; refuses to follow where it is sent."""
    client = TestClient(
        studio_app(place, ACCESS, lambda lane: None),
        ORIGIN,
        follow_redirects=False,
        raise_server_exceptions=False,
    )
    before = snapshot(place)
    yield client
    assert snapshot(place) == before, "a hostile request left something behind"


def snapshot(place: StudioFolder) -> dict[str, bytes | None]:
    return {
        str(p.relative_to(place.root.parent)): p.read_bytes() if p.is_file() else None
        for p in sorted(place.root.parent.rglob("*"))
    }


#: method, path, headers, body, status
REQUESTS = {
    "no token": ("GET", "/", {}, b"", 401),
    "a token of nothing": ("GET", "/?token=", {}, b"", 401),
    "a wrong token": ("GET", "/?token=wrong-token", {}, b"", 401),
    "the token's beginning": ("GET", f"/?token={ACCESS.token[:-1]}", {}, b"", 401),
    "the token twice, the wrong one first": ("GET", f"/?token=no&token={ACCESS.token}", {}, b"", 401),
    "a token that is not ASCII": ("GET", "/?token=%ff%fe", {}, b"", 401),
    "the token at another page": ("GET", f"/draw?token={ACCESS.token}", {}, b"", 401),
    "a wrong cookie": ("GET", "/", {"cookie": f"{ACCESS.cookie}=wrong"}, b"", 401),
    "an empty cookie": ("GET", "/", {"cookie": f"{ACCESS.cookie}="}, b"", 401),
    "another studio's cookie": ("GET", "/", {"cookie": f"{ACCESS.cookie}-1={ACCESS.token}"}, b"", 401),
    "a broken cookie": ("GET", "/", {"cookie": f'=;;{ACCESS.cookie};"=\\'}, b"", 401),
    "no cookie for a style sheet": ("GET", "/static/studio.css", {}, b"", 401),
    "no cookie for a picture": ("GET", "/pictures/0000.png", {}, b"", 401),
    "no cookie for events": ("GET", "/jobs/20260101-000000-abcdef/events", {}, b"", 401),
    "no cookie for a change": ("POST", "/undo", {"origin": ORIGIN}, b"", 401),
    "a rebound name": ("GET", "/", {**COOKIE, "host": "evil.example:8321"}, b"", 421),
    "a rebound name with the token": (
        "GET",
        f"/?token={ACCESS.token}",
        {"host": "evil.example:8321"},
        b"",
        421,
    ),
    "another port": ("GET", "/", {**COOKIE, "host": "127.0.0.1:80"}, b"", 421),
    "no port": ("GET", "/", {**COOKIE, "host": "127.0.0.1"}, b"", 421),
    "a name that ends like ours": ("GET", "/", {**COOKIE, "host": "evil.localhost:8321"}, b"", 421),
    "a name that begins like ours": ("GET", "/", {**COOKIE, "host": "127.0.0.1:8321.evil.example"}, b"", 421),
    "a user in the name": ("GET", "/", {**COOKIE, "host": "127.0.0.1:8321@evil.example"}, b"", 421),
    "another name of this machine": ("GET", "/", {**COOKIE, "host": "0.0.0.0:8321"}, b"", 421),
    "an empty name": ("GET", "/", {**COOKIE, "host": ""}, b"", 421),
    "a forwarded name": (
        "GET",
        "/",
        {**COOKIE, "host": "evil.example", "x-forwarded-host": "127.0.0.1:8321"},
        b"",
        421,
    ),
    "a form of another site": ("POST", "/undo", {**FORM, "origin": EVIL}, b"version=1", 403),
    "a form of no site": (
        "POST",
        "/undo",
        {**COOKIE, "content-type": FORM["content-type"]},
        b"version=1",
        403,
    ),
    "a form of a sandboxed frame": ("POST", "/undo", {**FORM, "origin": "null"}, b"version=1", 403),
    "a form of another port": (
        "POST",
        "/undo",
        {**FORM, "origin": "http://127.0.0.1:9999"},
        b"version=1",
        403,
    ),
    "a form of another scheme": (
        "POST",
        "/undo",
        {**FORM, "origin": "https://127.0.0.1:8321"},
        b"version=1",
        403,
    ),
    "a form of a name like ours": (
        "POST",
        "/undo",
        {**FORM, "origin": f"{ORIGIN}.evil.example"},
        b"version=1",
        403,
    ),
    "a form of another name of this machine": (
        "POST",
        "/undo",
        {**FORM, "origin": "http://localhost:8321"},
        b"version=1",
        403,
    ),
    "a script of another site": ("GET", "/", {**COOKIE, "origin": EVIL}, b"", 403),
    "a picture in another site": (
        "GET",
        "/pictures/0000.png",
        {**COOKIE, "sec-fetch-site": "cross-site"},
        b"",
        403,
    ),
    "a frame on another port": ("GET", "/", {**COOKIE, "sec-fetch-site": "same-site"}, b"", 403),
    "a form whose browser tells": (
        "POST",
        "/undo",
        {**FORM, "sec-fetch-site": "cross-site"},
        b"version=1",
        403,
    ),
    "PUT": ("PUT", "/", SENT, b"", 405),
    "DELETE": ("DELETE", "/pictures/0000.png", SENT, b"", 405),
    "OPTIONS": ("OPTIONS", "/undo", {**SENT, "access-control-request-method": "POST"}, b"", 405),
    "TRACE": ("TRACE", "/", SENT, b"", 405),
    "a method of nobody": ("FROB", "/", SENT, b"", 405),
    "a change by GET": ("GET", "/undo", COOKIE, b"", 405),
    "JSON": ("POST", "/draw", {**SENT, "content-type": "application/json"}, b"{}", 415),
    "text that a form can send": ("POST", "/draw", {**SENT, "content-type": "text/plain"}, b"prompt=x", 415),
    "no kind of content": ("POST", "/draw", SENT, b"prompt=x", 415),
    "a form too large": ("POST", "/draw", FORM, b"prompt=" + b"x" * MOST_FORM, 413),
    "a form that says it is too large": ("POST", "/draw", {**FORM, "content-length": str(10**15)}, b"x", 413),
    "an upload that says it is too large": (
        "POST",
        "/photos",
        {**multipart()[0], "content-length": str(MOST_UPLOAD + 1)},
        b"",
        413,
    ),
    "a length below zero": ("POST", "/draw", {**FORM, "content-length": "-1"}, b"x", 400),
    "a length of words": ("POST", "/draw", {**FORM, "content-length": "ten"}, b"x", 400),
    "a thousand fields": ("POST", "/draw", FORM, b"&".join(b"f%d=1" % i for i in range(1000)), 400),
    "a thousand parts": (
        "POST",
        "/draw",
        *multipart(*[b'Content-Disposition: form-data; name="a"\r\n\r\n1'] * 1000),
        400,
    ),
    "a form without its boundary": (
        "POST",
        "/draw",
        {**SENT, "content-type": "multipart/form-data"},
        b"--x\r\n",
        400,
    ),
    "a form cut off": (
        "POST",
        "/draw",
        {**SENT, "content-type": "multipart/form-data; boundary=x"},
        b"--y\r\nfoo",
        400,
    ),
    "a part without a name": ("POST", "/draw", *multipart(b"Content-Disposition: form-data\r\n\r\n1"), 400),
    "a file where none belongs": (
        "POST",
        "/draw",
        *multipart(b'Content-Disposition: form-data; name="prompt"; filename="a"\r\n\r\nx'),
        400,
    ),
    "a job of no such name": ("GET", "/jobs/nobody", COOKIE, b"", 404),
    "events of no such job": ("GET", "/jobs/20260101-000000-abcdef/events", COOKIE, b"", 404),
    "cancelling no such job": ("POST", "/jobs/20260101-000000-abcdef", FORM, b"what=cancel", 404),
    "no such picture": ("GET", "/pictures/9999.png", COOKIE, b"", 404),
    "deleting what is no picture": ("POST", "/pictures/secret.png", FORM, b"", 404),
    "no such page": ("GET", "/admin", COOKIE, b"", 404),
    "a version of words": ("GET", "/versions/one/picture", COOKIE, b"", 404),
    "a version that is not there": ("GET", "/versions/99999999999999999999/picture?of=dog", COOKIE, b"", 422),
    "a picture of a path": ("GET", "/versions/1/picture?of=../../secret", COOKIE, b"", 422),
    "a picture of a token that is a path": ("GET", "/versions/1/picture?of=<../secret>", COOKIE, b"", 422),
    "a cell beyond all": ("GET", "/versions/1/picture?of=dog&cell=99999999999", COOKIE, b"", 422),
    "undoing another version": ("POST", "/undo", FORM, b"version=7", 422),
    "going back to a version of nobody": ("POST", "/undo", FORM, b"version=0&to=-1", 422),
    "a version that was never there": ("GET", "/versions/7", COOKIE, b"", 404),
    "a branch outside": ("POST", "/branch", FORM, b"version=0&name=../secret", 422),
    "a branch of a path": ("POST", "/branch", FORM, b"version=0&name=/tmp/secret", 422),
    "a branch of markup": ("POST", "/branch", FORM, b"version=0&name=<script>alert(1)</script>", 422),
    "a branch over a file": ("POST", "/branch", FORM, b"version=0&name=secret.png", 422),
    "renaming what is not there": ("POST", "/rename", FORM, b"was=<rex>&token=<max>", 422),
    "renaming a script": ("GET", "/rename?token=<script>alert(1)</script>", COOKIE, b"", 422),
    "forgetting what is not there": ("POST", "/forget", FORM, b"token=<rex>", 422),
    "forgetting a path": ("POST", "/forget", FORM, b"token=../../secret&for-good=yes", 422),
    "making a second world": ("POST", "/create", FORM, b"base=/etc", 422),
    "drawing nothing": ("POST", "/draw", FORM, b"prompt=+", 422),
    "a setting that is no number": ("POST", "/draw", FORM, b"prompt=a+dog&steps=ten", 422),
    "a setting out of its range": ("POST", "/draw", FORM, b"prompt=a+dog&n=99999999999999999999", 422),
    "a setting that is not finite": ("POST", "/draw", FORM, b"prompt=a+dog&guidance_scale=nan", 422),
    "a composition of nobody": ("POST", "/draw", FORM, b"prompt=a+dog&composition=<b>", 422),
    "a folder of pictures": ("POST", "/teach", FORM, b"token=<rex>&noun=dog&class_pictures=/etc", 422),
    "a folder to write": ("POST", "/teach", FORM, b"token=<rex>&noun=dog&tracker_folder=/tmp/secret", 422),
    "a tracker that tells others": ("POST", "/teach", FORM, b"token=<rex>&noun=dog&tracker=wandb", 422),
    "a folder of masks": ("POST", "/teach", FORM, b"token=<rex>&noun=dog&masks=../../secret", 422),
    "a token that is not taught": ("POST", "/draw", FORM, b"prompt=<script>", 422),
    "half a character": ("POST", "/draw", FORM, b"prompt=<%ed%a0%80>", 422),
    **{f"up and out, {up}": ("GET", f"/pictures/{up}", COOKIE, b"", 404) for up in UP},
    **{f"up and out of the styles, {up}": ("GET", f"/static/{up}", COOKIE, b"", 404) for up in UP},
}


@pytest.mark.parametrize("name", REQUESTS)
def test_hostile(stranger, name):
    method, path, headers, body, status = REQUESTS[name]
    answer = stranger.request(method, path, headers=headers, content=body)
    assert answer.status_code == status, answer.text[:300]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "not for you" not in answer.text and "root:" not in answer.text and "Traceback" not in answer.text
    assert "<script>alert" not in answer.text and "onerror=alert" not in answer.text.replace(
        "&#34;", ""
    ).replace("&lt;img src=x onerror=alert", "")
    if status in (401, 421):
        assert ACCESS.token not in str(answer.headers) + answer.text


def test_more_than_sixty():
    assert len(REQUESTS) >= 60
