"""What every test has: the same random weights, and the real data sets when they are at hand."""

import os
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one test process a core: threads of their own would only wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def same_weights_in_every_run() -> None:
    """Networks start from random weights: each test from the same ones, whatever ran before it."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets: $MASKWRIGHT_DATA, else `shared/data` beside the repository; skips when absent."""
    folder = Path(os.environ.get("MASKWRIGHT_DATA") or REPOSITORY.parent / "shared" / "data")
    if not (folder / "facts.json").is_file():
        pytest.skip(f"the real data sets are not at {folder}; set MASKWRIGHT_DATA")
    return folder
