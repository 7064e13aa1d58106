"""The benchmark's rows, written in bulk, are those that the store's services would have left."""

from __future__ import annotations

from collections import Counter

import pytest
import studio_rows
from django.db import connection

from heedful.feedback import assignment, events, submission
from heedful.feedback.models import Assignment, AuditEvent, CurrentJudgment, Item, ItemCompletion, Judgment, Slot
from heedful.feedback.replay import difference, replay

pytestmark = pytest.mark.django_db
N = 400


def test_the_events_say_what_the_tables_say_and_every_key_leads_somewhere() -> None:
    made = [studio_rows.build(N), studio_rows.build(40)]
    connection.check_constraints()
    for of in made:
        assert difference(replay(of.programme)) == []


def test_counts_and_states_are_those_that_were_asked_for() -> None:
    of = studio_rows.build(N)
    assert Judgment.objects.count() == CurrentJudgment.objects.count() == N
    assert Counter(Item.objects.values_list("state", flat=True)) == {"done": 190, "open": 20 + studio_rows.FRESH}
    assert Counter(Slot.objects.values_list("state", flat=True)) == {"done": N, "free": 20 + 2 * studio_rows.FRESH}
    assert ItemCompletion.objects.count() == 2 * Item.objects.count()
    assert Judgment.objects.filter(rater=of.rater).count() == 20
    pairs = Counter(CurrentJudgment.objects.values_list("item", "rater"))
    assert set(pairs.values()) == {1}
    kinds = Counter(AuditEvent.objects.filter(programme=of.programme.pk).values_list("kind", flat=True))
    assert kinds["assignment.leased"] == kinds["assignment.shown"] == kinds["judgment.submitted"] == N
    assert kinds["item.done"] == 190
    assert kinds["slots.made"] == kinds["items.added"] == kinds["batch.opened"] == 1


def test_a_row_is_like_one_that_the_services_wrote() -> None:
    of = studio_rows.build(40)
    held = assignment.next_assignment(of.rater, show=True)
    assert held is not None
    assert held.item.position == 2 + 19, "past what the rater did, and what is done"
    said = submission.submit(held, {"strength": 1}, key=str(held.pk), item_version=1, active_ms=900)
    built = Judgment.objects.exclude(pk=said.pk).get(item__position=0)
    for name in (
        "kind",
        "purpose",
        "pass_number",
        "guideline_id",
        "batch_id",
        "programme_id",
        "item_version",
        "surplus",
    ):
        assert getattr(built, name) == getattr(said, name), name
    assert {type(value) for value in built.payload.values()} == {type(value) for value in said.payload.values()}
    assert built.payload.keys() == said.payload.keys()
    own, theirs = (Assignment.objects.get(pk=one.assignment_id) for one in (built, said))
    assert (own.state, own.prefetched, sorted(own.order)) == (theirs.state, theirs.prefetched, [0, 1])
    assert own.shown <= own.ended <= own.lease_until
    assert own.slot.holder == own.pk
    assert built.idempotency_key == str(own.pk)
    told = [
        [
            (event.kind, sorted(event.ids), event.actor, event.digest and len(event.digest))
            for event in AuditEvent.objects.filter(actor=of.rater.pk).order_by("seq")
            if str(one.assignment_id) == event.ids["assignment"]
        ]
        for one in (built, said)
    ]
    assert told[0] == told[1]
    assert built.pk.version == 7
    digests = AuditEvent.objects.filter(kind="judgment.submitted").values_list("digest", flat=True)
    assert events.digest_of(built.payload) in set(digests)
    assert difference(replay(of.programme)) == []
