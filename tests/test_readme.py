"""README and docs tell what the results say, and name what is there."""

import functools
import re

import pytest

from benchmarks.main import ROOT
from benchmarks.readme import filled, pages, tables

PAGES = [*pages(), ROOT / "CONTRIBUTING.md"]
#: `results/main.json`, `l2dm/tuners/`, ...: files and folders of the tree, but what the demo leaves
_PATH = re.compile(r"`((?:l2dm|tests|benchmarks|results|mini_base|docs)/[\w./-]*)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
once = functools.cache(tables)


@each_page
def test_the_tables_are_the_results(page, monkeypatch):
    monkeypatch.setattr("benchmarks.readme.tables", once)
    text = page.read_text(encoding="utf-8")
    assert filled(text) == text, "run: python -m benchmarks.readme"
    marks = re.findall(r"<!-- /?([\w-]+) -->", text)
    assert set(marks) <= set(once()) and all(marks.count(mark) == 2 for mark in marks)


def test_every_table_has_its_place():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert [name for name, table in once().items() if not any(table in text for text in texts)] == []


@each_page
def test_what_it_shows_links_to_and_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    beside = [link.split("#")[0] for link in links if not link.startswith(("http", "#"))]
    missing = [link for link in beside if not (page.parent / link).exists()]
    assert missing + [path for path in _PATH.findall(text) if not (ROOT / path).exists()] == []
