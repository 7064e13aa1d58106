"""What the tests of the raters' pages in Chromium share: a page with its first item, and what to wait for."""

from __future__ import annotations

from typing import Any

import pytest

from heedful.feedback import payloads
from heedful.feedback.models import (
    Judgment,
)

TASK = "form.task"
expect = pytest.importorskip("playwright.sync_api").expect


def shown() -> dict[str, Any]:
    """The newest judgment, in the order in which it was shown."""
    kept = Judgment.objects.latest("created")
    return payloads.to_shown(kept.kind, kept.payload, kept.order)


def is_done(page: Any) -> None:
    page.wait_for_selector("[data-none=done]")


def saved(page: Any) -> None:
    expect(page.locator("#status")).to_have_text("Draft saved")


def judged_today(page: Any, count: int) -> None:
    expect(page.locator("#today b")).to_have_text(str(count))


def another(page: Any, action: str) -> None:
    """Wait for another task than that with this address, or none."""
    expect(page.locator(f"{TASK}[action='{action}']")).to_have_count(0)
