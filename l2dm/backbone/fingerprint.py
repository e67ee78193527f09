"""What identifies a base: a hash over everything that loading reads, whole, links followed; large files'
hashes are kept in a cache.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from pathlib import Path

from ..files import write_whole
from .source import Source, read_json
from .weight_files import weight_files

#: Begins a fingerprint of this kind; those of worlds made before have no prefix.
PREFIX = "v2-"
TOKENIZER = (
    "tokenizer.json",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "spiece.model",
    "chat_template.jinja",
)
#: keys of configurations that tell who wrote them, and change nothing
_NOTES = ("_diffusers_version", "_name_or_path", "transformers_version")
_SMALL = 1 << 20
#: seconds within which two changes of a file may bear the same time
_TOO_NEW = 2.0


def fingerprint(source: Source) -> str:
    """``v2-`` and 32 hex digits over weights, configurations, tokenizer and sampler as they are loaded."""
    said, digest, family = source.said, hashlib.sha256(), source.family

    def add(name: str, value: str) -> None:
        digest.update(f"{name}\0{value}\n".encode())

    for part in family.networks:
        add(part, _meaning(said, source.config_file(part)))
        files = [] if source.checkpoint else [p for p in source.weights(part)[1] if p.suffix != ".json"]
        for number, path in enumerate(files):
            add(f"{part}/{number}", file_digest(path))
    if source.checkpoint:
        add("checkpoint", file_digest(source.checkpoint))
    for place in (source.folder / reader.tokenizer for reader in family.readers):
        for name in TOKENIZER:
            if (path := place / name).is_file():
                add(name if place.name == "tokenizer" else f"{place.name}/{name}", file_digest(path))
    add("scheduler", source.class_of("scheduler") + _meaning(said, source.config_file("scheduler")))
    return PREFIX + digest.hexdigest()[:32]


def clip_fingerprint(folder: Path) -> str:
    """``v2-`` and 32 hex digits over a CLIP folder's weights, configuration, tokenizer and how it prepares
    pictures.
    """
    digest = hashlib.sha256(_meaning(f"clip {str(folder)!r}", folder / "config.json").encode())
    weights = weight_files([path.name for path in folder.iterdir()])[1]
    for name in (*(n for n in weights if not n.endswith(".json")), "preprocessor_config.json", *TOKENIZER):
        if (folder / name).is_file():
            digest.update(f"{name}\0{file_digest(folder / name)}\n".encode())
    return PREFIX + digest.hexdigest()[:32]


def matches(source: Source, recorded: str) -> bool:
    """Whether ``source`` is the base that ``recorded`` was taken of, in the way that it was taken."""
    if recorded.startswith(PREFIX):
        return fingerprint(source) == recorded
    return source.checkpoint is None and old_fingerprint(source.folder) == recorded


def old_fingerprint(folder: Path) -> str:
    """As worlds recorded it at first: every weight file's name, size, first and last MiB."""
    digest = hashlib.sha256()
    for path in sorted(
        p for p in folder.rglob("*") if p.suffix in (".safetensors", ".bin") and "clip" not in p.parts[-2]
    ):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            digest.update(file.read(1 << 20))
    return digest.hexdigest()[:32]


def _meaning(said: str, path: Path) -> str:
    kept = {key: value for key, value in read_json(said, path).items() if key not in _NOTES}
    return json.dumps(kept, sort_keys=True)


# ---------------------------------------------------------------- hashes of files, kept


def file_digest(path: Path) -> str:
    """SHA-256 of a file's whole content; of a large one from the cache while its size and time of change
    stay.
    """
    real = path.resolve()
    facts = real.stat()
    if facts.st_size < _SMALL:
        return hashlib.sha256(real.read_bytes()).hexdigest()
    key, state = str(real), [facts.st_size, facts.st_mtime_ns]
    kept = _read_cache().get(key)
    if isinstance(kept, list) and len(kept) == 3 and kept[:2] == state and isinstance(kept[2], str):
        return kept[2]
    with real.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if time.time_ns() - facts.st_mtime_ns > _TOO_NEW * 1e9:
        _write_cache({**_read_cache(), key: [*state, found]})
    return found


def cache_file() -> Path:
    """Where hashes are kept: in ``XDG_CACHE_HOME``, else in ``~/.cache``."""
    home = os.environ.get("XDG_CACHE_HOME")
    return Path(home or os.path.expanduser("~/.cache")) / "l2dm" / "digests.json"


def _read_cache() -> dict[str, list]:
    try:
        found = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _write_cache(entries: dict[str, list]) -> None:
    """What cannot be written is not kept; files that are gone are dropped."""
    path = cache_file()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        there = {key: value for key, value in entries.items() if os.path.exists(key)}
        write_whole(path, json.dumps(there).encode())
