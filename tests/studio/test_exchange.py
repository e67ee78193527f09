"""Concepts leave as files and come back as concepts."""

from __future__ import annotations

import io
import zipfile

import pytest
from conftest import QUICK

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
    browser.post("/exchange/in", data={"token": "<rex>"}, files={"file": ("pets.zip", other)})
    work_through(folder, "learn")
    assert [found.job.state for found in Queue(folder).all("import")] == ["done", "done"], [
        f.job.message for f in Queue(folder).all("import")
    ]
    assert World.open(world).concepts == {"<tom>": "dog", "<rex>": "dog"}
    newest = next(Queue(folder).all("import")).job.found["version"]
    assert (
        browser.get(f"/effect/{newest}").status_code == 200
        and "written before" in browser.get("/exchange").text.lower()
    )


@pytest.mark.parametrize(
    ("where", "data", "file", "said"),
    [
        ("out", {"format": "exe", "tokens": "<rex>"}, None, "expected one of lora, diffusers"),
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
