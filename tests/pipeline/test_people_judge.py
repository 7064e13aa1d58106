"""People as the judge of fresh checks, at a store of their own: blind, waited for, asked once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from feedback_factories import programme
from heedful.core.sequential import SequentialTest
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.feedback.client import FeedbackClient, connect
from heedful.feedback.models import Batch, Item, Programme
from heedful.feedback.wire import BatchSpec, Judge, NewCompletion, NewItem, NewJudgment
from heedful.monitoring.checks import Reply, contest
from heedful.pipeline.people_judge import PeopleJudge

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
    assert "0 of 40 judgments" in said[0]
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
    assert sum(waited) == 30.0
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
