"""Concepts leave as files and come back as concepts."""

from __future__ import annotations

import io
import zipfile

import pytest
import torch
from conftest import QUICK
from safetensors.torch import load, load_file, save

from l2dm import World
from l2dm.studio.jobs import Queue
from l2dm.studio.worker import work_through


def test_a_concept_goes_out_and_comes_in_again(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    assert browser.post("/exchange/out", data={"format": "embedding", "tokens": "<rex>"}).status_code == 200
    browser.post("/exchange/out", data={"format": "world"})
    assert browser.woken == ["draw", "draw"]
    work_through(folder, "draw")
    whole, vectors = Queue(folder).all("export")
    assert vectors.job.state == whole.job.state == "done", (vectors.job.message, whole.job.message)
    page = browser.get(f"/jobs/{vectors.job.id}").text
    assert "In prompts: <q>a photo of &lt;rex&gt; dog" in page
    answer = browser.get(f"/jobs/{vectors.job.id}/export.zip")
    packed = zipfile.ZipFile(io.BytesIO(answer.content))
    [file] = [name for name in packed.namelist() if name.endswith(".safetensors")][:1]
    assert 'filename="world-rex-embedding.zip"' in answer.headers["content-disposition"]
    browser.post(
        "/exchange/in",
        data={"token": "<tom>", "noun": "dog"},
        files={"file": (f"../../{file}", packed.read(file))},
    )
    World.open(world).undo()
    other = browser.get(f"/jobs/{whole.job.id}/export.zip").content
    for tokens in ({"token": "<rex>"}, {"token": "<max>", "there": "<rex>"}):
        browser.post("/exchange/in", data=tokens, files={"file": ("pets.zip", other)})
    work_through(folder, "learn")
    assert [found.job.state for found in Queue(folder).all("import")] == ["done"] * 3, [
        f.job.message for f in Queue(folder).all("import")
    ]
    assert World.open(world).concepts == {"<tom>": "dog", "<rex>": "dog", "<max>": "dog"}
    newest = next(Queue(folder).all("import")).job.found["version"]
    assert (
        browser.get(f"/effect/{newest}").status_code == 200
        and "written before" in browser.get("/exchange").text.lower()
    )


def test_what_goes_out_has_the_strength_and_numbers_that_were_asked(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    for strength in ("", "-0.5"):
        asked = {"format": "lora", "tokens": "<rex>", "dtype": "float16", "strength": strength}
        browser.post("/exchange/out", data=asked)
    work_through(folder, "draw")
    other, whole = (weights(found.path / "export.zip") for found in Queue(folder).all("export"))
    shown = browser.get(f"/jobs/{next(Queue(folder).all('export')).job.id}").text
    assert "as lora, -0.5 times" in shown
    asked["strength"], asked["out"] = -0.5, folder.root / "out"
    World.open(world).export(asked.pop("tokens"), **asked)
    straight = load_file(folder.root / "out" / "rex.safetensors")
    assert other.keys() == straight.keys() and all(other[key].equal(straight[key]) for key in straight)
    assert any(not other[key].equal(whole[key]) for key in whole)


def weights(file):
    with zipfile.ZipFile(file) as packed:
        return load(packed.read("rex.safetensors"))


def test_a_loras_text_encoder_part_can_be_left_out(browser, folder, world, photos):
    World.open(world).learn(photos, token="<rex>", noun="dog", **QUICK)
    World.open(world).export("<rex>", format="lora", out=folder.root / "out")
    [file] = [path for path in (folder.root / "out").glob("*.safetensors") if "embedding" not in path.name]
    stem, tensors = "lora_te3_encoder_block_0_layer_0_SelfAttention_q", load_file(file)
    tensors |= {f"{stem}.lora_down.weight": torch.ones(1, 16), f"{stem}.lora_up.weight": torch.ones(16, 1)}
    for token, more in (("<tom>", {}), ("<ada>", {"denoiser_only": "on"})):
        data = {"token": token, "noun": "dog", **more}
        browser.post("/exchange/in", data=data, files={"file": ("a.safetensors", save(tensors))})
    work_through(folder, "learn")
    without, refused = (found.job for found in Queue(folder).all("import"))
    assert refused.state == "failed" and "--denoiser-only" in refused.message
    assert "--denoiser-only" in browser.get("/exchange").text, "the page says where that is"
    assert without.state == "done", without.message
    assert "<ada>" in World.open(world).concepts


@pytest.mark.parametrize(
    ("where", "data", "file", "said"),
    [
        ("out", {"format": "exe", "tokens": "<rex>"}, None, "expected one of lora, diffusers"),
        ("out", {"format": "lora", "tokens": "<rex>", "strength": "11"}, None, "between -10 and 10"),
        ("out", {"format": "lora", "tokens": "<rex>", "strength": "nan"}, None, "between -10 and 10"),
        ("out", {"format": "lora", "tokens": "<rex>", "strength": "much"}, None, "expected a number"),
        ("in", {"token": "<tom>", "there": "rex"}, ("a.zip", b"x"), "expected a name in angle brackets"),
        ("out", {"format": "lora"}, None, "choose at least one concept"),
        ("out", {"format": "lora", "tokens": "../../x"}, None, "choose at least one concept"),
        ("in", {"token": "<tom>", "noun": "dog"}, ("a.pkl", b"\x80\x04"), "give a .safetensors file"),
        ("in", {"token": "tom", "noun": "dog"}, ("a.safetensors", b"x"), "expected a name in angle brackets"),
        ("in", {"token": "<tom>", "noun": ""}, ("a.safetensors", b"x"), "expected one to four words"),
        ("in", {"token": "<tom>", "noun": "dog"}, None, "give a .safetensors file"),
    ],
)
def test_what_cannot_travel_is_refused_at_once(browser, folder, world, where, data, file, said):
    answer = browser.post(f"/exchange/{where}", data=data, files={"file": file} if file else None)
    assert answer.status_code == 422 and said in answer.text and not list(Queue(folder).all())


def test_a_broken_file_fails_in_one_sentence(browser, folder, world):
    browser.post(
        "/exchange/in",
        data={"token": "<tom>", "noun": "dog"},
        files={"file": ("a.safetensors", b"not tensors")},
    )
    work_through(folder, "learn")
    [found] = Queue(folder).all("import")
    assert found.job.state == "failed" and "unexpected" not in found.job.message
    assert browser.get(f"/jobs/{found.job.id}/export.zip").status_code == 404
