"""What the next item is found by, read from the tables.

These statements run for every item that anybody is given, so they are written out: Django would spend more time on
composing them than the database on answering. Both databases read them alike.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db import connection

from heedful.feedback.models import HELD, Rater

FIELDS = (
    "priority",
    "position",
    "pk",
    "item_id",
    "purpose",
    "pass_number",
    "guideline_id",
    "item__purpose",
    "item__state",
    "item__version",
    "item__named_raters",
    "item__prompt__categories",
    "route",
    "lane",
)
"""Of a slot, as Django names them: those of `Place`."""
ROUTES = """
WITH RECURSIVE found(route) AS (
  SELECT min(route) FROM feedback_slot WHERE batch_id = %s AND state = 'free' AND reserved_for_id IS NULL
  UNION ALL
  SELECT (SELECT min(route) FROM feedback_slot
          WHERE batch_id = %s AND state = 'free' AND reserved_for_id IS NULL AND route > found.route)
  FROM found WHERE found.route IS NOT NULL
)
SELECT route FROM found WHERE route IS NOT NULL
"""
"""One look into the index for each route that has a free slot."""
QUEUE = """
SELECT s.priority, s.position, s.id, s.item_id, s.purpose, s.pass_number, s.guideline_id,
       i.purpose, i.state, i.version, i.named_raters, p.categories, s.route, s.lane
FROM feedback_slot s JOIN feedback_item i ON i.id = s.item_id JOIN feedback_prompt p ON p.id = i.prompt_id
WHERE s.batch_id = %s AND s.route = %s AND s.lane = %s AND s.state = 'free' AND s.reserved_for_id IS NULL AND {which}
ORDER BY s.priority DESC, s.position LIMIT %s
"""
SAME = "s.priority = %s AND s.position > %s"
BELOW = "s.priority < %s"
OTHERS = """
AND NOT EXISTS (SELECT 1 FROM feedback_assignment a WHERE a.item_id = s.item_id AND {also}a.rater_id = %s
  AND a.purpose = s.purpose AND a.pass_number = s.pass_number AND a.state IN ({held}))
AND NOT EXISTS (SELECT 1 FROM feedback_currentjudgment c WHERE c.item_id = s.item_id AND {also}c.rater_id = %s
  AND c.purpose = s.purpose AND c.pass_number = s.pass_number AND c.guideline_id = s.guideline_id
  AND c.judge_template = '' AND c.judge_order = '')
AND NOT EXISTS (SELECT 1 FROM feedback_itemcompletion e JOIN feedback_completion t ON t.id = e.completion_id
  WHERE e.item_id = s.item_id AND {also}t.author_id = %s)
AND NOT EXISTS (SELECT 1 FROM feedback_adjudication d WHERE d.item_id = s.item_id AND {also}d.adjudicator_id = %s)
"""
"""Without items that a rater had, judged, wrote a part of or adjudicated. `also` keeps SQLite, which keeps no
statistics here, from going through all that the rater ever did instead of the little that was done with an item."""
END = """
SELECT priority, position FROM feedback_slot
WHERE batch_id = %s AND route = %s AND lane = %s AND state = 'free' AND reserved_for_id IS NULL
ORDER BY priority, position DESC LIMIT 1
"""
ABOUT = """
SELECT 'had', item_id, rater_id, purpose, pass_number, state, CAST("order" AS text)
FROM feedback_assignment WHERE item_id IN ({keys})
UNION ALL
SELECT 'said', item_id, rater_id, purpose, pass_number, CAST(guideline_id AS text), ''
FROM feedback_currentjudgment WHERE item_id IN ({keys}) AND judge_template = '' AND judge_order = ''
UNION ALL
SELECT 'wrote', e.item_id, c.author_id, '', e."index", '', ''
FROM feedback_itemcompletion e JOIN feedback_completion c ON c.id = e.completion_id WHERE e.item_id IN ({keys})
UNION ALL
SELECT 'decided', item_id, adjudicator_id, '', 0, '', '' FROM feedback_adjudication WHERE item_id IN ({keys})
"""


class Place(NamedTuple):
    """A slot as a look through the queues sees it."""

    priority: int
    position: int
    pk: uuid.UUID
    item: uuid.UUID
    purpose: str
    pass_number: int
    guideline: uuid.UUID
    item_purpose: str
    item_state: str
    item_version: int
    named: list[str]
    categories: list[str]
    route: str
    lane: int

    @property
    def key(self) -> tuple[int, int]:
        """Its place in its queue's order."""
        return (-self.priority, self.position)


@dataclass
class About:
    """What was done with some items so far: by item id."""

    indices: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))
    authors: dict[Any, set[Any]] = field(default_factory=lambda: defaultdict(set))
    adjudicators: dict[Any, set[Any]] = field(default_factory=lambda: defaultdict(set))
    """Accounts."""
    held: dict[Any, set[tuple[Any, str, int]]] = field(default_factory=lambda: defaultdict(set))
    orders: dict[Any, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    judged: dict[Any, set[tuple[Any, str, int, Any]]] = field(default_factory=lambda: defaultdict(set))


def routes(batch: Any) -> list[str]:
    """The routes of a batch that have a free slot for anybody."""
    with connection.cursor() as cursor:
        cursor.execute(ROUTES, [_key(batch)] * 2)
        return [row[0] for row in cursor.fetchall()]


def after(
    batch: Any, route: str, lane: int, passed: tuple[int, int], most: int, *, new_to: Rater | None = None
) -> list[Place]:
    """The next free slots of a queue after a place in it.

    One look for the rest of its priority and one for those below: an index can begin each at its first row.

    Args:
        batch: id of the batch.
        route: of the queue.
        lane: of the queue.
        passed: priority and position of the place.
        most: how many are wanted.
        new_to: leave out items that this rater has had to do with, however many there are.
    """
    others, who = "", []
    if new_to is not None:
        native = connection.features.has_native_uuid_field
        others = OTHERS.format(also="" if native else "+", held=", ".join(f"'{state}'" for state in HELD))
        who = [*[_key(new_to.pk)] * 3, new_to.account_id and _key(new_to.account_id)]
    queue = [_key(batch), route, lane]
    with connection.cursor() as cursor:
        cursor.execute(QUEUE.format(which=SAME + others), [*queue, *passed, *who, most])
        found = cursor.fetchall()
        if len(found) < most:
            cursor.execute(QUEUE.format(which=BELOW + others), [*queue, passed[0], *who, most - len(found)])
            found = [*found, *cursor.fetchall()]
    return [_place(row) for row in found]


def end(batch: Any, route: str, lane: int) -> tuple[int, int] | None:
    """Priority and position of a queue's last slot."""
    with connection.cursor() as cursor:
        cursor.execute(END, [_key(batch), route, lane])
        return cursor.fetchone()


def _place(row: Sequence[Any]) -> Place:
    found = Place(*row)
    return found._replace(
        pk=_uuid(found.pk),
        item=_uuid(found.item),
        guideline=_uuid(found.guideline),
        named=_json(found.named),
        categories=_json(found.categories),
    )


def about(items: Sequence[Any]) -> About:
    """What bears on who may be given items; read by item, so that it does not grow with a rater's past."""
    found = About()
    keys = [_key(item) for item in dict.fromkeys(items)]
    if not keys:
        return found
    sql = ABOUT.format(keys=", ".join(["%s"] * len(keys)))
    with connection.cursor() as cursor:
        cursor.execute(sql, keys * 4)
        rows = cursor.fetchall()
    for what, item_key, who_key, purpose, number, more, order in rows:
        item, who = _uuid(item_key), who_key and _uuid(who_key)
        if what == "had":
            found.orders[item].append(_json(order))
            if more in HELD:
                found.held[item].add((who, purpose, number))
        elif what == "said":
            found.judged[item].add((who, purpose, number, _uuid(more)))
        elif what == "decided":
            found.adjudicators[item].add(who)
        else:
            found.indices[item].append(number)
            if who is not None:
                found.authors[item].add(who)
    for indices in found.indices.values():
        indices.sort()
    return found


def _key(value: uuid.UUID) -> Any:
    """An id as the database keeps it: SQLite as 32 letters."""
    return value if connection.features.has_native_uuid_field else value.hex


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value
