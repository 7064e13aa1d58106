"""A programme's judgments as columns, from its database or through a studio's API."""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from uuid import UUID

import numpy as np

from heedful.core.rater_cards import Gold
from heedful.data.records import Message, prompt_key
from heedful.feedback import verdicts
from heedful.feedback.judgment_table import Codes, Floats, ItemInfo, JudgmentTable, RaterInfo

if TYPE_CHECKING:
    from heedful.feedback.client import FeedbackClient
    from heedful.feedback.models import Programme

ORDINARY = ("train", "check")
CHUNK = 5_000
"""Ids that a database is asked for at once."""


@dataclass
class _Columns:
    """Rows as they come in, packed: of a million only the arrays and what differs among payloads are kept."""

    raters: dict[Any, int] = field(default_factory=dict)
    items: dict[Any, int] = field(default_factory=dict)
    rubrics: dict[Any, int] = field(default_factory=dict)
    codes: array[int] = field(default_factory=lambda: array("q"))
    """Item, rater, pass (0 or 1), place of what was shown first, rubric, of each row in turn."""
    times: array[float] = field(default_factory=lambda: array("d"))
    """When, and the active seconds."""
    payloads: list[Mapping[str, Any]] = field(default_factory=list)

    def add(
        self,
        item: Any,
        rater: Any,
        again: bool,
        payload: Mapping[str, Any],
        when: float,
        ms: int,
        first: int,
        guideline: Any,
    ) -> None:
        """One judgment."""
        self.codes.extend(
            (
                self.items.setdefault(item, len(self.items)),
                self.raters.setdefault(rater, len(self.raters)),
                again,
                first,
                self.rubrics.setdefault(guideline, len(self.rubrics)),
            )
        )
        self.times.extend((when, ms / 1000 if ms else math.nan))
        self.payloads.append(payload)

    def table(
        self, programme: str, raters: Iterable[RaterInfo], items: Iterable[ItemInfo], **more: Any
    ) -> JudgmentTable:
        """The columns, with what is known of raters and items in the order of their codes."""
        codes = np.frombuffer(self.codes, dtype=np.int64).reshape(-1, 5)
        times = np.frombuffer(self.times, dtype=np.float64).reshape(-1, 2)
        kept = self._kept(codes, times)
        item, rater, again, first, _ = codes[kept].T
        when, seconds = times[kept].T
        return JudgmentTable(
            programme,
            tuple(raters),
            tuple(items),
            item.copy(),
            rater.copy(),
            [self.payloads[row] for row in kept.tolist()],
            again.astype(bool),
            when.copy(),
            seconds.copy(),
            first.copy(),
            **more,
        )

    def _kept(self, codes: Codes, times: Floats) -> Codes:
        """The rows that count: the newest of each rater, item and pass; a second pass under the rubric of the first."""
        item, rater, again, _, rubric = codes.T
        pair = item * max(1, len(self.raters)) + rater
        order = np.lexsort((np.arange(len(pair)), times[:, 0], again, pair))
        key = 2 * pair[order] + again[order]
        newest = order[np.append(key[1:] != key[:-1], True)[: len(key)]]
        first, second = newest[again[newest] == 0], newest[again[newest] == 1]
        place = np.searchsorted(pair[first], pair[second])
        inside = np.flatnonzero(place < len(first))
        before, later = first[place[inside]], second[inside]
        alike = (pair[before] == pair[later]) & (rubric[before] == rubric[later])
        return np.sort(np.concatenate([first, later[alike]]))


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
    first = agreement.votes(programme).filter(item__kind__in=verdicts.COMPARABLE)
    second = CurrentJudgment.objects.filter(
        item__programme=programme, pass_number=2, purpose=Purpose.CHECK, item__kind__in=verdicts.COMPARABLE
    )
    _fill(columns, first, newest)
    _fill(columns, second, newest, again=True)
    counted = GoldOutcome.objects.filter(rater__programme=programme).exclude(upheld=True)
    outcomes = list(counted.order_by("pk").values_list(stored("rater_id"), "passed", "created"))
    for rater, _, _ in outcomes:
        columns.raters.setdefault(rater, len(columns.raters))
    gold = None
    if outcomes:
        codes = np.array([columns.raters[rater] for rater, _, _ in outcomes])
        passed = np.array([int(right) for _, right, _ in outcomes])
        gold = Gold(codes, passed, np.array([when.timestamp() for _, _, when in outcomes]))
    groups: dict[str, dict[int, str]] = {}
    answers = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None).exclude(answer="")
    told = answers.order_by("question", "pk").values_list("question", stored("rater_id"), "answer")
    for question, rater, answer in told:
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


def stored(name: str) -> Any:
    """A field as the database gives it: making an id, a time or a payload of each of a million costs a minute."""
    from django.db.models import ExpressionWrapper, F, TextField

    return ExpressionWrapper(F(name), output_field=TextField())


def _fill(columns: _Columns, rows: Any, newest: int | None, *, again: bool = False) -> None:
    """Read judgments; payloads and orders that are written alike are read once and shared."""
    names = ("item_id", "rater_id", "judgment__payload", "created", "judgment__order", "guideline_id")
    told = rows.values_list(*(stored(name) for name in names), "judgment__active_ms")
    payloads: dict[str, Mapping[str, Any]] = {}
    orders: dict[str, int] = {}
    given = list(told.order_by("-pk")[:newest])[::-1] if newest else told.order_by("pk").iterator()
    for item, rater, payload, created, order, guideline, ms in given:
        if payload not in payloads:
            payloads[payload] = json.loads(payload)
        if order not in orders:
            shown = json.loads(order)
            orders[order] = int(shown[0]) if shown else -1
        columns.add(item, rater, again, payloads[payload], _moment(created), ms, orders[order], guideline)


def _moment(created: Any) -> float:
    """Seconds since 1970; SQLite keeps times as texts, in UTC."""
    if isinstance(created, str):
        return datetime.fromisoformat(created).replace(tzinfo=UTC).timestamp()
    return float(created.timestamp())


def _key(given: Any) -> UUID:
    """An id, which SQLite keeps as a text."""
    return given if isinstance(given, UUID) else UUID(given)


def told_groups(programme: Programme, question: str) -> dict[str, str]:
    """What raters say of themselves in answer to a question, by the pseudonym that judgments read here carry.

    Whoever shows figures of a group keeps those of fewer than five raters to themselves.

    Raises:
        HeedfulError: nobody answered such a question.
    """
    from heedful.errors import HeedfulError, Sentence, nearest
    from heedful.feedback.models import GroupAnswer
    from heedful.feedback.pulls import pseudonyms

    masks = pseudonyms(str(programme.pk))
    answers = GroupAnswer.objects.filter(rater__programme=programme, rater__erased=None).exclude(answer="")
    found = dict(answers.filter(question=question).values_list("rater_id", "answer"))
    if not found:
        known = sorted(set(answers.values_list("question", flat=True)))
        raise HeedfulError(
            "no rater has answered {question!r}.",
            where=programme.slug,
            mend=nearest(question, known) or Sentence("Answered: {known}.", known=", ".join(known)),
            question=question,
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
    for key in map(_key, codes):
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

    answers: list[tuple[tuple[int, ...], tuple[str, ...]]] = [((), ())] * len(codes)
    infos: list[ItemInfo | None] = [None] * len(codes)
    same: dict[Any, Any] = {}
    keys = [_key(key) for key in codes] if few else []
    chunks: Iterable[list[UUID] | None] = [keys[i : i + CHUNK] for i in range(0, len(keys), CHUNK)] if few else [None]
    for chunk in chunks:
        entries = ItemCompletion.objects.filter(item__programme=programme, item__kind__in=verdicts.COMPARABLE)
        rows = Item.objects.filter(programme=programme, kind__in=verdicts.COMPARABLE)
        if chunk is not None:
            entries, rows = entries.filter(item__in=chunk), rows.filter(pk__in=chunk)
        sized = entries.annotate(size=Length("completion__text")).order_by("item", "index")
        told = sized.values_list(stored("item_id"), "size", "completion__policy").iterator()
        for item, parts in groupby(told, key=itemgetter(0)):
            if item in codes:
                _, lengths, policies = zip(*parts, strict=True)
                answers[codes[item]] = same.setdefault(lengths, lengths), same.setdefault(policies, policies)
        asked = rows.values_list(stored("id"), "kind", "prompt__key", "batch__name")
        for item, kind, prompt, batch in asked.iterator():
            if item in codes:
                at = codes[item]
                kind, prompt, batch = (same.setdefault(one, one) for one in (kind, prompt, batch))
                lengths, policies = answers[at]
                infos[at] = ItemInfo(str(_key(item)), kind, prompt, batch, lengths, policies)
    assert all(info is not None for info in infos), "a judgment's item is gone"
    return infos  # type: ignore[return-value]


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
            asked = row.rater_kind != "end_user"  # no rater of the programme
            if row.item in infos and asked and (not again or purpose == "check"):
                kinds[row.rater] = row.rater_kind
                first = row.order[0] if row.order else -1
                said = (row.payload, row.created.timestamp(), row.active_ms, first, row.guideline)
                columns.add(row.item, row.rater, again, *said)
    raters = [RaterInfo(f"rater {key[:8]}", kinds[key]) for key in columns.raters]
    return columns.table(programme, raters, [infos[key] for key in columns.items])
