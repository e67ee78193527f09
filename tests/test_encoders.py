"""Published encoders as judges, on tiny ones with random weights; the released metric against its literal
twin.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import paint
from PIL import Image
from reference.alignment import literal_image_alignment, literal_text_alignment
from tiny import tiny_clip, tiny_dino
from transformers import CLIPModel, ViTModel

from l2dm.backbone import encoders, load_encoder
from l2dm.errors import BaseModelError, SettingsError
from l2dm.evaluation.alignment import image_alignment, text_alignment, text_cosine
from l2dm.evaluation.judging import EncoderJudge, find_judge


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    place = tmp_path_factory.mktemp("encoders")
    return {"clip": tiny_clip(place / "clip"), "vit": tiny_dino(place / "dino")}


def test_the_metric_is_its_literal_twin():
    torch.manual_seed(0)
    drawn, references, texts = (F.normalize(torch.randn(n, 5), dim=1) for n in (7, 3, 7))
    assert image_alignment(drawn, references) == pytest.approx(
        literal_image_alignment(drawn.tolist(), references.tolist()), abs=1e-4
    )
    assert text_alignment(drawn, texts) == pytest.approx(
        literal_text_alignment(drawn.tolist(), texts.tolist()), abs=1e-4
    )
    assert text_alignment(drawn, -drawn) == 0 and text_cosine(drawn, -drawn) == pytest.approx(-100)
    assert text_alignment(drawn, drawn) == pytest.approx(250)


def test_clip_gives_the_models_own_features(folders):
    encoder, model = load_encoder(folders["clip"]), CLIPModel.from_pretrained(folders["clip"])
    images = [paint(i, (32, 32)) for i in range(3)]
    pixels = (
        torch.from_numpy(np.stack([np.asarray(im) for im in images])).permute(0, 3, 1, 2).float() / 127.5 - 1
    )
    ids = encoder.tokenizer(
        ["a dog", "a red cat"], padding="max_length", max_length=32, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        whole = model(input_ids=ids, pixel_values=pixels)
    assert torch.allclose(encoder.images(images), F.normalize(whole.image_embeds, dim=-1), atol=1e-5)
    assert torch.allclose(
        encoder.texts(["a dog", "a red cat"]), F.normalize(whole.text_embeds, dim=-1), atol=1e-5
    )
    assert torch.equal(encoder.texts(["a dog"] * 2)[0], encoder.texts(["a dog"] * 2)[1])


def test_dino_sees_the_centre_of_a_picture(folders):
    encoder, model = (
        load_encoder(folders["vit"], "vit"),
        ViTModel.from_pretrained(folders["vit"], add_pooling_layer=False),
    )
    framed = Image.new("RGB", (55, 37), "white")  # 37 = round(32 * 256 / 224): nothing is scaled
    framed.paste(paint(5, (32, 32)), (12, 2))
    pixels = torch.from_numpy(np.asarray(framed)[2:34, 12:44].copy()).permute(2, 0, 1)[None].float() / 255
    mean, deviation = (
        torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    with torch.no_grad():
        wanted = model(pixel_values=(pixels - mean) / deviation).last_hidden_state[:, 0]
    assert torch.allclose(encoder.images([framed]), F.normalize(wanted, dim=-1), atol=1e-5)


@pytest.mark.parametrize("kind", ["clip", "vit"])
def test_an_encoder_judges_by_cosine(folders, kind):
    judge = find_judge(str(folders[kind]))
    things = [[paint(10 * t + i) for i in range(2)] for t in range(3)]
    known = torch.stack([judge.prototype(pictures) for pictures in things])
    like = judge.likeness([p for pictures in things for p in pictures], known)
    assert like.shape == (6, 3) and like.abs().max() <= 1 + 1e-5
    assert torch.allclose(
        judge.likeness(things[0][:1], judge.features(things[0][:1])), torch.ones(1, 1), atol=1e-5
    )
    assert judge.card() == {"encoder": str(folders[kind]), "kind": kind, "side": 32, "width": known.shape[1]}
    with pytest.raises(
        SettingsError, match=r"cannot say which of several things are in it; use --judge shipped"
    ):
        judge.presence(things[0], known)
    assert isinstance(judge, EncoderJudge)


def test_what_is_no_encoder_is_refused(folders, tmp_path, monkeypatch):
    from_pretrained = encoders.AutoConfig.from_pretrained

    def offline(where):
        if where == "nowhere/at-all":  # the hub's own client tries for half a minute
            raise OSError("We couldn't connect")
        return from_pretrained(where)

    monkeypatch.setattr(encoders.AutoConfig, "from_pretrained", offline)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "config.json").write_text((folders["clip"] / "config.json").read_text())
    cases = {
        str(
            tmp_path / "no"
        ): "no such folder; give the folder or hub id of a CLIP model such as openai/clip-vit-base-patch32",
        "nowhere/at-all": "no such folder, and the hub could not be asked .We couldn't connect",
        str(tmp_path / "empty"): r"config\.json is missing, so no encoder is here",
        str(tmp_path / "bert"): "it is a bert model; expected a CLIP model",
        str(folders["vit"]): "it is a vit model; expected a CLIP model",
        str(tmp_path / "bare"): "cannot be loaded .*; it needs weights and, for CLIP, its tokenizer",
    }
    for where, said in cases.items():
        with pytest.raises(BaseModelError, match=f"^--clip '{where}': .*{said}"):
            load_encoder(where, "clip", "--clip")


def test_of_a_clip_pair_only_what_is_asked_is_loaded(folders):
    encoder = load_encoder(folders["clip"])
    encoder.images([paint()])
    assert "text_encoder" not in vars(encoder.pair)
    encoder.texts(["a dog"])
    assert "text_encoder" in vars(encoder.pair)
