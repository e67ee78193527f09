"""The shell completes commands, options and formats, by what ``l2dm --install-completion`` puts into its
settings.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def l2dm(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    told = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    start = [sys.executable, "-c", "from l2dm.cli import main; main()", *arguments]
    return subprocess.run(start, capture_output=True, text=True, env=told, timeout=60)


@pytest.mark.parametrize(
    "line, wanted",
    {
        "l2dm ex": ["export"],
        "l2dm i": ["init", "import"],
        "l2dm export pets --format cu": ["custom-diffusion"],
        "l2dm import pets --den": ["--denoiser-only"],
    }.items(),
)
def test_the_shell_completes(line, wanted):
    words = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = l2dm(_L2DM_COMPLETE="complete_bash", **words)
    assert done.stdout.split() == wanted and not done.stderr


def test_completion_is_put_into_the_shells_settings(tmp_path):
    done = l2dm(
        "--install-completion", "bash", HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1"
    )
    assert done.returncode == 0, done.stderr
    scripts = [
        path for path in tmp_path.rglob("*") if path.is_file() and "_L2DM_COMPLETE" in path.read_text()
    ]
    assert len(scripts) == 1 and str(scripts[0]) in (tmp_path / ".bashrc").read_text()
