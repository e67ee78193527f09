"""Out: what stock diffusers draws of an exported concept, under which keys, and that a folder appears whole or not at all."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from crash import kill_at_each_change
from diffusers import (
    DiffusionPipeline,
    FluxPipeline,
    FluxTransformer2DModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load, load_file, save_file
from travel import FAMILIES, LESSON, PLAIN, another, copied, draw_stock, drawn, made, stock, taught

from benchmarks.malformed import call
from benchmarks.stress.ground import say
from l2dm import World
from l2dm.backbone.sites import picture_layers
from l2dm.errors import ExchangeError, PhotoError, SettingsError, TokenError
from l2dm.exchange.files import file_of
from l2dm.exchange.lora import Denoiser, diffusers_file, lora_file, read_lora
from l2dm.exchange.names import read, sgm_name, written
from l2dm.tuners.factors import Factors
from l2dm.world.repair import examine


@pytest.fixture(scope="module", params=FAMILIES)
def world(request, tmp_path_factory) -> World:
    return taught(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(scope="module")
def sd(tmp_path_factory) -> World:
    return taught("sd", tmp_path_factory.mktemp("sd"))


def ungated(world: World, prompt: str, *tokens: str) -> np.ndarray:
    """The world's own picture with the adapters of ``tokens`` acting everywhere, side by side."""
    backbone = world.backbone("float32")
    tuner = world.tuner
    with pytest.MonkeyPatch.context() as patch:
        together = lambda layer, gates: [(*tuner.side_by_side(layer, list(tokens)), None)]  # noqa: E731
        patch.setattr(tuner, "acting", together)
        return np.asarray(backbone.pipeline()(prompt, **options()).images[0])


def options() -> dict:
    generator = torch.Generator().manual_seed(3)
    return {
        "generator": generator,
        "num_inference_steps": 2,
        "height": 16,
        "width": 16,
        "guidance_scale": 4.0,
    }


# ---------------------------------------------------------------- LoRA


def test_stock_diffusers_draws_what_the_adapter_draws_without_gates(world, tmp_path):
    bare = draw_stock(world, PLAIN)
    for tokens in (["<rex>"], ["<rex>", "<tom>"]):
        out = world.export(*tokens, out=tmp_path / str(len(tokens))).folder
        name = "-".join(token[1:-1] for token in tokens)
        theirs = draw_stock(world, PLAIN, out / f"{name}.safetensors")
        assert np.array_equal(theirs, ungated(world, PLAIN, *tokens)) and not np.array_equal(theirs, bare)


@pytest.mark.parametrize("strength", [1.0, 0.5])
def test_kohya_and_diffusers_files_agree_bit_for_bit(world, tmp_path, strength):
    a = world.export("<rex>", out=tmp_path / "a", strength=strength).folder / "rex.safetensors"
    b = world.export("<rex>", format="diffusers", out=tmp_path / "b", strength=strength).folder
    b = b / "pytorch_lora_weights.safetensors"
    assert np.array_equal(draw_stock(world, PLAIN, a), draw_stock(world, PLAIN, b))
    if strength == 1:
        alike = [{t.numpy().tobytes() for name, t in load_file(file).items() if t.dim()} for file in (a, b)]
        assert alike[0] == alike[1]


def test_the_trigger_prompt_works_where_the_embedding_is_loaded(sd, tmp_path):
    out = sd.export("<rex>", out=tmp_path / "out")
    assert out.triggers == {"<rex>": "a photo of <rex> dog"} and out.loses.startswith("its gates")
    pipe = DiffusionPipeline.from_pretrained(sd.manifest.base, torch_dtype=torch.float32)
    pipe.load_textual_inversion(out.folder / "rex-embedding.safetensors")
    pipe.set_progress_bar_config(disable=True)
    theirs = draw_stock(sd, out.triggers["<rex>"], out.folder / "rex.safetensors", pipe)
    assert np.array_equal(theirs, ungated(sd, out.triggers["<rex>"], "<rex>"))


def test_the_sidecar_tells_where_it_comes_from(sd, tmp_path):
    out = sd.export("<rex>", out=tmp_path / "out", strength=0.75)
    told = json.loads((out.folder / "export.json").read_text())
    (concept,) = told["concepts"]
    assert (concept["token"], concept["noun"], concept["prompt"]) == ("<rex>", "dog", "a photo of <rex> dog")
    assert told["base"]["sha256"] == sd.manifest.fingerprint and told["strength"] == 0.75
    assert set(told["files"]) == {"rex.safetensors", "rex-embedding.safetensors", "rex.png"}
    assert sorted([*told["files"], "export.json"]) == out.files and str(tmp_path) not in json.dumps(told)


def test_a_dtype_is_what_was_asked_for(sd, tmp_path):
    for dtype in ("float32", "bfloat16"):
        out = sd.export("<rex>", out=tmp_path / dtype, dtype=dtype).folder
        kinds = {t.dtype for t in load_file(out / "rex.safetensors").values() if t.dim()}
        assert kinds == {getattr(torch, dtype)}


# ---------------------------------------------------------------- keys


def transformer_names(blocks: dict[str, int]) -> set[str]:
    """kohya's names in SD's and SDXL's transformers, block by block: sd-scripts makes a LoRA of every linear layer and 1 x 1 convolution."""
    found = set()
    for block, depth in blocks.items():
        found |= {f"lora_unet_{block}_proj_in", f"lora_unet_{block}_proj_out"}
        for i in range(depth):
            inner = f"lora_unet_{block}_transformer_blocks_{i}"
            found |= {f"{inner}_attn{a}_to_{x}" for a in (1, 2) for x in ("q", "k", "v", "out_0")}
            found |= {f"{inner}_ff_net_0_proj", f"{inner}_ff_net_2"}
    return found


def stems(module: torch.nn.Module, part: str, convention: str) -> set[str]:
    denoiser = Denoiser(module, part, convention)
    return set(denoiser.written(list(picture_layers(module))))


def test_keys_of_stable_diffusion_1_are_those_of_sd_scripts():
    with torch.device("meta"):
        unet = UNet2DConditionModel(cross_attention_dim=768, sample_size=64)
    found = stems(unet, "unet", "kohya")
    blocks = {f"down_blocks_{i}_attentions_{j}": 1 for i in range(3) for j in range(2)}
    blocks |= {f"up_blocks_{i}_attentions_{j}": 1 for i in (1, 2, 3) for j in range(3)}
    wanted = transformer_names(blocks | {"mid_block_attentions_0": 1})
    assert len(wanted) == 192 and {stem for stem in found if "_attentions_" in stem} == wanted
    ends = ("conv1", "conv2", "time_emb_proj", "conv_shortcut")
    assert all(stem.split("_resnets_")[1][2:] in ends for stem in found - wanted)


def test_keys_of_sdxl_are_those_of_sd_scripts_and_diffusers_reads_them():
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            cross_attention_dim=2048, sample_size=128, block_out_channels=(320, 640, 1280), attention_head_dim=(5, 10, 20),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"), transformer_layers_per_block=(1, 2, 10),
            use_linear_projection=True,
        )  # fmt: skip
    found = stems(unet, "unet", "sgm")
    blocks = {
        "input_blocks_4_1": 2,
        "input_blocks_5_1": 2,
        "input_blocks_7_1": 10,
        "input_blocks_8_1": 10,
        "middle_block_1": 10,
    }
    blocks |= {f"output_blocks_{i}_1": 10 if i < 3 else 2 for i in range(6)}
    wanted = transformer_names(blocks)
    assert len(wanted) == 722 and wanted < found
    resnets = [1, 2, 4, 5, 7, 8], [0, 2], range(9)
    places = [
        f"{own}_{i}"
        for own, ids in zip(("input_blocks", "middle_block", "output_blocks"), resnets)
        for i in ids
    ]
    places = [f"lora_unet_{place}" + ("" if "middle" in place else "_0") for place in places]
    convolutions = {
        f"{place}_{end}" for place in places for end in ("in_layers_2", "out_layers_3", "emb_layers_1")
    }
    assert convolutions <= found - wanted
    assert all("skip_connection" in stem for stem in found - wanted - convolutions)


FLUX_ENDS = {
    "double": {"img_attn_proj", "img_attn_qkv", "img_mlp_0", "img_mlp_2", "txt_attn_proj", "txt_attn_qkv", "txt_mlp_0", "txt_mlp_2"},
    "single": {"linear1", "linear2"},
}  # fmt: skip


def test_keys_of_flux_are_those_of_sd_scripts():
    with torch.device("meta"):
        transformer = FluxTransformer2DModel()
    found = stems(transformer, "transformer", "flux")
    counts = {"double": 19, "single": 38}
    assert found == {
        f"lora_unet_{kind}_blocks_{i}_{end}"
        for kind, ends in FLUX_ENDS.items()
        for i in range(counts[kind])
        for end in ends
    }


@pytest.mark.parametrize("shared", [True, False])
def test_diffusers_and_we_read_a_flux_file_as_the_same_weights(shared):
    """Queries, keys and values are one layer in such a file: from one D, or each from its own."""
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(num_layers=1, num_single_layers=1)
    denoiser, generator = Denoiser(transformer, "transformer", "flux"), torch.Generator().manual_seed(0)
    adapter, downs = {}, {}
    for layer in picture_layers(transformer):
        out, into = denoiser.shapes[layer]
        down = torch.randn(2, into, generator=generator)
        if shared and layer.endswith(("to_q", "to_k", "to_v", "proj_mlp", "_q_proj", "_k_proj", "_v_proj")):
            kind = layer.split(".")[0], "add_" in layer
            down = downs.setdefault(kind, down)
        adapter[layer] = Factors(down, torch.randn(out, 2, generator=generator), 2.0)
    tensors = lora_file(adapter, denoiser)
    wanted, _ = diffusers_file(adapter, denoiser)
    theirs = FluxPipeline.lora_state_dict(dict(tensors))
    assert theirs.keys() == wanted.keys() and all(torch.equal(theirs[key], wanted[key]) for key in wanted)
    ours, of_text = read_lora("file", tensors, {}, denoiser)
    assert not of_text and all(
        torch.equal(ours[layer].down, one.down)
        and torch.equal(ours[layer].up, one.up)
        and ours[layer].alpha == one.alpha
        for layer, one in adapter.items()
    )
    again = lora_file(ours, denoiser)
    assert again.keys() == tensors.keys() and all(torch.equal(again[key], tensors[key]) for key in tensors)


@pytest.mark.slow
def test_uneven_ranks_are_made_even_since_diffusers_mixes_their_alphas_up(sd, tmp_path):
    adapter = {
        layer: one._replace(down=one.down[:1], up=one.up[:, :1], alpha=1.0)
        if i % 2
        else one.padded(3)._replace(alpha=3.0)
        for i, (layer, one) in enumerate(sd.tuner.low_rank(["<rex>"]).items())
    }
    denoiser = Denoiser(sd.backbone().denoiser, "unet", "kohya")
    tensors, config = diffusers_file(adapter, denoiser)
    save_file(lora_file(adapter, denoiser), tmp_path / "kohya.safetensors")
    told = {name: json.dumps(value) for name, value in config.items()}
    save_file({name: t.contiguous() for name, t in tensors.items()}, tmp_path / "peft.safetensors", told)
    ours, theirs = (
        draw_stock(sd, PLAIN, tmp_path / f"{kind}.safetensors").astype(int) for kind in ("kohya", "peft")
    )
    assert abs(ours - theirs).max() <= 1 and not np.array_equal(ours, draw_stock(sd, PLAIN))


# ---------------------------------------------------------------- whole pipelines


def test_a_pipelines_folder_draws_the_same_and_is_a_base(world, tmp_path):
    folder = world.export("<rex>", format="pipeline", out=tmp_path / "out", strength=0.5).folder
    prompt = "a photo of <rex> dog"
    pipe = stock(str(folder))
    theirs = draw_stock(world, prompt, pipe=pipe)
    assert not np.array_equal(theirs, draw_stock(world, "a photo of a dog"))
    over = World.create(tmp_path / "over", folder, clip="none")
    backbone = over.backbone("float32")
    assert np.array_equal(np.asarray(backbone.pipeline()(prompt, **options()).images[0]), theirs)
    assert torch.equal(backbone.own_vector("<rex>"), world._files.tensors("tokens.safetensors")["<rex>"])
    lora = (
        world.export("<rex>", out=tmp_path / "lora", strength=0.5, dtype="float32").folder / "rex.safetensors"
    )
    merged = stock(world.manifest.base)
    merged.load_lora_weights(lora.parent, weight_name=lora.name)
    merged.fuse_lora()
    try:
        fused = getattr(merged, world.backbone().family.denoiser)
        own = dict(getattr(pipe, world.backbone().family.denoiser).named_parameters())
        for name, p in fused.named_parameters():
            if "base_layer.weight" in name:
                assert torch.allclose(own[name.replace(".base_layer", "")], p, atol=1e-6), name
    finally:
        merged.unfuse_lora()
        merged.unload_lora_weights()


SLOW = [
    pytest.param(name, marks=pytest.mark.slow)
    for name in ("custom-diffusion", "dreambooth", "lora", "textual-inversion")
]


@pytest.mark.parametrize("method", ["svdiff", *SLOW])
def test_a_pipeline_holds_what_every_tuner_taught(tmp_path, method):
    """Those without gates: the world's own picture, to the last bit of it."""
    world = taught("sd", tmp_path, "<rex>", method=method, prior_weight=0.0)
    folder = world.export("<rex>", format="pipeline", out=tmp_path / "out").folder
    ours = drawn(world, "a photo of <rex> dog").astype(int)
    assert (
        abs(draw_stock(world, "a photo of <rex> dog", pipe=stock(str(folder))).astype(int) - ours).max() <= 1
    )
    if method == "dreambooth":
        with pytest.raises(SettingsError, match="no LoRA file holds that; export it with --format pipeline"):
            world.export("<rex>", out=tmp_path / "refused")
        assert not (tmp_path / "refused").exists()


@pytest.mark.slow
def test_custom_diffusions_weights_are_read_by_stock_diffusers(tmp_path):
    world = taught("sd", tmp_path, "<rex>", method="custom-diffusion", prior_weight=0.0)
    out = world.export("<rex>", format="custom-diffusion", out=tmp_path / "out").folder
    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.unet.load_attn_procs(out, weight_name="pytorch_custom_diffusion_weights.safetensors", _pipeline=pipe)
    pipe.load_textual_inversion(out / "rex-embedding.safetensors")
    theirs = draw_stock(world, "a photo of <rex> dog", pipe=pipe)
    assert np.array_equal(theirs, drawn(world, "a photo of <rex> dog"))
    lora = world.export("<rex>", out=tmp_path / "lora").folder / "rex.safetensors"
    exact = read_lora("", load_file(lora), {}, Denoiser(world.backbone().denoiser, "unet", "kohya"))[0]
    for name, p in world.tuner.parameters.items():
        assert torch.equal(
            exact[name.removesuffix(".weight")].change(), p - world.tuner.pretrained_values[name]
        )
    other = another(world, tmp_path / "other")
    other.import_file(out, token="<max>", noun="dog", report_pictures=0, prior_steps=2)
    assert abs(drawn(other, "a photo of <max> dog").astype(int) - theirs).max() <= 1
    assert np.array_equal(drawn(other, PLAIN), draw_stock(world, PLAIN))


# ---------------------------------------------------------------- what is refused, and what a kill leaves


@pytest.mark.parametrize("given, message", {
    "kind": ({"format": "ckpt"}, "expected one of lora, diffusers, embedding"),
    "dtype": ({"dtype": "int8"}, "expected one of float32"),
    "strength": ({"strength": 0.0}, "not 0"),
    "custom": ({"format": "custom-diffusion"}, "no keys or values of the text"),
    "world": ({"format": "world"}, "goes whole and as it is"),
}.values())  # fmt: skip
def test_what_cannot_be_exported_is_told(sd, tmp_path, given, message):
    with pytest.raises(SettingsError, match=message):
        sd.export("<rex>", out=tmp_path / "out", **given)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["versions", "versions/0009", "learning/x", "prior/a/b", "../w/quarantine"])
def test_nothing_goes_where_a_world_clears_up(sd, tmp_path, place):
    world = copied(sd, tmp_path / "w")
    out = str(world.path / place)
    for command in (
        ["export", "<rex>", "--out", out], ["export", "--format", "world", "--out", f"{out}/w.zip"],
        ["generate", "a <rex> dog", "--out", out], ["report", "--html", f"{out}/report.html"],
    ):  # fmt: skip
        code, said = say([command[0], str(world.path), *command[1:]])
        assert code == 2 and "keeps for itself and clears" in said
    assert not (world.path / "versions/0009").exists() and examine(world.path).faults == []
    assert world.export("<rex>", out=world.path / "exported").files


def test_a_file_is_the_same_every_time():
    told = {name: name for name in "abcdefghijkl"}
    made = [file_of({"x": torch.ones(2), "y": torch.zeros(3)}, told) for _ in range(5)]
    assert len(set(made)) == 1 and load(made[0])["x"].tolist() == [1, 1]
    assert list(json.loads(made[0][8 : 8 + int.from_bytes(made[0][:8], "little")])["__metadata__"]) == list(
        told
    )


def test_unknown_tokens_taken_places_and_empty_worlds_are_told(sd, tmp_path):
    with pytest.raises(TokenError, match="has learnt <rex>, <tom>"):
        sd.export("<max>", out=tmp_path / "out")
    (tmp_path / "taken").mkdir()
    with pytest.raises(SettingsError, match="already exists"):
        sd.export("<rex>", out=tmp_path / "taken")
    with pytest.raises(TokenError, match="nothing is learnt yet"):
        made("sd", tmp_path / "empty").export(out=tmp_path / "out")


@pytest.mark.slow
def test_an_export_is_whole_or_not_there(sd, tmp_path):
    place = tmp_path / "place"

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    for _ in kill_at_each_change(
        place, fresh, lambda: sd.export("<rex>", format="embedding", out=place / "out")
    ):
        if (place / "out").exists():
            told = json.loads((place / "out" / "export.json").read_text())["files"]
            assert set(told) == {"rex-embedding.safetensors", "rex.png"}
    assert (place / "out").exists()


def test_the_command_line_exports_and_says_what_is_lost(sd, tmp_path):
    world = copied(sd, tmp_path / "world")
    code, said = say(["export", str(world.path), "<rex>", "--out", str(tmp_path / "out"), "--json"])
    assert code == 0 and json.loads(said)["loses"].startswith("its gates"), said
    code, said = call(["export", str(world.path), "<max>"])
    assert code == 2 and len(said.splitlines()) == 1, said


def test_a_token_of_several_vectors_is_learnt_kept_and_exported(tmp_path):
    """Drawn by stock diffusers from its embedding alone as by the world, and taken up again after a stop as any lesson is."""
    world = taught("sd", tmp_path, "<rex>", method="textual-inversion", vectors=3)
    vectors = world._files.tensors("tokens.safetensors")["<rex>"]
    assert vectors.shape == (3, 16) and not torch.equal(vectors[0], vectors[1])
    out = world.export("<rex>", format="embedding", out=tmp_path / "out").folder
    assert torch.equal(load_file(out / "rex-embedding.safetensors")["<rex>"], vectors)
    pipe = DiffusionPipeline.from_pretrained(world.manifest.base, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_textual_inversion(out / "rex-embedding.safetensors")
    prompt = "a photo of <rex> dog"
    theirs = draw_stock(world, prompt, pipe=pipe)
    assert np.array_equal(drawn(World.open(world.path), prompt), theirs)
    photos = tmp_path / "photos"
    (photos / "0.txt").write_text("grass " * 72 + "<tom> cat")
    with pytest.raises(PhotoError, match="names <tom> at number 76"):
        world.learn(photos, token="<tom>", noun="cat", **LESSON, method="textual-inversion", vectors=3)


def test_a_worlds_pipeline_is_diffusers_own_with_gates_and_writes_no_broken_folder(sd, tmp_path):
    pipe, prompt = sd.pipeline(precision="float32"), "a photo of <rex> dog"
    assert isinstance(pipe, StableDiffusionPipeline)
    assert np.array_equal(np.asarray(pipe(prompt, **options()).images[0]), drawn(sd, prompt))
    assert np.array_equal(np.asarray(pipe(PLAIN, **options()).images[0]), draw_stock(sd, PLAIN))
    with pytest.raises(ExchangeError, match="merge them: World"):
        pipe.save_pretrained(tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_layers_that_stabilitys_networks_have_not_are_called_as_diffusers_calls_them():
    """Of bases such as the shipped one, whose UNet pools the text by attention."""
    own = "add_embedding.pool.q_proj"
    assert sgm_name(own, 1) == "" and sgm_name("mid_block.resnets.1.conv1", 1) == "middle_block.2.in_layers.2"
    assert written("sgm", "unet", [own], 1) == {"lora_unet_add_embedding_pool_q_proj": (own,)}
    assert read("kohya", "unet", [own], 1)["unet.add_embedding.pool.q_proj"] == (own,)
