"""Which settings a page offers: none that names a place of the disk or sends something there."""

from __future__ import annotations

import dataclasses
import re

import pytest

from l2dm.checked import Checked, setting
from l2dm.errors import SettingsError
from l2dm.settings import PLACES, GenerateSettings, LearnSettings
from l2dm.studio.forms import fields, given
from l2dm.studio.jobs import Queue

#: All settings that are no numbers, each looked at: what may be given to it in a page. A new one belongs
#: either here or in ``PLACES``.
LOOKED_AT = {
    LearnSettings: {
        "choices": {"lr_scheduler", "method", "masks", "precision", "device", "optimizer"},
        "words": {"sample_prompt"},
        "yes or no": {"buckets", "flip", "captions_only", "gradient_checkpointing", "compile"},
    },
    GenerateSettings: {
        "choices": {"sampler", "precision", "device", "composition"},
        "words": {"negative_prompt", "subjects", "layout"},
        "yes or no": {"offload", "confine"},
    },
}
PAGES = [("/teach", LearnSettings), ("/draw", GenerateSettings), ("/compare", GenerateSettings)]


@dataclasses.dataclass(frozen=True)
class Later(Checked):
    """A setting that somebody adds without a thought of the studio."""

    steps: int = setting(1, 1, 9, text="steps")
    place: str = setting("", text="a folder")


@pytest.mark.parametrize("kind", LOOKED_AT)
def test_every_setting_that_is_no_number_was_looked_at(kind):
    found = {"choices": set(), "words": set(), "yes or no": set()}
    for field in fields(kind()):
        if field.kind not in ("int", "float"):
            found["yes or no" if field.kind == "bool" else "choices" if field.choices else "words"].add(
                field.name
            )
    assert found == LOOKED_AT[kind]
    left_out = {f.name for f in dataclasses.fields(kind)} - {field.name for field in fields(kind())}
    assert left_out == (set(PLACES) - {"masks"} if kind is LearnSettings else set())


def test_a_text_that_nobody_looked_at_is_neither_offered_nor_taken():
    assert [field.name for field in fields(Later())] == ["steps"]
    assert given({"steps": "2"}, Later()) == {"steps": 2}
    for form in ({"place": "/tmp"}, {"place": ""}, {"has-place": "1"}):
        with pytest.raises(SettingsError, match="place: a page takes no folder"):
            given(form, Later())


@pytest.mark.parametrize(("page", "kind"), PAGES)
def test_no_setting_takes_a_place(browser, folder, world, tmp_path, page, kind):
    shown = set(re.findall(r'name="([^"]+)"', browser.get(page).text))
    place = tmp_path / "elsewhere"
    for f in dataclasses.fields(kind):
        allowed = f.name in LOOKED_AT[kind]["words"] | LOOKED_AT[kind]["yes or no"]
        is_setting_of_page = f.name not in PLACES or f.name == "masks"
        assert is_setting_of_page or f.name not in shown, f"{page} offers {f.name}"
        if allowed:
            continue
        asked = {"prompt": "a dog", "over": "versions", "versions": "0", "token": "<rex>", "noun": "dog"}
        answer = browser.post(page, data={**asked, f.name: str(place)})
        assert answer.status_code == 422 and re.search(f"{f.name}( =|:)", answer.text), f.name
    assert not list(Queue(folder).all()) and not place.exists() and browser.woken == []
