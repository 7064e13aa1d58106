"""The records themselves."""

from __future__ import annotations

import pytest
from django.db import connection

from feedback_factories import item, open_batch, programme
from heedful.feedback.models.identity import new_id


@pytest.mark.django_db
def test_an_item_has_its_completions_in_order_and_its_slots() -> None:
    of = programme()
    made = item(open_batch(of, 0, quota=3), completions=4)
    assert [entry.index for entry in made.entries.all()] == [0, 1, 2, 3]
    assert made.slots.filter(state="free").count() == 3
    assert connection.vendor in ("sqlite", "postgresql")


def test_ids_are_version_7_and_rise_with_time() -> None:
    made = [new_id() for _ in range(100)]
    assert len(set(made)) == 100
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in made)
    milliseconds = [one.int >> 80 for one in made]
    assert milliseconds == sorted(milliseconds)
