"""What a base is held in and where: half precision where that saves memory, one line where a device is not
there.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from accelerate import cpu_offload_with_hook
from accelerate.hooks import remove_hook_from_module
from conftest import QUICK
from diffusers import DiffusionPipeline
from families.folders import tiny_folder
from learning import begin
from tiny import tiny_clip

from l2dm import World
from l2dm.backbone import Backbone, find_base, precision
from l2dm.backbone.devices import find_device
from l2dm.backbone.precision import held_dtype, upcast
from l2dm.errors import BaseModelError, LearningDiverged, SettingsError
from l2dm.retention import Past

PLAIN = "a photo of a cat at night"
DRAW = {"n": 1, "steps": 2, "seed": 3, "guidance_scale": 4.0}
CPU, CUDA, MPS = map(torch.device, ("cpu", "cuda", "mps"))
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_folder("sd", tmp_path_factory.mktemp("base") / "sd")


@pytest.fixture
def world(folder, photos, tmp_path) -> World:
    """One concept, learnt as the default does."""
    world = World.create(tmp_path / "world", folder, clip=tiny_clip(tmp_path / "clip"))
    world.learn(photos, token="<rex>", noun="dog", **QUICK | {"steps": 1})
    return world


def drawn(world: World, **changes) -> np.ndarray:
    return np.asarray(world.generate(PLAIN, **DRAW | changes)[0].image)


@pytest.mark.parametrize(
    ("device", "multiplies", "wanted"),
    [
        (CPU, True, torch.bfloat16),
        (CPU, False, torch.float32),
        (CUDA, True, torch.bfloat16),
        (CUDA, False, torch.float16),
        (MPS, False, torch.float32),
    ],
)
def test_large_bases_are_held_in_the_half_precision_that_is_fast(
    folder, monkeypatch, device, multiplies, wanted
):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: multiplies)
    source = find_base(folder)
    assert held_dtype(source, device) == held_dtype(find_base("mini"), device) == torch.float32
    monkeypatch.setattr(precision, "LARGE", sum(path.stat().st_size for path in source.weight_paths))
    assert held_dtype(source, device) == wanted
    assert held_dtype(source, device, "float32") == torch.float32
    assert held_dtype(source, device, "float16") == torch.float16


def test_what_is_published_in_half_precision_is_held_so_however_small(tmp_path, monkeypatch):
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    assert held_dtype(find_base(tiny_folder("sdxl", tmp_path)), CPU) == torch.bfloat16


@pytest.mark.parametrize("name", HALVES)
def test_in_half_precision_too_a_plain_prompt_draws_the_bits_of_the_bare_pipeline(world, folder, name):
    whole = drawn(world)
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=HALVES[name], local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    theirs = pipe(
        PLAIN, num_inference_steps=2, guidance_scale=4.0, generator=torch.Generator().manual_seed(3)
    )
    assert np.array_equal(drawn(world, precision=name), np.asarray(theirs.images[0]))
    assert not np.array_equal(drawn(world, precision=name), whole)
    picture = world.generate("a <rex> dog", **DRAW, precision=name)[0]
    assert picture.provenance["precision"] == name and picture.provenance["device"] == "cpu"
    assert np.array_equal(drawn(world), whole), "asked for once, it is not kept"
    assert world.backbone().dtype == torch.float32


def test_a_large_base_is_learnt_and_drawn_in_half_and_what_is_trained_in_whole_precision(
    folder, photos, monkeypatch
):
    monkeypatch.setattr(precision, "LARGE", 0)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    backbone = Backbone.load(folder)
    own = [p for part in backbone.family.networks for p in backbone.parts[part].parameters()]
    still = [
        p for p in own if all(p is not other for other in backbone.vae.parameters())
    ]  # that one leaves, and comes back
    kept = [(p, p.data_ptr()) for p in still if p.ndim < 4]  # convolutions change their layout
    before = [p.clone() for p in own]
    learning = begin(photos, "gated-lora", backbone=backbone, steps=2, precision="auto", learning_rate=0.01)
    for _ in learning.run():
        assert {p.dtype for p in own} == {torch.bfloat16}
        assert {p.dtype for p in learning.named.values()} == {torch.float32}
        assert {s.dtype for state in learning.optimizer.state.values() for s in state.values()} == {
            torch.float32
        }
    assert all(p.data_ptr() == place for p, place in kept), "no copy, no way back"
    assert all(torch.equal(p, value) for p, value in zip(own, before))
    assert backbone.vae.use_slicing


@pytest.mark.parametrize("large", [True, False])
def test_a_large_base_has_no_clip_beside_it_while_it_learns(folder, photos, tmp_path, monkeypatch, large):
    monkeypatch.setattr(precision, "LARGE", 0 if large else 1 << 40)
    world = World.create(tmp_path / "world", folder, clip=tiny_clip(tmp_path / "clip"))
    _ = world.backbone().features
    there = []
    told = lambda progress: progress.step and there.append("features" in vars(world.backbone()))  # noqa: E731
    few = QUICK | {"steps": 1, "report_pictures": 1}
    version = world.learn(photos, token="<rex>", noun="dog", **few, on_progress=told)
    assert there == [not large] and version.scores["<rex>"]["own"] is not None


def test_who_changes_the_weights_themselves_learns_in_float32_and_draws_in_what_is_asked_for(
    folder, photos, tmp_path, monkeypatch
):
    monkeypatch.setattr(precision, "LARGE", 0)
    monkeypatch.setattr(precision, "multiplies_bfloat16", lambda device: True)
    world = World.create(tmp_path / "world", folder, clip="none")
    world.learn(photos, token="<rex>", noun="dog", **QUICK | {"steps": 1, "method": "custom-diffusion"})
    assert world.backbone().dtype == torch.float32
    whole = drawn(world)
    assert world.backbone().dtype == torch.float32
    assert np.abs(drawn(world, precision="bfloat16").astype(int) - whole).mean() < 8
    assert world.backbone().dtype == torch.bfloat16
    assert np.array_equal(drawn(World.open(world.path)), whole)


# ---------------------------------------------------------------- float16


def start(photos, folder, **changes):
    return begin(
        photos,
        "gated-lora",
        backbone=Backbone.load(folder, precision="float16"),
        steps=3,
        precision="float16",
        **changes,
    )


def test_in_float16_gradients_are_scaled_and_a_stopped_learning_goes_on(folder, photos):
    whole, first, second = (start(photos, folder) for _ in range(3))
    begun = whole.state()
    list(whole.run())
    assert not torch.equal(whole.state()["weight/token"], begun["weight/token"])
    steps = first.run()
    next(steps)
    saved, done = first.state(), first.done
    steps.close()
    second.load_state(saved, done)
    list(second.run())
    wanted, found = whole.state(), second.state()
    assert wanted.keys() == found.keys() and all(torch.equal(wanted[name], found[name]) for name in wanted)


def test_a_scale_too_large_leaves_a_step_out_and_is_halved(folder, photos):
    learning = start(photos, folder)
    learning.engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**40)
    before = learning.state()["weight/token"]
    steps = learning.run()
    next(steps)
    assert learning.engine.scaler.get_scale() == 2.0**39
    assert torch.equal(learning.state()["weight/token"], before)
    learning.engine.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**-12)
    learning.named["token"].data.fill_(torch.nan)
    with pytest.raises(LearningDiverged, match="no longer finite"):
        next(steps)


def test_an_autoencoder_that_asks_for_it_is_in_float32_while_it_works(folder):
    vae = Backbone.load(folder, precision="float16").vae
    with upcast(vae) as now:
        assert now is vae and vae.dtype == torch.float32
    assert vae.dtype == torch.float16
    vae.register_to_config(force_upcast=False)
    with upcast(vae):
        assert vae.dtype == torch.float16


# ---------------------------------------------------------------- devices


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one")
def test_a_device_that_is_not_there_is_one_line(world, folder, photos):
    assert find_device() == find_device("cpu") == CPU
    for work in (
        lambda: world.generate(PLAIN, **DRAW, device="cuda"),
        lambda: world.learn(photos, token="<tom>", noun="cat", **QUICK, device="cuda"),
        lambda: Backbone.load(folder, "cuda"),
    ):
        with pytest.raises(SettingsError, match=r"device = cuda: torch .* leave it out") as told:
            work()
        assert "\n" not in str(told.value)
    with pytest.raises(SettingsError, match="device = 'tpu': expected one of auto, cuda, mps, cpu"):
        world.generate(PLAIN, **DRAW, device="tpu")
    assert world.version == 1 and drawn(world).std() > 0


def test_to_offload_from_a_cpu_is_refused(world):
    with pytest.raises(
        SettingsError, match="offload = true spares an accelerator's memory, and device = cpu"
    ):
        world.generate(PLAIN, **DRAW, offload=True)
    assert drawn(world).std() > 0


def test_offloaded_parts_draw_the_same_bits(world, folder, monkeypatch):
    """diffusers' own offloading refuses a CPU: here accelerate's hooks, by which it works, move the parts
    from CPU to CPU.
    """
    moved = []

    def offloaded(pipe, device):
        hook = None
        for part in ("text_encoder", "unet", "vae"):
            network = getattr(pipe, part)
            remove_hook_from_module(network, recurse=True)
            network, hook = cpu_offload_with_hook(network, device, prev_module_hook=hook)
            monkeypatch.setattr(
                hook.hook,
                "pre_forward",
                lambda *a, part=part, own=hook.hook.pre_forward, **k: moved.append(part) or own(*a, **k),
            )

    monkeypatch.setattr(DiffusionPipeline, "enable_model_cpu_offload", offloaded)
    prompt = {"prompt": "a <rex> dog and a cat", **DRAW, "composition": "l2dm"}
    whole, plain = world.generate(**prompt)[0].image, drawn(world)
    world.backbone().offload = True
    found = world.generate(**prompt, offload=True)[0].image
    assert np.array_equal(np.asarray(found), np.asarray(whole)) and set(moved) == {
        "text_encoder",
        "unet",
        "vae",
    }
    assert np.array_equal(drawn(world, offload=True), plain)
    assert np.array_equal(drawn(world), plain) and not world.backbone().offload


def test_text_encoders_leave_where_no_vector_is_learnt_in_them(folder, photos, monkeypatch):
    """Of a large base; what is learnt is the same, to the last bit, and so are pictures that are drawn
    meanwhile.
    """
    states, sampled = [], []
    for large in (False, True):
        monkeypatch.setattr(precision, "LARGE", 0 if large else precision.LARGE)
        past = Past(
            companions={"a cat": torch.zeros(1, 4, 8, 8)}, priors={"a photo of a dog": torch.ones(1, 4, 8, 8)}
        )
        still = {"token_learning_rate": 0.0, "mixes": 2, "steps": 2, "learning_rate": 0.01}
        backbone = Backbone.load(folder, precision="float32")
        backbone.vae.disable_slicing()  # a large one's: on some processors a slice has other last bits
        learning = begin(photos, "gated-lora", backbone=backbone, past=past, **still)
        idle = [learning.backbone.text_encoder, learning.backbone.vae]
        start = learning.named["token"].detach().clone()
        for _ in learning.run():
            held = [
                sum(p.numel() for p in part.parameters() if p is not learning.named["token"]) for part in idle
            ]
            assert (held == [0, 0]) == large
            with learning.backbone.aside.back():
                sampled.append(learning.backbone.read(["a photo of <rex> dog"]).features)
        assert torch.equal(learning.named["token"], start)
        states.append(learning.state())
    assert all(torch.equal(states[1][name], value) for name, value in states[0].items())
    assert all(torch.equal(one, sampled[0]) for one in sampled)


def test_a_quantized_base_is_refused_by_its_configurations(tmp_path):
    place = tiny_folder("sd", tmp_path / "sd") / "unet" / "config.json"
    config = json.loads(place.read_text())
    place.write_text(json.dumps(config | {"quantization_config": {"quant_method": "bitsandbytes"}}))
    with pytest.raises(
        BaseModelError, match=r"its unet is quantized \(bitsandbytes\), and l2dm learns and draws beside"
    ):
        Backbone.load(tmp_path / "sd")


# ---------------------------------------------------------------- optimizers
