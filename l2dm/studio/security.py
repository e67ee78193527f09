"""Who may talk to the studio: a browser on this machine that was given the token, from the studio's own pages
and no others.

- *Host* must be the studio's own: a foreign name that was made to point here (DNS rebinding) is refused.
- The *token* of the printed address becomes a cookie that scripts cannot read and other sites cannot send.
- What changes something must come with the studio's own *Origin* (no cross-site requests).
- Bodies end at a limit, and every answer forbids inline scripts, framing, sniffing and foreign content.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Bytes of a request: of photos, of files of other programs, of anything else.
MOST_FORM, MOST_UPLOAD = 1 << 20, 256 << 20
UPLOADS = {"/photos": MOST_UPLOAD, "/exchange/in": 4 << 30}
ENTER = (
    '<!doctype html><html lang="en"><meta http-equiv="refresh" content="0;url=/"><link rel="icon" '
    'href="/static/icon.svg"><title>L2DM studio</title>'
)

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}


@dataclass(frozen=True)
class Access:
    """The token, and the names by which this studio may be called, such as ``127.0.0.1:8321``."""

    token: str
    hosts: frozenset[str]
    cookie: str = "l2dm-studio"


class Guard:
    """ASGI middleware around everything else."""

    def __init__(self, app: ASGIApp, access: Access):
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close", "code": 1008})

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        if answer := self.refusal(scope):
            return await answer(scope, receive, guarded)
        most = UPLOADS.get(scope["path"], MOST_FORM)
        await self.app(scope, _limited(receive, most), guarded)

    def refusal(self, scope: Scope) -> Response | None:
        """An answer instead of the app's; None where the request is good."""
        headers, access = Headers(scope=scope), self.access
        if len(hosts := headers.getlist("host")) != 1 or hosts[0].lower() not in access.hosts:
            return _say(
                421, "This studio is not called that; open the address that it printed when it started."
            )
        if scope["method"] not in ("GET", "HEAD", "POST"):
            return _say(405, f"{scope['method'][:20]} is not understood here.")
        asked = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
        if scope["path"] == "/" and asked:
            if not _same(asked, access.token):
                return _say(
                    401,
                    "This token is of another studio; open the address that this one printed when it "
                    "started.",
                )
            answer = HTMLResponse(
                ENTER
            )  # no redirect: a link from another page would take its foreign origin along
            answer.set_cookie(access.cookie, access.token, path="/", httponly=True, samesite="strict")
            return answer
        if not _same(_cookie(headers, access.cookie), access.token):
            return _say(
                401, "This page needs its token; open the address that the studio printed when it started."
            )
        own = {f"{scope['scheme']}://{hosts[0].lower()}"}
        origins = headers.getlist("origin")
        if any(origin.lower() not in own for origin in origins) or (
            scope["method"] == "POST" and not origins
        ):
            return _say(403, "This came from another page than the studio's own, so nothing was done.")
        if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return _say(403, "Another site asked for this, so nothing was done.")
        return _wrong_body(scope, headers) if scope["method"] == "POST" else None


def _wrong_body(scope: Scope, headers: Headers) -> Response | None:
    kind = headers.get("content-type", "").split(";")[0].strip().lower()
    if kind not in ("application/x-www-form-urlencoded", "multipart/form-data"):
        return _say(415, "The studio reads forms alone.")
    most, length = UPLOADS.get(scope["path"], MOST_FORM), headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        return _say(400, "Its length is no number.")
    return _say(413, _too_large(most)) if int(length) > most else None


def _limited(receive: Receive, most: int) -> Receive:
    """``receive`` until more than ``most`` bytes came: also of bodies that did not tell their length."""
    got = 0

    async def limited() -> Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        if got > most:
            raise HTTPException(413, _too_large(most))
        return message

    return limited


def _too_large(most: int) -> str:
    return f"Larger than {most >> 20} MiB; send less." if most > MOST_FORM else "This form is too large."


def _cookie(headers: Headers, name: str) -> str:
    try:
        found = SimpleCookie(headers.get("cookie", "")).get(name)
    except CookieError:
        return ""
    return found.value if found else ""


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _say(status: int, sentence: str) -> Response:
    return PlainTextResponse(sentence + "\n", status)
