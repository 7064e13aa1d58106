"""Chromium for tests of pages, and axe-core, which finds what a page keeps from some of its readers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
WAIT = 15_000
"""Milliseconds for what a page does by itself, on a machine whose cores are shared."""


def _missing(why: str) -> None:
    if IN_CI:
        pytest.fail(why)
    pytest.skip(why)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Chromium, started once. Missing: skipped, and a failure in CI."""
    playwright = pytest.importorskip("playwright.sync_api") if not IN_CI else __import__("playwright.sync_api").sync_api
    known = (os.environ.get("HEEDFUL_CHROMIUM"), "/usr/bin/chromium", shutil.which("chromium"))
    path = next((one for one in known if one and os.path.exists(one)), None)
    if path is None:
        _missing("there is no Chromium; set HEEDFUL_CHROMIUM")
    before = os.environ.get("DJANGO_ALLOW_ASYNC_UNSAFE")
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # Playwright's loop runs in the thread of the tests
    playwright.expect.set_options(timeout=WAIT)
    with playwright.sync_playwright() as play:
        started = play.chromium.launch(executable_path=path, args=list(FLAGS))
        yield started
        started.close()
    if before is None:
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def axe() -> Callable[..., None]:
    """axe(page): fails on anything that axe-core finds."""

    def check(page: Any) -> None:
        from axe_core_python.sync_playwright import Axe

        found = Axe().run(page, options={"resultTypes": ["violations"]})["violations"]  # what passes isn't listed
        told = [(one["id"], one["help"], [node["html"][:200] for node in one["nodes"]]) for one in found]
        assert not told

    return check
