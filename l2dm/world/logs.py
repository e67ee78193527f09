"""A lesson's log: JSON lines of steps with their losses, and of samples with their prompts."""

from __future__ import annotations

import json
from collections.abc import Collection
from contextlib import suppress
from typing import Any


def parse_log(content: bytes) -> list[dict[str, Any]]:
    """The lines of a log; raises ValueError for what is none."""
    lines = [json.loads(line) for line in content.decode().splitlines()]
    if not all(isinstance(line, dict) and isinstance(line.get("step"), int) for line in lines):
        raise ValueError("a line is no object with a step")
    return lines


def log_without(content: bytes, tokens: Collection[str]) -> tuple[bytes, set[str]]:
    """A log without the samples whose prompts name one of ``tokens``, and what these were called; all of them
    where it cannot be read.
    """
    lines = []
    with suppress(ValueError, AttributeError):
        lines = parse_log(content)
    named = [line for line in lines if any(t in str(p) for t in tokens for p in line.get("prompts", ()))]
    left = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines if line not in named)
    return left.encode(), {str(line.get("sample")) for line in named}
