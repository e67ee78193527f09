"""JSON files that carry their own checksum: their second line is the SHA-256 of all that follows it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any

_SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def seal(value: Mapping[str, object]) -> bytes:
    """``value``, which must not be empty, as the bytes of such a file: of each table and list in it every
    entry has a line of its own.
    """
    body = (",\n".join(f" {_text(name)}: {_lines(held)}" for name, held in value.items()) + "\n}\n").encode()
    return b'{\n "sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def unseal(data: bytes) -> tuple[bytes, bool | None]:
    """The JSON without its checksum, and whether the checksum is right; None where the file has none."""
    if not (found := _SEAL.match(data)):
        return data, None
    body = data[found.end() :]
    return b"{\n" + body, hashlib.sha256(body).hexdigest().encode() == found[1]


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _lines(value: Any) -> str:
    if isinstance(value, dict) and value:
        return "{\n  " + ",\n  ".join(f"{_text(str(k))}: {_text(v)}" for k, v in value.items()) + "\n }"
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(_text, value)) + "\n ]"
    return _text(value)
