"""People as the judge of fresh checks, at a store of their own: blind, waited for, asked once."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from feedback_factories import programme, rater
from heedful.core.sequential import SequentialTest
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.feedback import assignment, content
from heedful.feedback.client import FeedbackClient, connect
from heedful.feedback.models import Batch, Item, Programme
from heedful.feedback.wire import BatchSpec, Judge, NewCompletion, NewItem, NewJudgment
from heedful.monitoring.checks import NotYetJudged, Panel, Reply, contest
from heedful.pipeline.people_judge import LeftOpen, PeopleJudge

pytestmark = pytest.mark.on_sqlite
PROMPTS = [(Message("user", f"question {i}"),) for i in range(24)]


@pytest.fixture
def of(transactional_db: None) -> Programme:
    return programme()


@pytest.fixture
def client(of: Programme) -> FeedbackClient:
    return connect(database=f"sqlite:///{connection.settings_dict['NAME']}")


def replies(kind: str, same: int = 0) -> list[Reply]:
    return [Reply(f"{'equal' if i < same else kind} answer {i}", True, float(kind == "long")) for i in range(24)]


def crowd(client: FeedbackClient, of: Programme, likes: str, names: tuple[str, ...]) -> Callable[[float], None]:
    """Raters who judge all that is open whenever somebody waits: they prefer what holds a word."""

    def judge(seconds: float) -> None:
        for batch in client.status(of.slug).batches:
            for item in client.items(of.slug, batch.id):
                liked = next((a.index for a in item.completions if likes in a.text), None)
                strength = 0 if liked is None else (2 if liked == 1 else -2)
                for name in names:
                    said = NewJudgment(item.id, {"strength": strength}, key=f"{name}-{item.id}")
                    client.record(of.slug, Judge(name, "simulated"), [said])

    return judge


def judge_of(client: FeedbackClient, of: Programme, sleep: Callable[[float], None], **more: Any) -> PeopleJudge:
    given: dict[str, Any] = {"votes": 2, "patience": 30.0, "say": more.pop("said", []).append, "sleep": sleep}
    return PeopleJudge(client, of.slug, **{**given, **more})


def test_people_decide_whose_answer_is_whose_is_hidden_and_equal_texts_are_ties(
    client: FeedbackClient, of: Programme
) -> None:
    said: list[str] = []
    judge = judge_of(client, of, crowd(client, of, "long", ("ann", "bob")), said=said)
    votes = judge(PROMPTS, replies("long", same=4), replies("short", same=4))
    assert [[vote.won for vote in one] for one in votes] == [[0.5]] * 4 + [[1.0, 1.0]] * 20
    assert len({vote.rater for one in votes[4:] for vote in one}) == 2
    assert Item.objects.count() == 20
    assert {item.purpose for item in Item.objects.all()} == {"check"}
    firsts = [item.entries.get(index=0).completion.text.split()[0] for item in Item.objects.all()]
    assert 3 < firsts.count("long") < 17  # neither side always stands first in the store
    assert said[0].endswith("0 of its raters gave no training judgments, and 3 are needed")
    assert "0 of 40 judgments" in said[1]
    with pytest.raises(HeedfulError, match="nothing to export"):  # none of it trains anything
        list(client.preferences(of.slug))


def test_nobody_is_asked_twice_and_the_contest_stops_once_it_is_clear(client: FeedbackClient, of: Programme) -> None:
    judge = judge_of(client, of, crowd(client, of, "short", ("ann", "bob")))
    test = SequentialTest()
    asked = [contest(judge, PROMPTS, replies("long"), replies("short"), test, block=8, seed=1) for _ in range(2)]
    assert asked[0] == asked[1]
    assert Item.objects.count() == asked[0].pairs
    assert asked[0].rate.mean == 0.0
    assert asked[0].judgments == 2 * asked[0].pairs
    assert Batch.objects.count() == asked[0].pairs // 8


def test_patience_ends_and_a_later_call_goes_on(client: FeedbackClient, of: Programme) -> None:
    waited: list[float] = []
    with pytest.raises(HeedfulError, match="0 of 48 judgments are in"):
        judge_of(client, of, waited.append)(PROMPTS, replies("long"), replies("short"))
    assert sum(waited) == pytest.approx(30.0)
    assert waited[0] == 1.0  # whoever has just judged goes on
    assert max(waited) < 4.0
    votes = judge_of(client, of, crowd(client, of, "long", ("ann", "bob")))(PROMPTS, replies("long"), replies("short"))
    assert [[vote.won for vote in one] for one in votes] == [[1.0, 1.0]] * 24
    assert Batch.objects.count() == 1


def test_raters_who_also_gave_training_labels_are_told_of(client: FeedbackClient, of: Programme) -> None:
    pair = NewItem([{"role": "user", "content": "x"}], [NewCompletion("long a"), NewCompletion("b")], "pairwise")
    batch = client.push_items(of.slug, BatchSpec("training"), [pair])
    client.open_batch(of.slug, batch.id)
    crowd(client, of, "long", ("ann",))(0)
    said: list[str] = []
    judge = judge_of(client, of, crowd(client, of, "long", ("ann", "bob")), said=said)
    judge(PROMPTS, replies("long"), replies("short"))
    assert said[-1] == "watch: 1 of 2 raters of this check also gave training judgments"


def test_who_does_not_wait_is_told_later_and_a_file_says_what_is_asked(
    client: FeedbackClient, of: Programme, tmp_path: Path
) -> None:
    asking = tmp_path / "asking.json"
    judge = judge_of(client, of, lambda seconds: None, votes=1, asking=asking)
    for _ in range(2):
        with pytest.raises(NotYetJudged):
            judge.glance(PROMPTS, replies("long"), replies("short"))
    batch = Batch.objects.get()
    told = {"programme": of.slug, "batch": str(batch.pk), "name": batch.name, "pairs": 24, "places": 24, "filled": 0}
    assert json.loads(asking.read_text()) == told
    crowd(client, of, "long", ("ann",))(0)
    votes = judge.glance(PROMPTS, replies("long"), replies("short"))
    assert [[vote.won for vote in one] for one in votes] == [[1.0]] * 24
    assert judge.take_panel() == Panel(raters=1, trained=0, fresh_only=False)
    assert not asking.exists()
    assert judge.leave() is None


def test_what_is_open_is_left_with_whoever_is_at_work_on_it(client: FeedbackClient, of: Programme) -> None:
    judge = judge_of(client, of, lambda seconds: None, votes=1)
    with pytest.raises(NotYetJudged):
        judge.glance(PROMPTS, replies("long"), replies("short"))
    batch = Batch.objects.get()
    held = assignment.next_assignment(rater(of), batch=batch)
    assert held is not None
    assert judge.leave() == LeftOpen(batch.name, places=24, filled=0, held=1)
    batch.refresh_from_db()
    assert batch.state == "paused"
    held.refresh_from_db()
    assert held.state == "leased"
    assert assignment.next_assignment(rater(of), batch=batch) is None


def test_an_item_that_a_manager_withdraws_is_not_waited_for(client: FeedbackClient, of: Programme) -> None:
    def withdraws(seconds: float) -> None:
        content.withdraw_item(Item.objects.order_by("position")[1])
        crowd(client, of, "long", ("ann", "bob"))(0)

    judge = judge_of(client, of, withdraws)
    votes = judge(PROMPTS[:4], replies("long")[:4], replies("short")[:4])
    assert [[vote.won for vote in one] for one in votes] == [[1.0] * 2, [], [1.0] * 2, [1.0] * 2]


def test_fresh_raters_are_told_of(client: FeedbackClient, of: Programme) -> None:
    for _ in range(3):
        rater(of)
    said: list[str] = []
    judge = judge_of(client, of, crowd(client, of, "long", ("ann", "bob")), said=said)
    judge(PROMPTS, replies("long"), replies("short"))
    assert said[0] == "watch: this check goes to the 3 raters alone who gave no training judgments"
    assert judge.take_panel() == Panel(raters=2, trained=0, fresh_only=True)
