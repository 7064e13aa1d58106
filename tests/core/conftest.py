from __future__ import annotations

from collections.abc import Iterator

import pytest

from trl_oracle import Oracle


@pytest.fixture(scope="session")
def ask() -> Iterator[Oracle]:
    """TRL answers; only for tests marked `oracle`."""
    oracle = Oracle()
    yield oracle
    oracle.process.communicate()
