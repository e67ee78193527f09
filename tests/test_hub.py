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
from safetensors.torch import load_file, save_file
from test_backbone import tiny_base
from tiny import tiny_clip

from benchmarks.malformed import call
from l2dm import World
from l2dm.errors import BaseMissing, BaseModelError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
OTHER = "89abcdef0123456789abcdef0123456789abcdef"


class Hub:
    """``taken``: what was downloaded; ``looked``: repositories that were only looked for in the cache. The
    revision "v2" of ``owner/name`` is the remote's folder ``owner/name@v2``.
    """

    def __init__(self, place: Path):
        self.remote, self.cache = place / "remote", place / "cache"
        self.taken: list[str] = []
        self.looked: list[str] = []

    def at(self, repo, revision):
        """A repository's remote folder, and the one in the cache, as of a revision."""
        second = revision in ("v2", OTHER)
        return self.remote / f"{repo}{'@v2' * second}", self.cache / repo / (OTHER if second else COMMIT)

    def files(self, repo, revision=None):
        root, _ = self.at(repo, revision)
        return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]

    def _take(self, repo, files, revision):
        remote, folder = self.at(repo, revision)
        for file in files:
            target = folder / file
            if not target.exists():
                self.taken.append(f"{repo}/{file}")
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(remote / file, target)

    def hf_hub_download(self, repo, name, revision=None):
        self._take(repo, [name], revision)
        return str(self.at(repo, revision)[1] / name)

    def snapshot_download(
        self, repo, revision=None, allow_patterns=None, local_files_only=False, dry_run=False
    ):
        folder = self.at(repo, revision)[1]
        if local_files_only:
            self.looked.append(repo)
            if not folder.exists():
                raise FileNotFoundError(f"no snapshot of {repo}")
            return str(folder)
        wanted = allow_patterns or ["*"]
        files = [f for f in self.files(repo, revision) if any(fnmatch.fnmatch(f, p) for p in wanted)]
        if dry_run:
            return [SimpleNamespace(file_size=10**6, will_download=not (folder / f).exists()) for f in files]
        self._take(repo, files, revision)
        return str(folder)

    def model_info(self, repo, revision=None):
        return SimpleNamespace(siblings=[SimpleNamespace(rfilename=f) for f in self.files(repo, revision)])


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


def test_a_revision_and_a_variant_are_what_is_taken_recorded_and_found_again(hub, tmp_path):
    second = Path(shutil.copytree(hub.remote / "owner/sd", hub.remote / "owner/sd@v2"))
    for file in second.glob("*/*.safetensors"):
        half = {
            name: tensor.half() if tensor.is_floating_point() else tensor
            for name, tensor in load_file(file).items()
        }
        save_file(half, file.with_name(file.name.replace(".safetensors", ".fp16.safetensors")))
    World.create(tmp_path / "w", "owner/sd", "none", revision="v2", variant="fp16")
    weights = [file for file in hub.taken if file.endswith(".safetensors")]
    assert weights and all(file.endswith(".fp16.safetensors") for file in weights), (
        "plain ones lie beside them"
    )
    manifest = World.open(tmp_path / "w").manifest
    assert (manifest.revision, manifest.variant) == (OTHER, "fp16")
    hub.taken.clear()
    assert draw_one(tmp_path / "w")[0] == 0 and not hub.taken


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
