"""README and docs tell what the results say, and name what is there."""

import functools
import json
import re
from collections.abc import Iterator

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


def test_the_readme_stays_a_front_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", text, flags=re.S).split()) < 1000


@each_page
def test_what_it_shows_links_to_and_names_is_there(page):
    text = page.read_text(encoding="utf-8")
    links = [part.split(")")[0] for part in text.split("](")[1:]]
    beside = [link.split("#")[0] for link in links if not link.startswith(("http", "#"))]
    missing = [link for link in beside if not (page.parent / link).exists()]
    assert missing + [path for path in _PATH.findall(text) if not (ROOT / path).exists()] == []


def numbers(found) -> Iterator[float]:
    """All numbers in what a JSON file holds, but those of single runs, which stand in lists."""
    if isinstance(found, dict):
        for inner in found.values():
            yield from numbers(inner)
    elif isinstance(found, int | float) and not isinstance(found, bool):
        yield abs(float(found))


#: what is no figure: tables (tests above), code, addresses, articles' numbers, versions and licences
_NO_FIGURE = re.compile(
    r"<!-- ([\w-]+) -->.*?<!-- /\1 -->|```.*?```|`[^`]*`|^    .*?$|\]\([^)]*\)|arXiv:?[ /]\d{4}\.\d{5}"
    r"|\d+(?:\.\d+){2,}|(?<=[A-Za-z]-)\d\.\d|Python 3\.\d+\+?|Diffusion [\d./x]+|\d/3\.5",
    flags=re.M | re.S,
)
_FIGURE = re.compile(r"(\d[\d,]*(?:\.(\d+))?)(%|(?= (?:dB|GiB|MB|KB|ms|s|seconds|minutes)\b))?")


@each_page
def test_figures_in_sentences_are_in_the_files_that_the_page_names(page):
    """Those with decimals, in percent or with a unit; any unit of a figure that a file has will do."""
    text = page.read_text(encoding="utf-8")
    files = {ROOT / name for name in re.findall(r"(results/[\w.-]+\.json)", text)}
    files |= {ROOT / "l2dm/backbone/mini/facts.json", ROOT / "l2dm/evaluation/judge/judge.json"}
    known = {number for file in files for number in numbers(json.loads(file.read_text()))}
    missing = []
    for found in _FIGURE.finditer(_NO_FIGURE.sub("", text)):
        said, decimals, unit = found.groups()
        if not decimals and unit is None:
            continue
        value, places = float(said.replace(",", "")), len(decimals or "")
        units = (100,) if unit == "%" else (1, 1e-6, 1000)
        if not any(round(number * by, places) == value for number in known for by in units):
            missing.append(said)
    assert missing == []
