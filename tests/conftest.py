"""What every test shares: one thread, no network, and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parent.parent
IN_CI = os.environ.get("CI", "") not in ("", "0", "false")

# Examples are timed on a machine that other work shares, so no deadline; in CI the same examples each time.
settings.register_profile("heedful", deadline=None, derandomize=IN_CI)
settings.load_profile("heedful")


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the working tree."""
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real preference files (HEEDFUL_SHARED_DATA, or ../shared/data).

    Where it is missing, the tests that ask for it are skipped; in CI they fail.
    """
    folder = Path(os.environ.get("HEEDFUL_SHARED_DATA", ROOT.parent / "shared" / "data"))
    if not folder.is_dir():
        message = f"the real data is not at {folder}; set HEEDFUL_SHARED_DATA"
        if IN_CI:
            pytest.fail(message)
        pytest.skip(message)
    return folder
