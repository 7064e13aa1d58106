"""A programme's judgments as columns, from its database or through a studio's API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from heedful.core.rater_cards import Gold
from heedful.data.records import Message, prompt_key
from heedful.feedback import verdicts
from heedful.feedback.judgment_table import ItemInfo, JudgmentTable, RaterInfo

if TYPE_CHECKING:
    from heedful.feedback.client import FeedbackClient
    from heedful.feedback.models import Programme

ORDINARY = ("train", "check")
CHUNK = 5_000
"""Ids that a database is asked for at once."""


@dataclass
class _Columns:
    """Rows as they come in, the newest of each rater, item and pass kept."""

    raters: dict[Any, int] = field(default_factory=dict)
    items: dict[Any, int] = field(default_factory=dict)
    at: dict[tuple[int, int, bool], int] = field(default_factory=dict)
    rows: list[tuple[int, int, bool, Mapping[str, Any], float, float, int, Any]] = field(default_factory=list)

    def add(
        self,
        item: Any,
        rater: Any,
        again: bool,
        payload: Mapping[str, Any],
        when: datetime,
        ms: int,
        order: Any,
        guideline: Any,
    ) -> None:
        """One judgment; what comes later replaces what the rater said before of the item in the same pass."""
        item_code = self.items.setdefault(item, len(self.items))
        rater_code = self.raters.setdefault(rater, len(self.raters))
        seconds = ms / 1000 if ms else float("nan")
        row = (item_code, rater_code, again, payload, when.timestamp(), seconds, order[0] if order else -1, guideline)
        key = (item_code, rater_code, again)
        known = self.at.get(key)
        if known is None:
            self.at[key] = len(self.rows)
            self.rows.append(row)
        elif self.rows[known][4] <= row[4]:
            self.rows[known] = row

    def table(
        self, programme: str, raters: Iterable[RaterInfo], items: Iterable[ItemInfo], **more: Any
    ) -> JudgmentTable:
        """The columns, with what is known of raters and items in the order of their codes."""
        rubric = {row[:2]: row[7] for row in self.rows if not row[2]}
        kept = [row[:7] for row in self.rows if not row[2] or rubric.get(row[:2]) == row[7]]
        item, rater, again, payload, when, seconds, first = zip(*kept, strict=True) if kept else ((),) * 7
        return JudgmentTable(
            programme,
            tuple(raters),
            tuple(items),
            np.array(item, dtype=np.int64),
            np.array(rater, dtype=np.int64),
            payload,
            np.array(again, dtype=bool),
            np.array(when, dtype=np.float64),
            np.array(seconds, dtype=np.float64),
            np.array(first, dtype=np.int64),
            **more,
        )


def read(programme: Programme, *, names: bool = False, newest: int | None = None) -> JudgmentTable:
    """From the database: everything, gold and groups included.

    Args:
        programme: whose judgments.
        names: raters by their account's name; else people and end users are pseudonyms, the same as the API's.
        newest: so many first judgments at most, those that were given last; by default all.
    """
    from heedful.feedback import agreement
    from heedful.feedback.models import CurrentJudgment, GoldOutcome, GroupAnswer, Purpose
    from heedful.feedback.rules import rules_of

    columns = _Columns()
    fields = (
        "item_id",
        "rater_id",
        "judgment__payload",
        "created",
        "judgment__active_ms",
        "judgment__order",
        "guideline_id",
    )
    first = agreement.votes(programme).filter(item__kind__in=verdicts.COMPARABLE)
    second = CurrentJudgment.objects.filter(
        item__programme=programme, pass_number=2, purpose=Purpose.CHECK, item__kind__in=verdicts.COMPARABLE
    )
    for rows, again in ((first, False), (second, True)):
        told = rows.values_list(*fields)
        given = list(told.order_by("-pk")[:newest])[::-1] if newest else told.order_by("pk").iterator()
        for item, rater, *rest in given:
            columns.add(item, rater, again, *rest)
    counted = GoldOutcome.objects.filter(rater__programme=programme).exclude(upheld=True)
    outcomes = list(counted.order_by("pk").values_list("rater_id", "passed", "created"))
    for rater, _, _ in outcomes:
        columns.raters.setdefault(rater, len(columns.raters))
    gold = None
    if outcomes:
        codes = np.array([columns.raters[rater] for rater, _, _ in outcomes])
        passed = np.array([int(right) for _, right, _ in outcomes])
        gold = Gold(codes, passed, np.array([when.timestamp() for _, _, when in outcomes]))
    groups: dict[str, dict[int, str]] = {}
    answers = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None).exclude(answer="")
    for question, rater, answer in answers.order_by("question", "pk").values_list("question", "rater_id", "answer"):
        if rater in columns.raters:
            groups.setdefault(question, {})[columns.raters[rater]] = answer
    return columns.table(
        programme.slug,
        _raters(programme, columns.raters, names=names),
        _items(programme, columns.items, few=newest is not None),
        gold=gold,
        groups=groups,
        gold_floor=rules_of(programme.settings).gold_floor,
        points=_points(programme),
    )


def told_groups(programme: Programme, question: str) -> dict[str, str]:
    """What raters say of themselves in answer to a question, by the pseudonym that judgments read here carry.

    Whoever shows figures of a group keeps those of fewer than five raters to themselves.

    Raises:
        HeedfulError: nobody answered such a question.
    """
    from heedful.errors import HeedfulError, nearest
    from heedful.feedback.models import GroupAnswer
    from heedful.feedback.pulls import pseudonyms

    masks = pseudonyms(str(programme.pk))
    answers = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None).exclude(answer="")
    found = dict(answers.filter(question=question).values_list("rater_id", "answer"))
    if not found:
        known = sorted(set(answers.values_list("question", flat=True)))
        raise HeedfulError(
            f"no rater has answered {question!r}.",
            where=programme.slug,
            mend=nearest(question, known) or f"Answered: {', '.join(known) or 'nothing'}.",
        )
    return {str(masks.of(rater)): answer for rater, answer in found.items()}


def _points(programme: Programme) -> dict[str, int]:
    """The highest point of each attribute, in any version of the rubric."""
    most: dict[str, int] = {}
    for attributes in programme.guidelines.values_list("attributes", flat=True):
        for one in attributes:
            name = str(one["name"])
            most[name] = max(most.get(name, 0), int(one.get("points", 5)))
    return most


def _raters(programme: Programme, codes: Mapping[Any, int], *, names: bool) -> list[RaterInfo]:
    from heedful.feedback.models import Rater, RaterKind
    from heedful.feedback.pulls import pseudonyms

    masks = pseudonyms(str(programme.pk))
    found = Rater.objects.filter(programme=programme).select_related("account").in_bulk(field_name="pk")
    made = []
    for key in codes:
        rater = found[key]
        agent = rater.kind in (RaterKind.AI, RaterKind.SIMULATED)
        own = rater.account.username if rater.account else rater.name
        shown = own if (names or agent) and own and not rater.erased else f"rater {str(masks.of(key))[:8]}"
        made.append(RaterInfo(shown, str(rater.kind), str(key)))
    return made


def _items(programme: Programme, codes: Mapping[Any, int], *, few: bool) -> list[ItemInfo]:
    """What is known of the items, in the order of their codes; asked for by id where they are `few`."""
    from django.db.models.functions import Length

    from heedful.feedback.models import Item, ItemCompletion

    parts: dict[Any, tuple[list[int], list[str]]] = {}
    found: dict[Any, tuple[str, str, str]] = {}
    keys = list(codes)
    chunks: Iterable[list[Any] | None] = [keys[i : i + CHUNK] for i in range(0, len(keys), CHUNK)] if few else [None]
    for chunk in chunks:
        entries = ItemCompletion.objects.filter(item__programme=programme, item__kind__in=verdicts.COMPARABLE)
        rows = Item.objects.filter(programme=programme, kind__in=verdicts.COMPARABLE)
        if chunk is not None:
            entries, rows = entries.filter(item__in=chunk), rows.filter(pk__in=chunk)
        sized = entries.annotate(size=Length("completion__text")).order_by("item", "index")
        for item, size, policy in sized.values_list("item_id", "size", "completion__policy").iterator():
            if item in codes:
                lengths, policies = parts.setdefault(item, ([], []))
                lengths.append(size)
                policies.append(policy)
        for key, *rest in rows.values_list("pk", "kind", "prompt__key", "batch__name").iterator():
            if key in codes:
                found[key] = (rest[0], rest[1], rest[2])
    return [ItemInfo(str(key), *found[key], tuple(parts[key][0]), tuple(parts[key][1])) for key in codes]


def pull(client: FeedbackClient, programme: str) -> JudgmentTable:
    """Through a client: judgments of ordinary items. Gold answers and groups are not told to programs.

    Raises:
        HeedfulError: as the client does.
    """
    columns = _Columns()
    kinds: dict[str, str] = {}
    infos: dict[str, ItemInfo] = {}
    for batch in client.status(programme).batches:
        if batch.purpose in ORDINARY:
            for item in client.items(programme, batch.id):
                if item.kind in verdicts.COMPARABLE and item.purpose in ORDINARY:
                    messages: Any = ((one["role"], one["content"]) for one in item.messages)
                    key = prompt_key(tuple(Message(*one) for one in messages))
                    lengths = tuple(len(one.text) for one in item.completions)
                    policies = tuple(one.policy for one in item.completions)
                    infos[item.id] = ItemInfo(item.id, item.kind, key, batch.name, lengths, policies)
    for purpose in ORDINARY:
        for row in client.judgments(programme, purpose=purpose, surplus=True):
            again = row.pass_number > 1
            if row.item in infos and (not again or purpose == "check"):
                kinds[row.rater] = row.rater_kind
                said = (row.payload, row.created, row.active_ms, row.order, row.guideline)
                columns.add(row.item, row.rater, again, *said)
    raters = [RaterInfo(f"rater {key[:8]}", kinds[key]) for key in columns.raters]
    return columns.table(programme, raters, [infos[key] for key in columns.items])
