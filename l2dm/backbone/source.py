"""Where a base's files lie: a diffusers folder, a hub id, or a single-file checkpoint; and which of them are
loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BaseMissing, BaseModelError, SettingsError, first_line
from ..methods import METHODS
from ..settings import PLACES, GenerateSettings, LearnSettings
from ..spelling import today
from . import hub
from .checks import check
from .families import Family, family_of
from .weight_files import EXPECTED, weight_files

#: Name of the base that ships with the package.
MINI = "mini"
MINI_FOLDER = Path(__file__).parent / "mini"
#: Files besides a pipeline's parts that loading reads: configurations, and weights.
_BESIDE, _CLIP = ["model_index.json", "l2dm.json", "clip/*.json", "clip/*.txt"], "clip/model*.safetensors"
#: tables and lists of ``l2dm.json``
_DEFAULTS = {"learn": dict, "generate": dict, "tuners": dict, "nouns": list}


@dataclass(frozen=True)
class Source:
    """A base's place. ``folder`` holds configurations and tokenizer, and the weights if ``checkpoint``, a
    single file, does not.

    ``revision`` is the commit of a hub id, ``variant`` the weights asked for, such as "fp16"; "" for the
    plain ones. ``config``: the folder or hub id that a checkpoint's configurations come from.
    """

    name: str
    folder: Path
    checkpoint: Path | None = None
    revision: str = ""
    variant: str = ""
    config: str = ""

    @property
    def said(self) -> str:
        """How errors name it."""
        return f"base {self.name!r}"

    @property
    def family(self) -> Family:
        """Raises BaseModelError where ``model_index.json`` is missing, or names a model of none."""
        path = self.folder / "model_index.json"
        if not path.is_file():
            raise BaseModelError(
                f"{self.said}: {path} is missing, so this is no diffusers folder; give one, or a single "
                ".safetensors checkpoint"
            )
        return family_of(self.said, path, self.index)

    @property
    def index(self) -> dict[str, Any]:
        """``model_index.json``: part -> [library, class]."""
        return read_json(self.said, self.folder / "model_index.json")

    def class_of(self, part: str) -> str:
        return (self.index.get(part) or [None, ""])[1]

    def settings_of(self, part: str) -> dict[str, Any]:
        """The part's configuration file."""
        return read_json(self.said, self.config_file(part))

    @property
    def quantized(self) -> bool:
        """Whether its denoiser's weights are kept in fewer bits than they work in."""
        return not self.checkpoint and bool(self.settings_of(self.family.denoiser).get("quantization_config"))

    def config_file(self, part: str) -> Path:
        return self.folder / part / ("scheduler_config.json" if part == "scheduler" else "config.json")

    def weights(self, part: str) -> tuple[str, list[Path]]:
        """(variant, files) of a network's weights. Raises BaseModelError when there are none."""
        place = self.folder / part
        names = sorted(path.name for path in place.iterdir()) if place.is_dir() else []
        variant, files = weight_files(names, self.variant)
        if not files:
            raise BaseModelError(
                f"{self.said}: {place} holds no weights, {EXPECTED}; copy or download the base again, whole"
            )
        return variant, [place / name for name in files]

    @property
    def weight_paths(self) -> list[Path]:
        """All files with weights that loading reads."""
        if self.checkpoint:
            return [self.checkpoint]
        files = [path for part in self.family.networks for path in self.weights(part)[1]]
        return [path for path in files if path.suffix != ".json"]

    @property
    def defaults(self) -> dict[str, Any]:
        """Settings by kind: its family's, and before them those that it brings along in ``l2dm.json``."""
        folder = self.checkpoint.parent if self.checkpoint else self.folder
        path, usual = folder / "l2dm.json", self.family.defaults_of(self)
        if not path.is_file():
            return usual
        found = today(read_json(self.said, path))
        for key, value in found.items():
            if key not in _DEFAULTS:
                raise SettingsError(f"{path}: unknown key {key!r}; known: {', '.join(_DEFAULTS)}")
            within = {"tuners": dict, "nouns": str}.get(key, object)
            inner = value.values() if isinstance(value, dict) else value
            if not isinstance(value, _DEFAULTS[key]) or not all(isinstance(item, within) for item in inner):
                kind = "a list of words" if key == "nouns" else "an object of settings"
                raise SettingsError(f"{path}: {key!r} must be {kind}, found {json.dumps(value)[:60]}")
        for table in (found.get("learn", {}), *found.get("tuners", {}).values()):
            if places := [name for name in PLACES if name in table]:
                raise SettingsError(f"{path}: {places[0]} is for the user alone to say; leave it out there")
        LearnSettings.of(found.get("learn", {}), place=f"{path}: learn")
        GenerateSettings.of(found.get("generate", {}), place=f"{path}: generate")
        for name, table in found.get("tuners", {}).items():
            if name not in (tuners := sorted({row.tuner for row in METHODS.values()})):
                raise SettingsError(f"{path}: tuners: unknown tuner {name!r}; known: {', '.join(tuners)}")
            LearnSettings.of(table, place=f"{path}: tuners.{name}")
        return found | {kind: given | found.get(kind, {}) for kind, given in usual.items()}


def find_base(
    base: str | Path | Source,
    *,
    revision: str = "",
    variant: str = "",
    config: str = "",
    download: bool = True,
    ready: Callable[[Source], object] = lambda source: None,
) -> Source:
    """The place of ``base``: "mini", a diffusers folder, a ``.safetensors`` checkpoint, or a hub id.

    Only with ``download`` is the hub asked: for ``model_index.json``, then for the other configurations, and
    for weights when these are good and ``ready``, which may ask more of them, has not raised. Without, as
    worlds are opened, what does not lie on this machine raises BaseMissing. Raises BaseModelError when it is
    of another kind.
    """
    if isinstance(base, Source):
        return base
    name = str(base)
    said, path = f"base {name!r}", MINI_FOLDER if name == MINI else Path(base).expanduser()
    if revision and not hub.is_hub_id(name):
        raise BaseModelError(f"{said}: only a hub id has revisions; leave --revision out")
    if path.is_file():
        source = _checkpoint(name, path, config, download)
    elif path.is_dir():
        source = Source(name, path, variant=variant)
    elif hub.is_hub_id(name):
        source = _on_hub(name, revision, variant, download, ready)
    elif not download:
        raise BaseMissing(f"{said}: no such folder or file")
    else:
        raise BaseModelError(
            f"{said}: no such folder; give a diffusers folder, a .safetensors checkpoint, a hub id "
            "(owner/name), or leave it out"
        )
    family = source.family  # or an error
    if source.checkpoint and not hasattr(family.pipeline_class(), "from_single_file"):
        raise BaseModelError(
            f"{said}: diffusers reads no single-file checkpoint of {family.name}; give the model's "
            "diffusers folder or hub id"
        )
    return source


def _on_hub(
    name: str, revision: str, variant: str, download: bool, ready: Callable[[Source], object]
) -> Source:
    said = f"base {name!r}"
    if not download:
        folder = hub.cached(said, name, revision)
        return Source(name, folder, revision=folder.name, variant=variant)
    folder = hub.fetch_file(said, name, "model_index.json", revision).parent
    source = Source(name, folder, revision=folder.name, variant=variant)
    family = source.family
    hub.fetch(said, name, configs(family), folder.name, small=True)
    check(source)
    ready(source)
    files, wanted = hub.listing(name, folder.name, folder), [_CLIP]
    for part in family.networks:
        here = [file.split("/", 1)[1] for file in files if file.startswith(f"{part}/")]
        if not (weights := weight_files(here, variant)[1]):
            raise BaseModelError(f"{said}: its folder {part} holds no weights that l2dm reads; {EXPECTED}")
        wanted += [f"{part}/{file}" for file in weights]
    hub.fetch(said, name, wanted, folder.name)
    return source


def _checkpoint(name: str, path: Path, config: str, download: bool) -> Source:
    said = f"base {name!r}"
    if path.suffix in (".ckpt", ".pt", ".pth", ".bin"):
        raise BaseModelError(
            f"{said}: a {path.suffix} file is a pickle, which can run code when it is opened, so l2dm does "
            "not; convert it to "
            ".safetensors, with a tool that you trust, or give the model's diffusers folder"
        )
    if path.suffix != ".safetensors":
        raise BaseModelError(f"{said}: not a checkpoint; give a diffusers folder or a .safetensors file")
    where = config or default_config(said, path)
    if Path(where).expanduser().is_dir():
        folder = Path(where).expanduser()
    elif hub.is_hub_id(where):
        folder = _configurations(said, where, bool(config), download)
    elif not download:
        raise BaseMissing(f"config {where!r}: no such folder ({said} has its configurations from there)")
    else:
        raise BaseModelError(f"config {where!r}: no such folder; give a diffusers folder of the same family")
    return Source(name, folder, checkpoint=path, config=where)


def _configurations(said: str, repo: str, asked: bool, download: bool) -> Path:
    """The folder of a checkpoint's configurations from the hub; ``asked``: the user named ``repo``."""
    ask = f"config {repo!r}"
    if not download:
        return hub.cached(ask, repo)
    try:
        index = hub.fetch_file(ask, repo, "model_index.json")
        return hub.fetch(ask, repo, configs(Source(repo, index.parent).family), small=True)
    except BaseModelError as error:
        if asked:
            raise
        raise BaseModelError(
            f"{said}: it has no configurations, and those of {repo} could not be had from the hub "
            f"({first_line(error.__cause__ or error)}); give --config FOLDER, a diffusers folder of the same "
            "family"
        ) from error


def default_config(said: str, path: Path) -> str:
    """The hub id that diffusers takes a checkpoint's configurations from, by the names and shapes of its
    weights.
    """
    from diffusers.loaders.single_file_utils import (
        fetch_diffusers_config,
        load_single_file_checkpoint,
    )

    try:
        return fetch_diffusers_config(load_single_file_checkpoint(str(path)))["pretrained_model_name_or_path"]
    except Exception as error:
        raise BaseModelError(
            f"{said}: cannot be read as a checkpoint ({error}); give --config FOLDER, a diffusers folder of "
            "the same family"
        ) from error


def configs(family: Family) -> list[str]:
    """Patterns of the files besides weights that loading a base of ``family`` reads."""
    files = {"scheduler": "scheduler_config.json"} | dict.fromkeys(family.networks, "config.json")
    return [*_BESIDE, *(f"{part}/{files.get(part, '*')}" for part in family.parts)]


def read_json(said: str, path: Path) -> dict[str, Any]:
    """An object from a JSON file; a BaseModelError that names the file for anything else."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BaseModelError(f"{said}: {path} is missing; copy or download the base again, whole") from None
    except (ValueError, OSError) as error:
        raise BaseModelError(
            f"{said}: {path} is not valid JSON ({error}); mend it, or take it away"
        ) from None
    if not isinstance(found, dict):
        raise BaseModelError(f"{said}: {path} must hold an object, found a {type(found).__name__}")
    return found
