"""Malformed inputs in families: of photos, captions, settings, names, worlds and bases; ``ALL`` has the
single ones of malformed.py too.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.numpy import save

from benchmarks.malformed import (
    CASES,
    Case,
    _bad_base,
    _broken_world,
    _draw,
    _edit_manifest,
    _files,
    _learn,
    _toml,
)

SKIP = "--skip-bad"

#: settings of learning that are out of their range
OUT_OF_RANGE = (
    "steps = 0",
    "steps = -5",
    "steps = 1000000",
    "batch = 0",
    "batch = 257",
    "learning_rate = 0.0",
    "learning_rate = 1.5",
    "learning_rate = nan",
    "learning_rate = inf",
    "token_learning_rate = -1.0",
    "prior_weight = -0.1",
    "prior_pictures = 0",
    "rank = 0",
    "rank = 5000",
    "mixes = -1",
    "seed = -1",
    "memory_budget = -1",
    "rainbow_similarity_weight = -1.0",
    "kept_share = 1.5",
    "checkpoint_every = 0",
    "report_pictures = 65",
    "threads = -1",
    "threads = 5000",
)
#: settings of learning that are of another type
OF_ANOTHER_TYPE = (
    "steps = 2.5",
    "steps = '9'",
    "flip = 1",
    "flip = 'yes'",
    "method = 3",
    "learning_rate = '1e-4'",
    "seed = [1]",
    "compile = 0",
)
#: settings of drawing that are out of their range
DRAWING_OUT_OF_RANGE = (
    "n = 0",
    "n = 5000",
    "steps = 0",
    "guidance_scale = -1.0",
    "height = -64",
    "width = 5000",
    "batch = 0",
    "guidance_until = 2.0",
)
#: words that are no tokens
NO_TOKENS = (
    "<>",
    "<a b>",
    "rex>",
    "<rex",
    "<réx>",
    "<<rex>>",
    "<rex!>",
    "../rex",
    "<-rex>",
    "<rex>\n",
    "＜rex＞",
)
#: words that are no nouns
NO_NOUNS = (
    "dog!",
    "/etc/passwd",
    "../dog",
    "d0g",
    "dog\x00",
    "[b]dog[/b]",
    "dog, cat",
    "a" * 61,
    "-dog",
    "🐕",
)
#: what -> width, height, bits, colours of a PNG that is too large
LARGE = {
    "16 bits, 13,000 a side": (13000, 13000, 16, 0),
    "RGB, 12,500 a side": (12500, 12500, 8, 2),
    "a strip of 4 million": (4_000_000, 64, 8, 2),
    "100,000 a side": (100_000, 100_000, 8, 2),
    "4 thousand million a side": (2**31 - 1, 2**31 - 1, 8, 2),
}
#: what -> a line that is none of metadata.jsonl
NO_METADATA = {
    "no JSON": "a.png: a dog",
    "a list": "[]",
    "no text": '{"file_name": "0.png"}',
    "no name": '{"text": "a dog"}',
    "a number for a text": '{"file_name": "0.png", "text": 5}',
    "deep": "[" * 100_000,
    "cut": '{"file_name": "0.png", "te',
}
#: what -> changes of a manifest that break it
NO_MANIFESTS = {
    "a list for its versions": {"versions": []},
    "a number for its base": {"base": 5},
    "no tuner of ours": {"tuner": "nope"},
    "a head that is not there": {"head": 7},
    "a negative head": {"head": -1},
    "a text for its head": {"head": "1"},
    "an unknown key": {"more": 1},
    "a number for its journal": {"journal": 3},
    "a text for its format": {"format": "1"},
    "an empty version": {"versions": {"1": {}}},
    "no fingerprint": {"fingerprint": None},
    "a float for its counter": {"counter": 1.5},
}
#: verb, its arguments after the world, words of the error
REFUSED = (
    ("rename", ("<nope>", "<new>"), "has learnt <known>"),
    ("rename", ("<known>", "../x"), "angle brackets"),
    ("rename", ("<known>", "<known>"), "choose another token"),
    ("export", ("<nope>",), "has learnt <known>"),
    ("export", ("--strength", "nan"), "between -10 and 10"),
    ("export", ("--dtype", "int4"), "expected one of"),
    ("export", ("--format", "pickle"), "expected one of"),
    ("export", ("--out", "{}/world/versions/0009"), "clears"),
    ("export", ("--format", "world", "--out", "{}/world"), "already exists"),
    ("forget", ("<nope>", "--purge", "--yes"), "nothing of it"),
)


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (96, 80), **options) -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(256, size=(*size[::-1], 3), dtype=np.uint8)
    Image.fromarray(pixels).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, bits: int = 8, colours: int = 2, data: bytes = b"0") -> bytes:
    """A PNG file whose header says so, with next to nothing in it."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    head = struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def photos() -> Iterator[Case]:
    def file(what: str, name: str, data: Callable[[], bytes], *words: str) -> Case:
        return Case(f"photo: {what}", lambda p: _files(p, name, data()), (f"{name}: ", SKIP, *words))

    for kind in ("JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"):
        name = f"a.{kind.lower()}"
        yield file(f"{kind} cut after half", name, lambda k=kind: encoded(k)[: len(encoded(k)) // 2])
        yield file(f"{kind} of twenty bytes", name, lambda k=kind: encoded(k)[:20])
        yield file(f"{kind} of 8 pixels a side", name, lambda k=kind: encoded(k, size=(8, 8)), "8 x 8 pixels")
    for kind in ("ICO", "PPM", "TGA", "PDF"):
        yield file(f"a {kind} file", f"a.{kind.lower()}", lambda k=kind: encoded(k))
    for name in ("a.mp4", "a.zip", "a.psd", "a.svg", "a.html", "a.json", "a", "a.toml"):
        yield file(
            f"not one: {name}", name, lambda: b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not a photo"
        )
    for what, header in LARGE.items():
        yield file(what, "a.png", lambda h=header: png(*h), "save it smaller")
    yield file("no pixels", "a.png", lambda: png(0, 0))
    yield file("one pixel high", "a.png", lambda: encoded("PNG", size=(900, 1)), "900 x 1")
    yield file("only zeros", "a.jpg", lambda: bytes(5000))
    yield file("a JPEG with noise at its end", "a.jpg", lambda: b"\xff\xd8" + bytes(range(256)) * 8)
    yield file("HEIC that is none", "a.heic", lambda: b"\0\0\0\x18ftypheic" + bytes(50))


def captions() -> Iterator[Case]:
    def beside(what: str, text: str | bytes, *words: str, name: str = "0.txt") -> Case:
        data = text if isinstance(text, bytes) else text.encode()
        return Case(f"caption: {what}", lambda p: _files(p, name, data), words)

    for word in ("<TOK>", "<Rex>", "<s1>", "<*>", "<name>", "<|endoftext|>"):
        yield beside(f"says {word}", f"a photo of {word} on grass", word, "not in this world")
    for word in ("[trigger]", "[V]", "[name]", "{}", "{token}", "{trigger}"):
        yield beside(f"says {word}", f"a photo of {word} on grass", word, "placeholder", "write <rex>")
    for name in ("0.txt", "0.TXT", "0.png.txt", "0.caption"):
        yield beside(
            f"UTF-16 in {name}", "a dog".encode("utf-16"), f"{name}: the caption is not UTF-8", name=name
        )
    yield beside("Latin-1", "ein Hündchen".encode("latin-1"), "not UTF-8")
    yield beside("NUL", "a dog\0on grass", "NUL")
    yield beside("five megabytes", "dog " * 1_400_000, "larger than 4 MB")
    table = "metadata.jsonl"
    for what, text in NO_METADATA.items():
        yield beside(f"metadata with {what}", text, "metadata.jsonl: line 1", "mend the line", name=table)
    yield beside("metadata in UTF-16", '{"file_name": "0.png"}'.encode("utf-16"), "not UTF-8", name=table)
    yield beside(
        "metadata with a placeholder",
        json.dumps({"file_name": "0.png", "text": "[trigger] dog"}),
        "placeholder",
        name=table,
    )


def settings() -> Iterator[Case]:
    for line in OUT_OF_RANGE:
        name = line.split()[0]
        yield Case(
            f"settings: {line}", lambda p, t=line: _toml(p, f"[learn]\n{t}"), (name, "expected a value")
        )
    for line in OF_ANOTHER_TYPE:
        yield Case(
            f"settings: {line}",
            lambda p, t=line: _toml(p, f"[learn]\n{t}"),
            (line.split()[0], "expected", "found"),
        )
    for line in ("method = 'lora2'", "lr_scheduler = 'cos'", "precision = 'fp16'"):
        yield Case(f"settings: {line}", lambda p, t=line: _toml(p, f"[learn]\n{t}"), ("expected one of",))
    for line in DRAWING_OUT_OF_RANGE:
        yield Case(
            f"drawing: {line}",
            lambda p, t=line: _toml(p, f"[generate]\n{t}", "generate"),
            ("expected a value",),
        )
    for line in ("sampler = 'euler5'", "composition = 'caa2'"):
        yield Case(
            f"drawing: {line}",
            lambda p, t=line: _toml(p, f"[generate]\n{t}", "generate"),
            ("expected one of",),
        )
    for text in ("steps", "[learn", "steps = 1\nsteps = 2", "[learn]\n[learn]", "a = \x01"):
        yield Case(
            f"settings: the text {text!r}", lambda p, t=text: _toml(p, t), ("not a readable TOML file",)
        )


def names() -> Iterator[Case]:
    for token in NO_TOKENS:
        yield Case(
            f"token: {token!r}", lambda p, t=token: _learn(p, None, t), ("expected a name in angle brackets",)
        )
    for noun in NO_NOUNS:
        yield Case(
            f"noun: {noun[:20]!r}", lambda p, n=noun: _learn(p, None, "<rex>", n), ("one to four words",)
        )
    for prompt in ("<x>", "<known>s and <other>", "a photo of <KNOWN >"):
        yield Case(f"prompt: {prompt!r}", lambda p, t=prompt: _draw(p, t), ("prompt",))


def worlds() -> Iterator[Case]:
    for what, change in NO_MANIFESTS.items():
        yield Case(
            f"world: {what}",
            lambda p, c=change: _broken_world(p, lambda w: _edit_manifest(w, **c)),
            ("manifest.json",),
        )
    for what, text in {
        "empty": "",
        "a list": "[]",
        "null": "null",
        "deep": "[" * 100_000,
        "not UTF-8": "\udcff",
        "cut": '{"base": "mi',
    }.items():
        data = text.encode("utf-8", "surrogateescape")
        yield Case(
            f"world: manifest {what}",
            lambda p, d=data: _broken_world(p, lambda w: (w / "manifest.json").write_bytes(d)),
            ("manifest.json",),
        )
    for verb in ("show", "history", "undo", "report"):
        yield Case(f"{verb}: no world", lambda p, v=verb: [v, str(p / "nowhere")], ("no world here",))
    yield Case(
        "forget: what it does not know",
        lambda p: ["forget", str(p / "world"), "<knwon>"],
        ("did you mean <known>",),
    )


def bases() -> Iterator[Case]:
    for what, text in {
        "no JSON": "{",
        "a list": "[]",
        "no class": "{}",
        "a number for its class": '{"_class_name": 5}',
    }.items():
        yield Case(
            f"base: model_index.json with {what}",
            lambda p, t=text: _bad_base(p, {"model_index.json": t}),
            ("base",),
        )
    for kind in ("StableDiffusionXLPipeline", "StableDiffusion3Pipeline", "PixArtAlphaPipeline"):
        text = json.dumps({"_class_name": kind})
        yield Case(f"base: {kind}", lambda p, t=text: _bad_base(p, {"model_index.json": t}), (kind,))


def travels() -> Iterator[Case]:
    def takes(*given: str) -> Callable[[Path], list[str]]:
        return lambda p: ["import", str(p / "world"), *(word.format(p) for word in given)]

    def file(what: str, data: bytes, words: str) -> Case:
        def prepare(p: Path) -> list[str]:
            (p / "file.safetensors").write_bytes(data)
            return takes("{}/file.safetensors", "--token", "<new>", "--noun", "dog")(p)

        return Case(f"import: {what}", prepare, ("file.safetensors", words))

    yield file("a file that is empty", b"", "cut off")
    yield file("a pickle", b"\x80\x04]\x94.", "can run code")
    yield file("a page instead of a file", b"<!DOCTYPE html>" * 9, "cut off")
    yield file("vectors of another base", save({"emb": np.ones((1, 7), np.float32)}), "another base")
    yield file("no numbers", save({"emb": np.full((1, 8), np.nan, np.float32)}), "not finite")
    for given, word in {
        ("{}/none.safetensors", "--token", "<new>", "--noun", "dog"): "no such file",
        ("{}/world", "--token", "<new>", "--noun", "dog"): "weights",
        ("--from", "{}/none", "--token", "<known>", "--as", "<new>"): "no world here",
        ("--from", "{}/world", "--token", "<nope>"): "has learnt <known>",
        ("--from", "{}/world", "--token", "<known>"): "--as",
        ("--from", "{}/world", "--token", "<known>", "--as", "new"): "angle brackets",
    }.items():
        yield Case(f"import: {' '.join(given)}", takes(*given), (word,))
    for verb, given, word in REFUSED:
        yield Case(
            f"{verb}: {' '.join(given)}",
            lambda p, v=verb, g=given: [v, str(p / "world"), *(word.format(p) for word in g)],
            (word,),
        )


FAMILIES = (travels, photos, captions, settings, names, worlds, bases)
ALL = [*CASES, *(case for family in FAMILIES for case in family())]
