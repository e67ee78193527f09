"""JSON files that carry their own checksum: their second line is the SHA-256 of all that follows it."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

_SEAL = re.compile(rb'\{\n "sha256": "([0-9a-f]{64})",\n')


def seal(value: dict[str, Any]) -> bytes:
    """``value``, which must not be empty, as the bytes of such a file."""
    body = (json.dumps(value, indent=1, ensure_ascii=False)[2:] + "\n").encode()
    return b'{\n "sha256": "%s",\n' % hashlib.sha256(body).hexdigest().encode() + body


def unseal(data: bytes) -> tuple[bytes, bool | None]:
    """The JSON without its checksum, and whether the checksum is right; None where the file has none."""
    if not (found := _SEAL.match(data)):
        return data, None
    body = data[found.end() :]
    return b"{\n" + body, hashlib.sha256(body).hexdigest().encode() == found[1]
