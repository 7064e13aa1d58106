"""One ledger for several workers: a question is sent by one of them, and what a lost worker took on is free again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from heedful.feedback.ai.asks import Ask, Reply, Usage
from heedful.feedback.ai.budget import Budget
from heedful.feedback.ai.ledger import Charge
from heedful.pipeline import ray_ledger
from heedful.pipeline.ray_ledger import LedgerKeeper

RESERVED, ACTUAL = Charge(1, 100, 10, 0.5), Charge(1, 20, 5, 0.1)


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[LedgerKeeper]:
    made = LedgerKeeper(str(tmp_path / "ledger.sqlite"), Budget(requests=10))
    yield made
    made.ledger.close()


def reply() -> Reply:
    return Reply("A", "stop", (), Usage(20, 5), "judge", 0.1)


def pay(keeper: LedgerKeeper, who: str, key: str) -> None:
    number = keeper.sent(who, key, RESERVED)
    keeper.paid(who, number, key, "judge", Ask((), 16), reply(), ACTUAL)


def test_a_question_is_one_workers_until_it_is_answered(keeper: LedgerKeeper) -> None:
    assert keeper.find("one", "q") is True
    assert keeper.find("two", "q") is False
    assert keeper.find("one", "q") is True
    pay(keeper, "one", "q")
    found = keeper.find("two", "q")
    assert isinstance(found, Reply)
    assert found.text == "A"
    assert keeper.ledger.spent().requests == 1


def test_a_worker_that_is_through_gives_back_what_was_not_answered(keeper: LedgerKeeper) -> None:
    assert keeper.find("one", "q") is True
    keeper.release("one")
    assert keeper.find("two", "q") is True


def test_a_worker_that_falls_silent_has_lost_its_requests_and_they_count(
    keeper: LedgerKeeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(ray_ledger.time, "monotonic", lambda: now[0])
    assert keeper.find("one", "q") is True
    assert keeper.purse.reserve(RESERVED) == ""
    keeper.sent("one", "q", RESERVED)
    now[0] = ray_ledger.SILENCE - 1
    assert keeper.find("two", "q") is False
    now[0] = ray_ledger.SILENCE + 1
    assert keeper.find("two", "q") is True
    assert keeper.ledger.outcomes() == {"lost": 1}
    assert keeper.purse.spent == RESERVED


def test_the_budget_is_of_all_workers_together(keeper: LedgerKeeper) -> None:
    for _ in range(10):
        assert keeper.call("purse", "reserve", Charge(1)) == ""
    assert keeper.call("purse", "reserve", Charge(1)) == "requests"
