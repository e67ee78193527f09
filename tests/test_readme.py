"""The README tells what the results say."""

from benchmarks.main import ROOT
from benchmarks.readme import filled, tables


def test_the_tables_are_the_results():
    text = (ROOT / "README.md").read_text()
    assert filled(text) == text, "run: python -m benchmarks.readme"
    assert all(table in text for table in tables().values()), "every table has its place"


def test_every_picture_it_shows_is_there():
    text = (ROOT / "README.md").read_text()
    for part in text.split("](")[1:]:
        target = part.split(")")[0]
        assert target.startswith(("http", "#")) or (ROOT / target).exists(), target
