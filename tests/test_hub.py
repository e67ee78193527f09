"""Bases and CLIP models from the hub, against one that is two folders: a remote one, and the cache of this
machine.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import shutil
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from commands import draw_one
from test_backbone import tiny_base
from tiny import tiny_clip

from benchmarks.malformed import call
from l2dm import World
from l2dm.errors import BaseMissing, BaseModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub:
    """``taken``: what was downloaded; ``looked``: repositories that were only looked for in the cache."""

    def __init__(self, place: Path):
        self.remote, self.cache = place / "remote", place / "cache"
        self.taken: list[str] = []
        self.looked: list[str] = []

    def files(self, repo):
        root = self.remote / repo
        return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]

    def _take(self, repo, files):
        for file in files:
            target = self.cache / repo / COMMIT / file
            if not target.exists():
                self.taken.append(f"{repo}/{file}")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(self.remote / repo / file, target)

    def hf_hub_download(self, repo, name, revision=None):
        self._take(repo, [name])
        return str(self.cache / repo / COMMIT / name)

    def snapshot_download(
        self, repo, revision=None, allow_patterns=None, local_files_only=False, dry_run=False
    ):
        folder = self.cache / repo / COMMIT
        if local_files_only:
            self.looked.append(repo)
            if not folder.exists():
                raise FileNotFoundError(f"no snapshot of {repo}")
            return str(folder)
        files = [f for f in self.files(repo) if any(fnmatch.fnmatch(f, p) for p in allow_patterns or ["*"])]
        if dry_run:
            return [SimpleNamespace(file_size=10**6, will_download=not (folder / f).exists()) for f in files]
        self._take(repo, files)
        return str(folder)

    def model_info(self, repo, revision=None):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=file) for file in self.files(repo)])


@pytest.fixture
def hub(tmp_path, backbone, monkeypatch):
    hub = Hub(tmp_path / "hub")
    for name in ("hf_hub_download", "snapshot_download", "model_info"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    torch.manual_seed(0)
    tiny_base(hub.remote / "owner/sd", backbone)
    tiny_clip(hub.remote / "owner/clip")
    return hub


def test_what_is_needed_is_downloaded_after_saying_so_and_nothing_when_a_world_is_opened(
    hub, tmp_path, caplog
):
    for extra in ("v1-5.safetensors", "safety_checker/model.safetensors", "unet/diffusion_pytorch_model.bin"):
        (hub.remote / "owner/sd" / extra).parent.mkdir(exist_ok=True)
        (hub.remote / "owner/sd" / extra).write_bytes(b"x")
    with caplog.at_level(logging.WARNING, "l2dm"):
        World.create(tmp_path / "w", "owner/sd", "owner/clip")
    said = [record.getMessage() for record in caplog.records if record.name == "l2dm"]
    assert (
        len(said) == 2 and said[0].startswith("base 'owner/sd': downloading ") and "from the hub" in said[0]
    )
    assert said[1].startswith("clip 'owner/clip': downloading ")
    assert not any("v1-5" in file or "safety" in file or file.endswith(".bin") for file in hub.taken)
    manifest = World.open(tmp_path / "w").manifest
    assert (manifest.base, manifest.revision, manifest.clip) == ("owner/sd", COMMIT, "owner/clip")
    hub.taken.clear(), hub.looked.clear()
    assert draw_one(tmp_path / "w")[0] == 0
    assert hub.taken == [] and hub.looked == ["owner/sd", "owner/clip"], "each is looked for once a command"


def test_another_kind_is_refused_before_anything_else_is_downloaded(hub, tmp_path):
    index = {
        "_class_name": "KandinskyPipeline",
        "unet": ["diffusers", "UNet2DConditionModel"],
        "prior": ["a", "b"],
    }
    (hub.remote / "owner/sd/model_index.json").write_text(json.dumps(index))
    with pytest.raises(BaseModelError, match="KandinskyPipeline"):
        World.create(tmp_path / "w", "owner/sd", "none")
    assert hub.taken == ["owner/sd/model_index.json"] and not (tmp_path / "w").exists()


def test_a_world_goes_from_a_folder_to_the_hub_and_misses_a_cache_that_is_gone(hub, tmp_path):
    world = tmp_path / "w"
    World.create(world, hub.remote / "owner/sd", "none")
    with pytest.raises(BaseMissing, match="not in this machine's hub cache"):
        World.open(world, base="owner/sd")
    assert hub.taken == []
    assert call(["relocate", str(world), "--base", "owner/sd", "--clip", "owner/clip"])[0] == 0
    shutil.rmtree(hub.remote)
    assert World.open(world).backbone().features is not None
    shutil.rmtree(hub.cache)
    with pytest.raises(BaseMissing, match=rf"hub cache .* l2dm relocate {world} --base"):
        World.open(world).backbone()


def test_what_configurations_tell_against_it_is_refused_before_weights_are_downloaded(hub, tmp_path):
    changes = {
        "unet": {"in_channels": 9},
        "text_encoder": {"hidden_size": 24},
        "scheduler": {"prediction_type": "flow"},
    }
    for part, values in changes.items():
        file = (
            hub.remote
            / f"owner/sd/{part}"
            / ("scheduler_config.json" if part == "scheduler" else "config.json")
        )
        as_it_was = file.read_text()
        file.write_text(json.dumps(json.loads(as_it_was) | values))
        with pytest.raises(BaseModelError):
            World.create(tmp_path / "w", "owner/sd", "none")
        file.write_text(as_it_was)
        shutil.rmtree(hub.cache)
    with pytest.raises(BaseModelError, match="no CLIP model is known"):
        World.create(tmp_path / "w", "owner/sd")
    weights = hub.remote / "owner/sd/vae/diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_name("other.safetensors"))
    with pytest.raises(BaseModelError, match="its folder vae holds no weights"):
        World.create(tmp_path / "w", "owner/sd", "none")
    assert [file for file in hub.taken if file.endswith(".safetensors")] == [] and not (
        tmp_path / "w"
    ).exists()
