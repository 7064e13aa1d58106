"""What the store's tests share."""

from __future__ import annotations

from typing import Any

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper


@pytest.fixture
def beside(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test open databases beside the one that it runs on; Django's test cases forbid it."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("_django_db_helper")
    guarded = BaseDatabaseWrapper.ensure_connection

    def ensure(self: Any) -> None:
        if self.connection is None and self.alias.startswith("beside-"):
            with self.wrap_database_errors:
                self.connect()
        else:
            guarded(self)

    monkeypatch.setattr(BaseDatabaseWrapper, "ensure_connection", ensure)
