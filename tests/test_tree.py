"""Bounds that keep the tree readable: one idea a file, a function that one sees whole."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROOMS = ("l2dm", "tests", "benchmarks", "mini_base", "demo")
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 300, 60


def sources() -> dict[Path, str]:
    return {path: path.read_text(encoding="utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def is_table(node: ast.stmt) -> bool:
    """Whether a statement at a module's top is data: a literal that has a name."""
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(
        node.value, (ast.Dict, ast.List, ast.Tuple, ast.Set)
    )


def test_no_file_is_long_but_for_its_tables():
    long = {}
    for path, text in sources().items():
        tables = sum(n.end_lineno - n.lineno + 1 for n in ast.parse(text).body if is_table(n))
        if (count := len(text.splitlines()) - tables) > MOST_LINES:
            long[path.relative_to(ROOT).as_posix()] = count
    assert not long, f"split these by idea: {long}"


def test_no_function_is_long():
    long = {}
    for path, text in sources().items():
        functions = (
            n for n in ast.walk(ast.parse(text)) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
        )
        counts = {f"{path.relative_to(ROOT)}: {n.name}": n.end_lineno - n.lineno + 1 for n in functions}
        long |= {name: count for name, count in counts.items() if count > MOST_LINES_OF_A_FUNCTION}
    assert not long, f"give their parts names: {long}"


def test_a_family_is_one_short_file_and_no_other_room_knows_it():
    rooms = ROOT / "l2dm"
    texts = {path.relative_to(rooms): path.read_text(encoding="utf-8") for path in rooms.rglob("*.py")}
    families = {path: text for path, text in texts.items() if path.parts[:2] == ("backbone", "families")}
    lines = {path.stem: len(text.splitlines()) for path, text in families.items()}
    del lines["__init__"], lines["family"]
    assert len(lines) >= 9 and max(lines.values()) <= 200, lines
    others = {path: text for path, text in texts.items() if path not in families}
    assert not [path for path, text in others.items() if re.search(r"\bif family(\.name)? ==", text)]
    names = re.compile("unet|attn2|cross_attention_dim")
    outside = [
        f"{path}:{number}"
        for path, text in others.items()
        if path.parts[0] != "backbone"
        for number, line in enumerate(text.splitlines(), 1)
        if names.search(line)
    ]
    assert len(outside) <= 5, outside


def test_every_file_is_formatted_as_a_whole():
    marks = ("fmt: " + "skip", "fmt: " + "off", "noqa: " + "E501")
    skipped = {
        path.relative_to(ROOT).as_posix() for path, text in sources().items() for m in marks if m in text
    }
    assert not skipped, f"break their lines instead: {skipped}"
