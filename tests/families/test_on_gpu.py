"""What holds of every family, on a CUDA device in float16 and in bfloat16: ``pytest -m gpu``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import learning
import pytest
import torch

from families import ROWS, contract
from families.folders import tiny_folder
from families.test_attention import *  # noqa: F403  (the tests themselves)
from families.test_drawing import *  # noqa: F403
from families.test_learning import *  # noqa: F403
from families.test_reading import *  # noqa: F403
from families.test_refusals import *  # noqa: F403

if not torch.cuda.is_available():  # as a whole: hundreds of tests need not be collected to be left out
    pytest.skip("no CUDA device", allow_module_level=True)

pytestmark = pytest.mark.gpu
DEVICE = "cuda"


@pytest.fixture(
    scope="package",
    params=[(row, half) for row in ROWS for half in ("float16", "bfloat16")],
    ids=lambda param: "-".join(param),
)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    row, half = request.param
    with pytest.MonkeyPatch.context() as patch:
        for table in (contract.PLACE, contract.DRAW):
            patch.setitem(table, "device", DEVICE)
            patch.setitem(table, "precision", half)
        patch.setitem(learning.SMALL, "precision", half)
        yield tiny_folder(row, tmp_path_factory.mktemp(row) / row)


@pytest.fixture(params=["float16", "bfloat16"])
def place(request: pytest.FixtureRequest) -> tuple[str, torch.dtype]:
    return DEVICE, getattr(torch, request.param)
