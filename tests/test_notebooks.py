"""The notebooks of docs/tutorials: without outputs in the tree, and they run."""

from __future__ import annotations

import ast
import json

import pytest

from benchmarks.main import ROOT

NOTEBOOKS = sorted((ROOT / "docs/tutorials").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_holds_code_and_no_outputs(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert cells[0]["cell_type"] == "markdown" and len(code) >= 4
    for cell in code:
        ast.parse("".join(cell["source"]))
        assert cell["outputs"] == [] and cell["execution_count"] is None


@pytest.mark.slow
def test_all_of_them_run_within_three_minutes_together(tmp_path):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    resource = pytest.importorskip("resource")
    began = sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2])
    for path in NOTEBOOKS:
        notebook = nbformat.read(path, as_version=4)
        nbclient.NotebookClient(notebook, timeout=None, resources={"metadata": {"path": tmp_path}}).execute()
        *_, last = (cell for cell in notebook.cells if cell.cell_type == "code")
        assert last.outputs, f"{path.name} ends with something to look at"
    assert len(NOTEBOOKS) == 3
    assert sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]) - began < 180, "of one core"
