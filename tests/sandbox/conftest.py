"""A sandbox that works, for the tests that need one. Missing: skipped, and a failure in CI."""

from __future__ import annotations

import os

import pytest

from heedful.errors import HeedfulError
from heedful.sandbox import jail


@pytest.fixture(scope="session")
def jailed() -> None:
    try:
        jail.check()
    except HeedfulError as error:
        if os.environ.get("CI", "") not in ("", "0", "false"):
            pytest.fail(str(error))
        pytest.skip(str(error))
