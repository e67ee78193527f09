"""Single malformed inputs (malformed_families.py makes many of a kind), and how the command line answers
them: one clear error, exit code 2, nothing changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from PIL import Image, ImageDraw

from l2dm.world.sealed import seal


@dataclass(frozen=True)
class Case:
    """``prepare(place)`` makes the input under ``place`` and returns the arguments; the error must contain
    ``words``.
    """

    name: str
    prepare: Callable[[Path], list[str]]
    words: tuple[str, ...]


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (72, 64)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", size, (200, 40 + seed * 20, 90))
    ImageDraw.Draw(image).ellipse((10, 10, 50, 40 + seed), fill=(20, 90, 200))
    image.save(path)
    return path


def _good(place: Path) -> Path:
    for i in range(3):
        photo(place / "photos" / f"{i}.png", i)
    return place / "photos"


def _learn(
    place: Path, folder: Path | None = None, token: str = "<rex>", noun: str = "dog", *more: str
) -> list[str]:
    return [
        "learn",
        str(place / "world"),
        str(folder or _good(place)),
        "--token",
        token,
        "--noun",
        noun,
        *more,
    ]


def _files(place: Path, name: str, data: bytes, extra: tuple[str, ...] = ()) -> list[str]:
    folder = _good(place)
    (folder / name).write_bytes(data)
    return _learn(place, folder, "<rex>", "dog", *extra)


def _toml(place: Path, text: str, verb: str = "learn") -> list[str]:
    path = place / "settings.toml"
    path.write_text(text)
    if verb == "generate":
        return ["generate", str(place / "world"), "a dog", "--settings", str(path)]
    return _learn(place, None, "<rex>", "dog", "--settings", str(path))


def _draw(place: Path, prompt: str, *more: str) -> list[str]:
    return ["generate", str(place / "world"), prompt, "--out", str(place / "pictures"), *more]


def _broken_world(place: Path, change: Callable[[Path], None]) -> list[str]:
    shutil.copytree(place / "world", place / "broken")
    change(place / "broken")
    return ["generate", str(place / "broken"), "a dog", "--out", str(place / "pictures")]


def _edit_manifest(world: Path, **changes) -> None:
    path = world / "manifest.json"
    before = {key: value for key, value in json.loads(path.read_text()).items() if key != "sha256"}
    path.write_bytes(seal({**before, **changes}))


def _half_jpeg() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((256, 256), 80).save(buffer, "JPEG", quality=95)
    return buffer.getvalue()[: len(buffer.getvalue()) // 2]


def _twins(place: Path) -> list[str]:
    folder = _good(place)
    shutil.copy(folder / "0.png", folder / "copy.png")
    return _learn(place, folder)


def _crowd(place: Path) -> list[str]:
    for i in range(31):
        photo(place / "crowd" / f"{i}.png", 0, (64 + i, 64))
    return _learn(place, place / "crowd")


def _bad_base(place: Path, files: dict[str, str]) -> list[str]:
    for name, text in files.items():
        (place / "base" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "base" / name).write_text(text)
    return ["init", str(place / "fresh"), "--base", str(place / "base")]


def _empty(place: Path) -> Path:
    (place / "empty").mkdir()
    return place / "empty"


CASES = [
    # files
    Case(
        "photos: no such folder",
        lambda p: _learn(p, p / "nowhere"),
        ("nowhere: no such folder", "give a folder"),
    ),
    Case(
        "photos: a file",
        lambda p: _learn(p, photo(p / "single.png")),
        ("single.png: not a folder", "put 1 to 30 photos into a folder"),
    ),
    Case("photos: empty folder", lambda p: _learn(p, _empty(p)), ("empty: no usable photo", "1 to 30")),
    Case("photos: more than thirty", _crowd, ("31 photos", "at most 30")),
    Case("photo: zero bytes", lambda p: _files(p, "a.jpg", b""), ("a.jpg: the file is empty", "--skip-bad")),
    Case(
        "photo: truncated", lambda p: _files(p, "a.jpg", _half_jpeg()), ("a.jpg: broken after", "--skip-bad")
    ),
    Case("photo: text with a photo's name", lambda p: _files(p, "a.png", b"hello"), ("a.png:", "--skip-bad")),
    Case(
        "photo: another kind of file",
        lambda p: _files(p, "notes.pdf", b"%PDF-1.4"),
        ("notes.pdf: not a photo", "--skip-bad"),
    ),
    Case(
        "photo: damaged in the middle",
        lambda p: _files(p, "a.png", (_good(p) / "0.png").read_bytes()[:60]),
        ("a.png: ", "--skip-bad"),
    ),
    Case("photo: twice the same", _twins, ("copy.png: the same picture as 0.png", "--skip-bad")),
    Case(
        "photo: too small",
        lambda p: (photo(p / "photos" / "s.png", 0, (9, 9)), _learn(p))[1],
        ("s.png: 9 x 9 pixels", "at least 32"),
    ),
    Case(
        "caption: not text",
        lambda p: _files(p, "0.txt", b"\xff\xfe\x00\xd8"),
        ("0.txt: the caption is not UTF-8",),
    ),
    Case("check: no such folder", lambda p: ["check", str(p / "nowhere")], ("nowhere: no such folder",)),
    # tokens and nouns
    Case("token: no brackets", lambda p: _learn(p, None, "rex"), ("token 'rex'", "did you mean '<rex>'")),
    Case("token: capitals", lambda p: _learn(p, None, "<Rex>"), ("token '<Rex>'", "did you mean '<rex>'")),
    Case("token: a space", lambda p: _learn(p, None, "<my rex>"), ("did you mean '<myrex>'",)),
    Case("token: empty", lambda p: _learn(p, None, ""), ("token ''", "such as '<rex>'")),
    Case(
        "token: too long", lambda p: _learn(p, None, f"<{'a' * 50}>"), ("expected a name in angle brackets",)
    ),
    Case(
        "token: learnt already",
        lambda p: _learn(p, None, "<known>"),
        ("<known>", "learnt it already", "choose another"),
    ),
    Case("noun: empty", lambda p: _learn(p, None, "<rex>", " "), ("noun ' '", "such as 'dog'")),
    Case("noun: a token", lambda p: _learn(p, None, "<rex>", "<dog>"), ("noun '<dog>'", "one to four words")),
    Case(
        "noun: a sentence",
        lambda p: _learn(p, None, "<rex>", "my very own dear little dog"),
        ("one to four words",),
    ),
    # prompts
    Case(
        "prompt: unknown token",
        lambda p: _draw(p, "a <nobody> dog"),
        ("<nobody> is not in this world", "it knows <known>"),
    ),
    Case("prompt: mistyped token", lambda p: _draw(p, "a <knwon> dog"), ("did you mean <known>?",)),
    *(
        Case(
            f"prompt: token written {written}",
            lambda p, w=written: _draw(p, f"a {w} dog"),
            ("did you mean <known>?",),
        )
        for written in ("<KNOWN>", "＜known＞", "< known >", "[known]", "<known", "‹known›")
    ),
    *(
        Case(
            f"prompt: weight {weight}",
            lambda p, w=weight: _draw(p, w),
            ("is an attention weight", "leave the weight out"),
        )
        for weight in ("(<known> dog:1.3)", "((dog))", "[dog]", "(dog)++")
    ),
    Case(
        "prompt: weight in the negative",
        lambda p: _draw(p, "a dog", "--negative-prompt", "(blurry:1.2)"),
        ("is an attention weight",),
    ),
    Case(
        "prompt: subjects that it lacks",
        lambda p: _draw(p, "a dog", "--subjects", "dog,horse"),
        ("'horse' is not in the prompt",),
    ),
    Case("prompt: too long", lambda p: _draw(p, "dog " * 50), ("50 tokens", "shorten it")),
    Case(
        "prompt: unknown token in the negative",
        lambda p: _draw(p, "a dog", "--negative-prompt", "<who>"),
        ("<who> is not in this world",),
    ),
    # settings
    Case(
        "settings: no such file",
        lambda p: _learn(p, None, "<rex>", "dog", "--settings", str(p / "no.toml")),
        ("no such settings file",),
    ),
    Case(
        "settings: not TOML", lambda p: _toml(p, "steps = = 3"), ("settings.toml: not a readable TOML file",)
    ),
    Case(
        "settings: unknown name",
        lambda p: _toml(p, "[learn]\nstep = 3"),
        ("unknown setting 'step'", "did you mean 'steps'"),
    ),
    Case(
        "settings: wrong type",
        lambda p: _toml(p, "[learn]\nsteps = 'many'"),
        ("steps = 'many'", "expected int"),
    ),
    Case(
        "settings: out of range",
        lambda p: _toml(p, "[learn]\nlearning_rate = -1.0"),
        ("learning_rate", "between"),
    ),
    Case(
        "settings: unknown table",
        lambda p: _toml(p, "[lern]\nsteps = 3"),
        ("unknown table [lern]", "[learn]"),
    ),
    Case(
        "option: zero steps",
        lambda p: _learn(p, None, "<rex>", "dog", "--steps", "0"),
        ("steps = 0", "between 1 and"),
    ),
    Case(
        "option: a size that does not fit",
        lambda p: _draw(p, "a dog", "--width", "70"),
        ("width = 70", "multiples of"),
    ),
    # worlds and bases
    Case("world: none there", lambda p: ["show", str(p / "nowhere")], ("no world here", "l2dm init")),
    Case("world: there already", lambda p: ["init", str(p / "world")], ("already exists",)),
    Case(
        "world: broken manifest",
        lambda p: _broken_world(p, lambda w: (w / "manifest.json").write_text("{")),
        ("manifest.json: not a readable manifest", "l2dm repair"),
    ),
    Case(
        "world: from the future",
        lambda p: _broken_world(p, lambda w: _edit_manifest(w, format=99)),
        ("format 99",),
    ),
    Case(
        "world: weights missing",
        lambda p: _broken_world(p, lambda w: (w / "versions/0001/weights.safetensors").unlink()),
        ("missing", "l2dm verify"),
    ),
    Case(
        "world: weights changed",
        lambda p: _broken_world(p, lambda w: (w / "versions/0001/tokens.safetensors").write_bytes(b"x")),
        ("not what files.json records", "l2dm verify"),
    ),
    Case(
        "base: no such folder",
        lambda p: ["init", str(p / "fresh"), "--base", str(p / "nobase")],
        ("nobase", "no such folder"),
    ),
    Case(
        "base: no diffusers folder",
        lambda p: _bad_base(p, {"a.txt": ""}),
        ("model_index.json is missing", "give one, or a single"),
    ),
    Case(
        "base: another pipeline",
        lambda p: _bad_base(p, {"model_index.json": '{"_class_name": "KandinskyPipeline"}'}),
        ("KandinskyPipeline", "l2dm knows Stable Diffusion"),
    ),
    Case(
        "base: parts missing",
        lambda p: _bad_base(
            p,
            {
                "model_index.json": '{"_class_name": "StableDiffusionPipeline", '
                '"unet": ["diffusers", "UNet2DConditionModel"]}'
            },
        ),
        ("names no vae",),
    ),
]


def state(folder: Path) -> str:
    """A hash of every file's name and content: what must not change."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.name != ".lock"):
        digest.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return digest.hexdigest()


def call(arguments: list[str]) -> tuple[int, str]:
    """Run the command line in this process; exit code and what it wrote to standard error."""
    from l2dm.cli import main

    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["l2dm", *arguments]),
        contextlib.redirect_stderr(said),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def verdict(case: Case, place: Path) -> str:
    """Empty when the case is answered as it should be, else what is wrong. ``place/world`` must hold a world
    with <known>.
    """
    arguments = case.prepare(place)
    before = state(place / "world")
    code, said = call(arguments)
    if code != 2:
        return f"exit code {code}: {said}"
    if "Traceback" in said:
        return f"traceback: {said}"
    if missing := [w for w in case.words if w not in said]:
        return f"does not say {missing}: {said}"
    if said.count("error:") != 1 or len(said.strip().splitlines()) != 1:
        return f"not one line: {said}"
    if state(place / "world") != before or (place / "pictures").exists() or (place / "fresh").exists():
        return "something was changed"
    return ""
