from __future__ import annotations

import pytest

from heedful.world.world import World


@pytest.fixture(scope="session")
def world() -> World:
    return World()
