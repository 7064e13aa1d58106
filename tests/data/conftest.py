"""Fixtures of the data tests: prepared tokenizers by family, and the folder of real data."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizer_families import FAMILIES


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def prepared() -> Callable[[str], Any]:
    """A prepared tokenizer of a family, made once; tests that change one make their own."""
    from heedful.data.chat import prepare_tokenizer

    @functools.cache
    def make(name: str) -> Any:
        build, template = FAMILIES[name]
        return prepare_tokenizer(build(), template=template)

    return make


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real preference files; they are never copied into the repository."""
    given = os.environ.get("HEEDFUL_SHARED_DATA")
    folder = Path(given) if given else Path(__file__).parents[2].parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder of real data: set HEEDFUL_SHARED_DATA")
    return folder
