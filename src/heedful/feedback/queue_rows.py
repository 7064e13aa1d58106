"""What the next item is found by, read from the tables.

These statements run for every item that anybody is given, so they are written out: Django would spend more time on
composing them than the database on answering. Both databases read them alike.
"""

from __future__ import annotations

import json
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from django.db import connection

from heedful.feedback import clock, statements
from heedful.feedback.models import HELD, Rater
from heedful.feedback.models.identity import new_id

Queue: TypeAlias = tuple[str, int]
"""Route and lane."""
Stand: TypeAlias = tuple[int, int]
"""Priority and position of a place in a queue."""
BEFORE_ALL: Stand = (32_767, -1)
"""Where a cursor stands that has passed nothing."""
TOGETHER = 100
"""Queues in one statement; SQLite takes no more than 500 looks in one."""

FIELDS = (
    "priority",
    "position",
    "pk",
    "item_id",
    "purpose",
    "pass_number",
    "guideline_id",
    "item__kind",
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
SELECT route, -1, 0, 0 FROM found WHERE route IS NOT NULL
UNION ALL
SELECT route, lane, priority, position FROM feedback_queuecursor WHERE rater_id = %s AND batch_id = %s
"""
"""One look into the index for each route that has a free slot; then a rater's cursors."""
PASS = """
INSERT INTO feedback_queuecursor (id, created, rater_id, batch_id, route, lane, priority, position) VALUES {rows}
ON CONFLICT (rater_id, batch_id, route, lane) DO UPDATE SET priority = excluded.priority, position = excluded.position
"""
QUEUE = """
SELECT * FROM (
SELECT s.priority, s.position, s.id, s.item_id, s.purpose, s.pass_number, s.guideline_id,
       i.kind, i.purpose AS p1, i.state, i.version, i.named_raters, p.categories, s.route, s.lane
FROM feedback_slot s JOIN feedback_item i ON i.id = s.item_id JOIN feedback_prompt p ON p.id = i.prompt_id
WHERE s.batch_id = %s AND s.route = %s AND s.lane = %s AND s.state = 'free' AND s.reserved_for_id IS NULL {which}
ORDER BY s.priority DESC, s.position LIMIT %s) q{number}
"""
SAME = "AND s.priority = %s AND s.position > %s"
BELOW = "AND s.priority < %s"
OTHERS = """
AND NOT EXISTS (SELECT 1 FROM feedback_assignment a WHERE a.item_id = s.item_id AND {also}a.rater_id = %s
  AND a.purpose = s.purpose AND a.pass_number = s.pass_number AND a.state IN ({held}))
AND NOT EXISTS (SELECT 1 FROM feedback_currentjudgment c WHERE c.item_id = s.item_id AND {also}c.rater_id = %s
  AND c.purpose = s.purpose AND c.pass_number = s.pass_number AND c.guideline_id = s.guideline_id
  AND c.judge_template = '' AND c.judge_order = '')
AND NOT EXISTS (SELECT 1 FROM feedback_itemcompletion e JOIN feedback_completion t ON t.id = e.completion_id
  WHERE e.item_id = s.item_id AND {also}t.author_id = %s)
AND NOT EXISTS (SELECT 1 FROM feedback_adjudication d WHERE d.item_id = s.item_id AND {also}d.adjudicator_id = %s)
AND NOT EXISTS (SELECT 1 FROM feedback_openedvotes o WHERE o.item_id = s.item_id AND {also}o.account_id = %s)
"""
"""Without items that a rater had, judged, wrote a part of, adjudicated or saw the votes of. `also` keeps SQLite, which
keeps no statistics here, from going through all that the rater ever did instead of the little that was done with an
item."""
LEFT_OUT = """
AND NOT EXISTS (SELECT 1 FROM {each} WHERE k.value IN ({marks}))
"""
"""Without prompts of categories that a rater opted out of."""
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
UNION ALL
SELECT 'decided', item_id, account_id, '', 0, '', '' FROM feedback_openedvotes WHERE item_id IN ({keys})
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
    item_kind: str
    item_purpose: str
    item_state: str
    item_version: int
    named: list[str]
    categories: list[str]
    route: str
    lane: int

    @property
    def key(self) -> Stand:
        """Its place in its queue's order."""
        return (-self.priority, self.position)


@dataclass
class About:
    """What was done with some items so far: by item id."""

    indices: dict[Any, list[int]] = field(default_factory=lambda: defaultdict(list))
    authors: dict[Any, set[Any]] = field(default_factory=lambda: defaultdict(set))
    adjudicators: dict[Any, set[Any]] = field(default_factory=lambda: defaultdict(set))
    """Accounts that decided an item, or opened its votes instead."""
    held: dict[Any, set[tuple[Any, str, int]]] = field(default_factory=lambda: defaultdict(set))
    orders: dict[Any, list[list[int]]] = field(default_factory=lambda: defaultdict(list))
    judged: dict[Any, set[tuple[Any, str, int, Any]]] = field(default_factory=lambda: defaultdict(set))


def stand(rater: Rater, batch: Any) -> tuple[list[str], dict[Queue, Stand]]:
    """The routes of a batch that have a free slot for anybody, and a rater's cursors in its queues."""
    rows = statements.ask(ROUTES, [batch, batch, rater.pk, batch])
    cursors = {(route, lane): (priority, position) for route, lane, priority, position in rows if lane >= 0}
    return [route for route, lane, _, _ in rows if lane < 0], cursors


def passed(rater: Rater, batch: Any, cursors: Mapping[Queue, Stand]) -> None:
    """Keep how far a rater has looked through a batch's queues."""
    if cursors:
        values: list[Any] = []
        for (route, lane), (priority, position) in cursors.items():
            values += [new_id(), clock.now(), rater.pk, batch, route, lane, priority, position]
        marks = ", ".join(["(%s, %s, %s, %s, %s, %s, %s, %s)"] * len(cursors))
        statements.change(PASS.format(rows=marks), values)


def after(
    batch: Any, stands: Mapping[Queue, Stand], most: int, *, new_to: Rater | None = None
) -> dict[Queue, list[Place]]:
    """The next free slots of queues, each after a place in it.

    One look for the rest of the place's priority and one for those below: an index can begin each at its first row.

    Args:
        batch: id of the batch.
        stands: the queues, with their places.
        most: how many are wanted of each.
        new_to: leave out items that this rater has had to do with or opted out of, however many there are.
    """
    found: dict[Queue, list[Place]] = {queue: [] for queue in stands}
    queues = list(stands)
    for start in range(0, len(queues), TOGETHER):
        some = queues[start : start + TOGETHER]
        sql, values = _statement(batch, {queue: stands[queue] for queue in some}, most, new_to)
        for row in statements.ask(sql, values):
            place = _place(row)
            found[place.route, place.lane].append(place)
    return {queue: sorted(places, key=lambda place: place.key)[:most] for queue, places in found.items()}


def _statement(batch: Any, stands: Mapping[Queue, Stand], most: int, new_to: Rater | None) -> tuple[str, list[Any]]:
    others, who = "", []
    if new_to is not None:
        native = connection.features.has_native_uuid_field
        others = OTHERS.format(also="" if native else "+", held=", ".join(f"'{state}'" for state in HELD))
        who = [new_to.pk, new_to.pk, new_to.pk, new_to.account_id, new_to.account_id, *new_to.excluded_categories]
        if new_to.excluded_categories:
            each = "jsonb_array_elements_text(p.categories) AS k(value)" if native else "json_each(p.categories) k"
            others += LEFT_OUT.format(each=each, marks=", ".join(["%s"] * len(new_to.excluded_categories)))
    looks: list[str] = []
    values: list[Any] = []
    for (route, lane), place in stands.items():
        conditions = [(SAME, list(place)), (BELOW, [place[0]])] if place != BEFORE_ALL else [("", [])]
        for which, where in conditions:
            looks.append(QUEUE.format(which=which + others, number=len(looks)))
            values += [batch, route, lane, *where, *who, most]
    return "UNION ALL".join(looks), values


def end(batch: Any, route: str, lane: int) -> Stand | None:
    """Priority and position of a queue's last slot."""
    rows = statements.ask(END, [batch, route, lane])
    return (rows[0][0], rows[0][1]) if rows else None


def _place(row: Sequence[Any]) -> Place:
    found = Place(*row)
    return found._replace(
        pk=_uuid(found.pk),
        item=_uuid(found.item),
        guideline=_uuid(found.guideline),
        named=_json(found.named),
        categories=_json(found.categories),
    )


def about(items: Iterable[Any]) -> About:
    """What bears on who may be given items; read by item, so that it does not grow with a rater's past."""
    found = About()
    keys = list(dict.fromkeys(items))
    if not keys:
        return found
    sql = ABOUT.format(keys=", ".join(["%s"] * len(keys)))
    for what, item_key, who_key, purpose, number, more, order in statements.ask(sql, keys * ABOUT.count("{keys}")):
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


def _uuid(value: Any) -> uuid.UUID:
    return value if isinstance(value, uuid.UUID) else uuid.UUID(value)


def _json(value: Any) -> Any:
    return json.loads(value) if isinstance(value, str | bytes) else value
