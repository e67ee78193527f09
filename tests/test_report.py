"""Pages hold everything themselves; the report never needs torch."""

from __future__ import annotations

import itertools
import subprocess
import sys

import numpy as np
import pytest
from handmade import told
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from l2dm.generation.picture import contact_sheet
from l2dm.methods import METHODS
from l2dm.report import Page, attention
from l2dm.report.card import card, pictures, write_page
from l2dm.report.plots import GREY, MARKED, apart, colours


def test_a_page_is_one_file_and_escapes_what_it_is_given(tmp_path):
    page = Page("a <b> title", "lead")
    page.heading("h & h")
    page.pictures([Image.new("RGB", (8, 8), "red")] * 2, "a photo of <rex> dog")
    page.table(["x"], [["<rex>"], [3]])
    html = page.save(tmp_path / "p.html").read_text()
    assert html.count("data:image/png;base64,") == 2 and "http" not in html
    assert "<rex>" not in html and "&lt;rex&gt;" in html and "h &amp; h" in html


def test_the_report_imports_no_torch():
    code = "import sys, l2dm.report; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_sheet_has_a_cell_for_each_picture():
    images = [Image.new("RGB", (16, 16), (i * 40, 0, 0)) for i in range(5)]
    sheet = contact_sheet(images, columns=3, cell=20, gap=2)
    assert sheet.size == (68, 46)
    assert [sheet.getpixel((12 + i % 3 * 22, 12 + i // 3 * 22))[0] for i in range(5)] == [0, 40, 80, 120, 160]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=25), st.floats(0.001, 0.2))
def test_names_beside_a_plot_keep_their_distance_and_move_no_further_than_that_takes(values, gap):
    values = sorted(values, reverse=True)
    moved = apart(values, gap)
    assert all(above - below > gap - 1e-9 for above, below in itertools.pairwise(moved))
    assert sum(moved) == pytest.approx(sum(values)), "no name is favoured"
    spread = [value - k * gap for k, value in enumerate(values)]
    assert apart(spread, gap) == pytest.approx(spread), "what stands apart stays"


def test_of_many_methods_a_few_have_colours():
    assert colours(["l2dm", "ewc"]) == {"l2dm": "C0", "ewc": "C1"}
    many = colours([*METHODS])
    assert many["l2dm"] == MARKED["l2dm"] and many["ewc"] == GREY and set(many) == set(METHODS)


def shown(world, target):
    """The tokens and nouns of a world's report card, and its page."""
    found = card(world.manifest)
    rows = [row["token"] for row in found["concepts"]], [row["noun"] for row in found["nouns"]]
    return found["token"], *rows, write_page(world.path, world.manifest, target).read_text()


@pytest.mark.parametrize("story", [["+<rex>", "+<tom>", "-<rex>"], ["+<tom>", "+<rex>", "-<rex>"]])
def test_a_report_shows_nothing_of_a_forgotten_concept(tmp_path, story):
    last, tokens, nouns, page = shown(told(tmp_path / "w", *story), tmp_path / "p.html")
    assert (last, tokens, nouns) == ("<tom>", ["<tom>"], ["cat"])
    assert "rex" not in page and "dog" not in page and page.count("data:image") >= 2


def test_a_concept_learnt_anew_has_nothing_of_the_forgotten_one(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "-<rex>", "+<rex>")
    rex = next(row for row in card(world.manifest)["concepts"] if row["token"] == "<rex>")
    assert rex["before"] is None and rex["likeness"] == 76.0
    assert [version for version, _ in pictures(world.path, world.manifest, "<rex>")] == [4]
    assert [version for version, _ in pictures(world.path, world.manifest, "<tom>")] == [2, 4]


def test_the_last_concept_forgotten_leaves_no_report(tmp_path):
    assert card(told(tmp_path / "w", "+<rex>", "-<rex>").manifest)["concepts"] == []


def test_a_part_of_a_picture_is_outlined_along_its_inner_edge():
    grey = Image.new("RGB", (8, 8), (9, 9, 9))
    assert attention.outlined(grey, None) is grey
    region = np.zeros((4, 4), bool)
    region[:, :2] = True
    line = (np.asarray(attention.outlined(grey, region)) == attention.EDGE).all(-1)
    assert line[:, 0].all() and line[:, 3].all() and line[0, :4].all() and line[7, :4].all()
    assert not line[1:7, 1:3].any() and not line[:, 4:].any()
