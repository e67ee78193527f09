"""What tuners and guidance are told about a denoiser's layers."""

import re
from pathlib import Path

import torch

import l2dm
from l2dm.backbone import sites


def test_text_is_read_in_the_cross_attention_alone(backbone):
    z, t = torch.randn(1, backbone.channels, 16, 16), torch.tensor(5)
    text, seen = backbone.encode_text(["a dog"]), {}
    denoiser = backbone.denoiser
    hooks = [
        layer.register_forward_hook(lambda m, args, out, name=name: seen.update({name: args[0].shape}))
        for name, layer in denoiser.named_modules()
        if isinstance(layer, torch.nn.Linear)
    ]
    with torch.no_grad():
        denoiser(z, t, text)
    for hook in hooks:
        hook.remove()
    readers = {name for name, shape in seen.items() if shape == text.shape and "add_embedding" not in name}
    assert readers == set(sites.key_value_layers(denoiser))
    assert {name.rpartition(".")[0] for name in readers} == set(sites.text_attention(denoiser))
    assert text.shape[1:] == (backbone.text_length, backbone.text_width)
    assert set(sites.key_value_layers(denoiser)) <= set(sites.picture_layers(denoiser))
    assert (backbone.grain, backbone.factor, backbone.dtype) == (16, 4, torch.float32)


def test_only_the_backbone_names_layers_of_a_denoiser():
    root = Path(l2dm.__file__).parent
    named = [
        f"{path.relative_to(root)}: {line.strip()}"
        for path in root.rglob("*.py")
        if not {"backbone", "exchange"} & set(path.parts)  # other programs' files are named as these do
        for line in path.read_text().splitlines()
        if re.search("unet|attn2|cross_attention_dim", line)
    ]
    assert not named
