"""Keys for machines, and counts that hold across processes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from feedback_factories import account, programme
from heedful.errors import HeedfulError
from heedful.feedback import clock, limits, programmes, tokens
from heedful.feedback.models import ApiToken, AuditEvent, Programme, RateWindow, Role


@pytest.fixture
def of(db: None) -> Programme:
    return programme()


def test_a_token_is_shown_once_and_kept_as_a_hash(of: Programme) -> None:
    made, text = tokens.create_token(of, "pipeline", ["status:read"], author=account(), days=1)
    assert text.startswith("heedful_")
    assert text not in str(ApiToken.objects.values())
    assert text not in str(AuditEvent.objects.values())
    assert tokens.find_token(text) == made
    assert tokens.find_token(text.upper()) is None
    assert tokens.find_token("") is None


def test_a_token_ends_by_revocation_and_by_time(of: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = tokens.create_token(of, "pipeline", ["status:read"], author=account(), days=1)
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now + timedelta(hours=25))
    assert tokens.find_token(text) is None
    monkeypatch.setattr(clock, "now", lambda: now)
    tokens.revoke_token(made, actor=account())
    assert tokens.find_token(text) is None
    tokens.revoke_token(made, actor=account())
    assert AuditEvent.objects.filter(kind="token.revoked").count() == 1


def test_a_token_ends_with_its_authors_right_to_make_one(of: Programme) -> None:
    other, lead, first = account(), account(), account(is_superuser=True)
    for who in (lead, first):
        programmes.add_member(of, who, Role.ADMIN, actor=None)
        programmes.add_member(of, who, Role.RATER, actor=None)
    mine, text = tokens.create_token(of, "mine", ["status:read"], author=lead)
    _, theirs = tokens.create_token(of, "theirs", ["status:read"], author=other)
    _, elsewhere = tokens.create_token(programme(), "elsewhere", ["status:read"], author=lead)
    _, always = tokens.create_token(of, "first", ["status:read"], author=first)
    programmes.end_membership(of, lead, Role.RATER, actor=other)
    assert tokens.find_token(text) == mine
    for who in (lead, first):
        programmes.end_membership(of, who, Role.ADMIN, actor=other)
    assert tokens.find_token(text) is None
    assert all(tokens.find_token(one) for one in (theirs, elsewhere, always)), "the first account is admin everywhere"
    assert AuditEvent.objects.get(kind="token.revoked").ids["token"] == str(mine.pk)
    programmes.add_member(of, lead, Role.ADMIN, actor=other)
    assert tokens.find_token(text) is None, "what is revoked stays so"


def test_last_use_is_written_once_a_minute(of: Programme, monkeypatch: pytest.MonkeyPatch) -> None:
    made, text = tokens.create_token(of, "pipeline", ["status:read"], author=account())
    now, seen = clock.now(), []
    for seconds in (0, 30, 59, 61):
        monkeypatch.setattr(clock, "now", lambda seconds=seconds: now + timedelta(seconds=seconds))
        tokens.find_token(text)
        made.refresh_from_db()
        assert made.last_used is not None
        seen.append((made.last_used - now).seconds)
    assert seen == [0, 0, 0, 61]


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("name", {"name": " "}),
        ("scopes", {"scopes": []}),
        ("scopes", {"scopes": ["judgments:all"]}),
        ("days", {"days": 0}),
        ("days", {"days": 9999}),
    ],
)
def test_a_token_is_checked(of: Programme, field: str, given: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError) as caught:
        tokens.create_token(of, **{"name": "x", "scopes": ["status:read"]} | given, author=account())
    assert caught.value.where == field


def test_windows_are_counted_apart_and_old_ones_go(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    now = clock.now().replace(minute=10, second=0, microsecond=0)
    monkeypatch.setattr(clock, "now", lambda: now)
    assert [limits.wait("a", 2, 60) for _ in range(4)] == [0, 0, 60, 60]
    assert limits.wait("b", 2, 60) == 0
    assert limits.wait("a", 2, 3600) == 0
    later = now + timedelta(seconds=61)
    monkeypatch.setattr(clock, "now", lambda: later)
    assert [limits.wait("a", 2, 60) for _ in range(3)] == [0, 0, 59]
    assert RateWindow.objects.count() == 3
    assert "a" not in RateWindow.objects.values_list("key", flat=True)
