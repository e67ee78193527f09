"""Under which keys a LoRA file goes out: those that ComfyUI, kohya's sd-scripts and diffusers know, of
networks in their published sizes.

The rules are written down here from what ``comfy/lora.py`` and ``comfy/utils.py`` of ComfyUI and
``networks/lora*.py`` of sd-scripts make of their own networks; musubi-tuner, of the same author, has
FLUX.2's.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

import pytest
import torch
from diffusers import (
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtTransformer2DModel,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageTransformer2DModel,
)
from families.folders import FAMILIES

from l2dm.backbone.families import FAMILIES as KNOWN
from l2dm.backbone.families import Family
from l2dm.backbone.sites import picture_layers
from l2dm.errors import ExchangeError
from l2dm.exchange.lora import Layers, diffusers_file, lora_file
from l2dm.exchange.lora_reading import read_lora
from l2dm.exchange.names import read, sgm_name, written
from l2dm.tuners.factors import Factors


def sd() -> torch.nn.Module:
    return UNet2DConditionModel(cross_attention_dim=768, sample_size=64)


def sdxl() -> torch.nn.Module:
    return UNet2DConditionModel(
        cross_attention_dim=2048,
        sample_size=128,
        block_out_channels=(320, 640, 1280),
        attention_head_dim=(5, 10, 20),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 2, 10),
        use_linear_projection=True,
    )


def sd3() -> torch.nn.Module:
    """3.5 medium, in whose first blocks the picture has a second attention."""
    return SD3Transformer2DModel(
        num_layers=24,
        num_attention_heads=24,
        caption_projection_dim=1536,
        dual_attention_layers=tuple(range(13)),
        qk_norm="rms_norm",
    )


def under(before: str, ends: Iterable[str]) -> set[str]:
    return {f"{before}{end}" for end in ends}


# ---------------------------------------------------------------- Stable Diffusion, SDXL


def in_transformers(blocks: dict[str, int]) -> set[str]:
    """SD's and SDXL's transformers, block by block (name -> depth): a LoRA of every linear layer and 1 x 1
    convolution.
    """
    found = set()
    for block, depth in blocks.items():
        found |= under(f"lora_unet_{block}_", ("proj_in", "proj_out"))
        for i in range(depth):
            ends = [f"attn{a}_to_{x}" for a, x in product((1, 2), ("q", "k", "v", "out_0"))]
            ends += ["ff_net_0_proj", "ff_net_2"]
            found |= under(f"lora_unet_{block}_transformer_blocks_{i}_", ends)
    return found


def of_sd() -> set[str]:
    downs, ups = list(product(range(4), range(2))), list(product(range(4), range(3)))
    blocks = {f"down_blocks_{i}_attentions_{j}": 1 for i, j in downs if i < 3}
    blocks |= {f"up_blocks_{i}_attentions_{j}": 1 for i, j in ups if i > 0}
    places = [f"down_blocks_{i}_resnets_{j}" for i, j in downs] + [
        f"up_blocks_{i}_resnets_{j}" for i, j in ups
    ]
    places += ["mid_block_resnets_0", "mid_block_resnets_1"]
    narrower = [f"down_blocks_{i}_resnets_0" for i in (1, 2)] + [f"up_blocks_{i}_resnets_{j}" for i, j in ups]
    found = in_transformers(blocks | {"mid_block_attentions_0": 1})
    for place in places:
        found |= under(f"lora_unet_{place}_", ("conv1", "conv2", "time_emb_proj"))
    return found | {f"lora_unet_{place}_conv_shortcut" for place in narrower}


def of_sdxl() -> set[str]:
    depths = {4: 2, 5: 2, 7: 10, 8: 10}
    blocks = {f"input_blocks_{i}_1": depth for i, depth in depths.items()} | {"middle_block_1": 10}
    blocks |= {f"output_blocks_{i}_1": 10 if i < 3 else 2 for i in range(6)}
    places = [f"input_blocks_{i}_0" for i in (1, 2, 4, 5, 7, 8)] + [f"output_blocks_{i}_0" for i in range(9)]
    narrower = ["input_blocks_4_0", "input_blocks_7_0", *(f"output_blocks_{i}_0" for i in range(9))]
    found = in_transformers(blocks)
    for place in [*places, "middle_block_0", "middle_block_2"]:
        found |= under(f"lora_unet_{place}_", ("in_layers_2", "out_layers_3", "emb_layers_1"))
    return found | {f"lora_unet_{place}_skip_connection" for place in narrower}


# ---------------------------------------------------------------- transformers


def of_sd3(last: int = 23, twice: int = 13) -> set[str]:
    """diffusers' names, which ComfyUI has a table of."""
    found = set()
    for i in range(last + 1):
        ends = [
            f"attn.{end}"
            for end in ("to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj")
        ]
        ends += ["ff.net.0.proj", "ff.net.2"]
        ends += [f"attn2.{end}" for end in ("to_q", "to_k", "to_v", "to_out.0")] if i < twice else []
        ends += ["attn.to_add_out", "ff_context.net.0.proj", "ff_context.net.2"] if i < last else []
        found |= under(f"transformer.transformer_blocks.{i}.", ends)
    return found


def of_sd3_by_kohya(last: int = 23, twice: int = 13) -> set[str]:
    """sd-scripts' names; ComfyUI knows every layer of its own network behind ``lora_unet_``, and this network
    is Stability's own in both.
    """
    found, whole = set(), ("attn_qkv", "attn_proj", "mlp_fc1", "mlp_fc2")
    for i in range(last + 1):
        second = ("attn2_qkv", "attn2_proj") if i < twice else ()
        found |= under(f"lora_unet_joint_blocks_{i}_x_block_", whole + second)
        found |= under(f"lora_unet_joint_blocks_{i}_context_block_", whole if i < last else whole[:1])
    return found


def of_flux(double: int, single: int) -> set[str]:
    ends = [
        f"{kind}_{end}" for kind, end in product(("img", "txt"), ("attn_qkv", "attn_proj", "mlp_0", "mlp_2"))
    ]
    found = {f"lora_unet_double_blocks_{i}_{end}" for i, end in product(range(double), ends)}
    return found | {f"lora_unet_single_blocks_{i}_linear{n}" for i, n in product(range(single), (1, 2))}


def of_pixart() -> set[str]:
    ends = [f"attn{a}.to_{x}" for a, x in product((1, 2), ("q", "k", "v", "out.0"))] + [
        "ff.net.0.proj",
        "ff.net.2",
    ]
    return {f"transformer.transformer_blocks.{i}.{end}" for i, end in product(range(28), ends)}


def of_z_image() -> set[str]:
    blocks = [f"layers.{i}" for i in range(30)]
    blocks += [f"{kind}_refiner.{i}" for kind, i in product(("noise", "context"), range(2))]
    ends = [f"attention.to_{x}" for x in ("q", "k", "v", "out.0")] + [f"feed_forward.w{n}" for n in (1, 2, 3)]
    return {f"transformer.{block}.{end}" for block, end in product(blocks, ends)}


def of_sana() -> set[str]:
    """diffusers' alone: neither ComfyUI nor sd-scripts have this family."""
    ends = [f"attn{a}.to_{x}" for a, x in product((1, 2), ("q", "k", "v", "out.0"))] + [
        "ff.conv_inverted",
        "ff.conv_point",
    ]
    return {f"transformer.transformer_blocks.{i}.{end}" for i, end in product(range(20), ends)}


def flux2() -> torch.nn.Module:
    return Flux2Transformer2DModel(num_layers=5, num_single_layers=20, guidance_embeds=False)


#: Family, format -> its denoiser in a published size, and the rule of its keys.
RULES = {
    ("sd", "lora"): (sd, of_sd()),
    ("sdxl", "lora"): (sdxl, of_sdxl()),
    ("sd3", "lora"): (sd3, of_sd3()),
    ("sd3", "kohya"): (sd3, of_sd3_by_kohya()),
    ("flux", "lora"): (FluxTransformer2DModel, of_flux(19, 38)),
    ("flux2", "lora"): (flux2, of_flux(5, 20)),
    ("pixart", "lora"): (lambda: PixArtTransformer2DModel(sample_size=128), of_pixart()),
    ("z_image", "lora"): (ZImageTransformer2DModel, of_z_image()),
    ("sana", "lora"): (SanaTransformer2DModel, of_sana()),
}


def family_of(name: str) -> Family:
    return next(one for one in KNOWN if type(one).__module__.endswith(f".{name}"))


@pytest.mark.parametrize("name, kind", RULES)
def test_every_exported_key_is_one_that_other_programs_know(name, kind):
    make, known = RULES[name, kind]
    with torch.device("meta"):
        module = make()
    family = family_of(name)
    names = family.kohya_names if kind == "kohya" else family.lora_names
    found = Layers(module, family.denoiser, names).written(list(picture_layers(module)))
    assert set(found) == known
    layers = [layer for parts in found.values() for layer in parts]
    assert sorted(layers) == sorted(picture_layers(module)), "each layer once, and none left out"


def test_every_family_says_whether_kohyas_scripts_have_names_for_it():
    by_kohya = {one.name for one in KNOWN if one.lora_names != "peft" or one.kohya_names}
    assert by_kohya == {
        "Stable Diffusion 1.x/2.x",
        "Stable Diffusion XL",
        "Stable Diffusion 3/3.5",
        "FLUX.1",
        "FLUX.2 [klein]",
    }


@pytest.mark.parametrize("convention", ["flux", "flux2", "sd3"])
def test_a_layer_that_has_no_name_is_told_and_not_left_out(convention):
    with pytest.raises(ExchangeError, match=r"norm_out\.linear: .* export with --format diffusers"):
        written(convention, "transformer", ["norm_out.linear", "transformer_blocks.0.attn.to_q"])


# ---------------------------------------------------------------- several layers in one


def taught(denoiser: Layers, layers: Iterable[str], shared: bool) -> dict[str, Factors]:
    """Factors of rank 2 for each layer; ``shared``: those that are one layer in a file have one D."""
    generator, downs, found = torch.Generator().manual_seed(0), {}, {}
    for stem, parts in denoiser.written(list(layers)).items():
        for layer in parts:
            out, *into = denoiser.shapes[layer]
            down = torch.randn(2, *into, generator=generator)
            down = downs.setdefault(stem, down) if shared else down
            found[layer] = Factors(down, torch.randn(out, 2, generator=generator), 2.0)
    return found


#: Family -> diffusers' pipeline that reads its files, the class of its denoiser, and how that is made small.
SMALL = {
    "flux": (FluxPipeline, FluxTransformer2DModel, {"num_layers": 1, "num_single_layers": 1}),
    "flux2": (
        Flux2KleinPipeline,
        Flux2Transformer2DModel,
        {"num_layers": 1, "num_single_layers": 1, "num_attention_heads": 8},
    ),
    "sd3": (
        None,
        SD3Transformer2DModel,
        {"num_layers": 2, "dual_attention_layers": (0,), "qk_norm": "rms_norm"},
    ),
}


@pytest.mark.parametrize("name, shared", list(product(SMALL, (True, False))))
def test_layers_that_are_one_in_a_file_are_read_as_they_were(name, shared):
    """Queries, keys and values are one layer there: from one D, or each from its own. By us, and by diffusers
    where it reads such files.
    """
    pipeline, kind, sizes = SMALL[name]
    with torch.device("meta"):
        module = kind(**sizes)
    denoiser = Layers(module, "transformer", name)
    adapter = taught(denoiser, picture_layers(module), shared)
    tensors = lora_file(adapter, denoiser)
    if pipeline:
        wanted, _ = diffusers_file(adapter, denoiser)
        theirs = pipeline.lora_state_dict(dict(tensors))
        assert theirs.keys() == wanted.keys() and all(torch.equal(theirs[key], wanted[key]) for key in wanted)
    ours, of_text = read_lora("file", tensors, {}, denoiser)
    assert not of_text and ours.keys() == adapter.keys()
    for layer, one in adapter.items():
        back = ours[layer]
        assert torch.equal(back.down, one.down) and torch.equal(back.up, one.up) and back.alpha == one.alpha
    again = lora_file(ours, denoiser)
    assert again.keys() == tensors.keys() and all(torch.equal(again[key], tensors[key]) for key in tensors)


# ---------------------------------------------------------------- reading


def test_layers_that_stabilitys_networks_have_not_are_called_as_diffusers_calls_them():
    """Of bases such as the shipped one, whose UNet pools the text by attention."""
    own = "add_embedding.pool.q_proj"
    assert sgm_name(own, 1) == "" and sgm_name("mid_block.resnets.1.conv1", 1) == "middle_block.2.in_layers.2"
    assert written("sgm", "unet", [own], 1) == {"lora_unet_add_embedding_pool_q_proj": (own,)}
    assert read("kohya", "unet", [own], 1)["unet.add_embedding.pool.q_proj"] == (own,)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_layer_is_known_under_the_names_that_trainers_write(name):
    """diffusers and peft (``transformer.``), ai-toolkit (``diffusion_model.``), SimpleTuner (``lycoris_``),
    OneTrainer (``lora_transformer_``).
    """
    family = family_of("pixart" if name.startswith("pixart") else name)
    pipe = FAMILIES[name]()
    module = getattr(pipe, family.denoiser)
    known = Layers(module, family.denoiser, family.kohya_names or family.lora_names).read()
    for layer in picture_layers(module):
        flat = layer.replace(".", "_")
        before = ("", f"{family.denoiser}.", "diffusion_model.", "base_model.model.")
        for stem in (*(b + layer for b in before), f"lycoris_{flat}", f"lora_transformer_{flat}"):
            assert known[stem] == (layer,), stem
