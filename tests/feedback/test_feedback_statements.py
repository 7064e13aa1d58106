"""Statements that are written out give and keep the rows that Django would."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import IntegrityError, transaction

from feedback_factories import batch, item, open_batch, programme, rater
from heedful.feedback import clock, queue_rows, statements
from heedful.feedback.models import (
    Account,
    Assignment,
    Batch,
    Guideline,
    Item,
    Membership,
    Programme,
    Prompt,
    QueueCursor,
    Rater,
    Slot,
)
from heedful.feedback.models.identity import new_id

pytestmark = pytest.mark.django_db


def values(row: Any) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


@pytest.mark.parametrize("model", [Account, Assignment, Batch, Guideline, Item, Membership, Programme, Prompt, Rater])
def test_a_row_is_the_same_however_it_was_read(model: Any) -> None:
    of = programme(max_share=0.5)
    who = rater(of, languages=["vi", "en"], excluded_categories=["a"], paused=clock.now())
    one = item(batch(of, deadline=clock.now()), named_raters=[str(who.pk)])
    at = clock.now()
    Assignment.objects.create(
        slot=one.slots.get(), item=one, rater=who, purpose="train", item_version=1, order=[1, 0], lease_until=at,
        shown=at, prefetched=True,
    )  # fmt: skip
    found = statements.rows(f"SELECT {{t}} FROM {model._meta.db_table} t", t=model)
    there = {row.pk: values(row) for row in model.objects.all()}
    assert {row.pk: values(row) for (row,) in found} == there
    assert all(type(row) is model and not row._state.adding for (row,) in found)


def test_rows_of_several_tables_stand_beside_each_other_and_what_is_not_there_is_none() -> None:
    of = programme()
    first, second = item(batch(of)), item(batch(of))
    Slot.objects.filter(item=second).delete()
    sql = "SELECT {i}, {s}, i.version + 1 FROM feedback_item i LEFT JOIN feedback_slot s ON s.item_id = i.id"
    found = statements.rows(f"{sql} WHERE i.programme_id = %s ORDER BY i.position", [of.pk], i=Item, s=Slot)
    assert found == [(first, first.slots.get(), 2), (second, None, 2)]


def test_a_written_row_is_the_one_that_save_would_write() -> None:
    of = programme()
    one = item(batch(of, quota=2))
    who, at, made = rater(of), clock.now(), []
    for number, slot in enumerate(one.slots.all()):
        row = Assignment(
            slot=slot, item=one, rater=who, purpose="train", item_version=2, order=[1, 0], state="released",
            lease_until=at, shown=None, active_ms=7,
        )  # fmt: skip
        if number:
            row.save(force_insert=True)
        else:
            assert statements.insert(row) is None
        made.append(values(Assignment.objects.get(pk=row.pk)))
        assert not row._state.adding
    own = ("id", "slot_id", "created")
    first, second = ({name: value for name, value in one.items() if name not in own} for one in made)
    assert first == second
    assert abs((made[0]["created"] - made[1]["created"]).total_seconds()) < 60


def test_the_database_refuses_what_it_refuses() -> None:
    work = open_batch(programme(), 1)
    twin = Batch(programme=work.programme, guideline=work.guideline, name="b", quota=2, quota_cap=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        statements.insert(twin)


def test_changes_are_counted_and_a_cursor_is_kept_once() -> None:
    of = programme()
    work, who = open_batch(of, 3), rater(of)
    sql = "UPDATE feedback_slot SET state = 'closed', holder = %s, lease_until = %s WHERE id <> %s AND batch_id = %s"
    key, at = new_id(), clock.now()
    assert statements.change(sql, [key, at, Slot.objects.filter(batch=work)[0].pk, work.pk]) == 2
    closed = Slot.objects.filter(batch=work, state="closed")
    assert [(slot.holder, slot.lease_until) for slot in closed] == [(key, at)] * 2
    queue_rows.passed(who, work.pk, {("", 0): (3, 4), ("en|", 1): (0, 2**40)})
    queue_rows.passed(who, work.pk, {("", 0): (-5, 6)})
    kept = QueueCursor.objects.order_by("lane").values_list("rater", "batch", "route", "lane", "priority", "position")
    assert list(kept) == [(who.pk, work.pk, "", 0, -5, 6), (who.pk, work.pk, "en|", 1, 0, 2**40)]
    assert queue_rows.stand(who, work.pk) == ([""], {("", 0): (-5, 6), ("en|", 1): (0, 2**40)})
