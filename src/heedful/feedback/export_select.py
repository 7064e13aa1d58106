"""Which judgments an export reads, and the items that they are of."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Q, QuerySet

from heedful.errors import HeedfulError, nearest
from heedful.feedback.export_consensus import Anchor
from heedful.feedback.export_votes import ADJUDICATOR, Judged, Text, Vote, Work
from heedful.feedback.models import (
    Adjudication,
    Batch,
    Demonstration,
    Edit,
    FieldIntake,
    GoldKey,
    Item,
    ItemCompletion,
    ItemState,
    Judgment,
    Programme,
    Purpose,
    RaterKind,
    Snapshot,
    SnapshotEntry,
)
from heedful.feedback.payloads import MADE
from heedful.feedback.pseudonyms import Pseudonyms
from heedful.feedback.withdrawal import standing, withdrawn

CHUNK = 200
"""Items fetched together."""
FIELD = "field"
"""The key in a prompt's `source` that says by what an end user's judgment came about."""
TRAINING = ("train",)
"""The purposes whose judgments enter a training format: this one."""


@dataclass(frozen=True)
class Selection:
    """Which of a programme's judgments. Empty tuples mean all."""

    programme: Programme
    batches: tuple[uuid.UUID, ...] = ()
    rounds: tuple[int, ...] = ()
    raters: tuple[str, ...] = ()
    """Kinds of raters: person, ai, simulated, end_user."""
    purposes: tuple[str, ...] = TRAINING
    include_surplus: bool = False
    adjudicated: bool = False
    """A verdict stands in place of the votes."""
    snapshot: Snapshot | None = None
    """Exactly these judgments, whatever came since, but for items that have become gold or check."""

    def judgments(self) -> QuerySet[Judgment]:
        """The judgments: those that hold, of a rater's first pass, counted ones unless surplus is asked for.

        An item that has become gold gives none any more, in a snapshot or not, nor does a rater who was erased. An item
        that was withdrawn gives those that stand in a snapshot.
        """
        return standing(self._chosen())

    def withdrawn(self) -> int:
        """How many judgments would be among them, had their rater not been erased."""
        return self._chosen().filter(withdrawn()).count()

    def _chosen(self) -> QuerySet[Judgment]:
        if self.snapshot is not None:
            return Judgment.objects.filter(
                pk__in=SnapshotEntry.objects.filter(snapshot=self.snapshot).values("judgment"),
                purpose__in=self.purposes,
                item__in=self.items(),
            )
        found = Judgment.objects.filter(
            programme=self.programme,
            current__isnull=False,
            adjudication__isnull=True,
            pass_number=1,
            purpose__in=self.purposes,
            item__purpose__in=self.purposes,
        ).exclude(item__state=ItemState.WITHDRAWN)
        if not self.include_surplus:
            found = found.filter(surplus=False)
        if self.raters:
            found = found.filter(rater__kind__in=self.raters)
        return found.filter(self._where("batch"))

    def items(self) -> QuerySet[Item]:
        """Items that were not withdrawn, judged or not; of a snapshot, those in it that are still for its purposes."""
        if self.snapshot is not None:
            return self._listed().filter(purpose__in=self.purposes, batch__purpose__in=self.purposes)
        found = Item.objects.filter(
            self._where("batch"), programme=self.programme, purpose__in=self.purposes, batch__purpose__in=self.purposes
        )
        return found.exclude(state=ItemState.WITHDRAWN)

    def held_back(self) -> list[str]:
        """Ids of the snapshot's items that have become gold or check since it was made; without a snapshot none."""
        if self.snapshot is None:
            return []
        found = self._listed().exclude(purpose__in=self.purposes, batch__purpose__in=self.purposes)
        return [str(key) for key in found.order_by("pk").values_list("pk", flat=True)]

    def _listed(self) -> QuerySet[Item]:
        return Item.objects.filter(pk__in=SnapshotEntry.objects.filter(snapshot=self.snapshot).values("item"))

    def verdicts(self) -> QuerySet[Adjudication]:
        """Adjudications that stand; of a snapshot, that stood when it was made."""
        found = Adjudication.objects.filter(decided__isnull=False, item__in=self.items())
        if self.snapshot is None:
            return found.filter(superseded=None)
        at = self.snapshot.created
        return found.filter(decided__lte=at).filter(Q(superseded=None) | Q(superseded__gt=at))

    def _where(self, batch: str) -> Q:
        where = Q()
        if self.batches:
            where &= Q(**{f"{batch}__in": self.batches})
        if self.rounds:
            where &= Q(**{f"{batch}__round__in": self.rounds})
        return where


def selection(
    programme: Programme,
    *,
    batches: Iterable[Any] | None = None,
    rounds: Iterable[int] | None = None,
    raters: Iterable[str] | None = None,
    purposes: Iterable[str] = TRAINING,
    include_surplus: bool = False,
    adjudicated: bool = False,
    snapshot: Snapshot | None = None,
) -> Selection:
    """A selection from what people write.

    Args:
        batches: rows, ids or names.
        raters: kinds of raters.

    Raises:
        HeedfulError: an unknown batch, kind or purpose, another programme's snapshot, or filters beside a snapshot.
    """
    kinds, wanted = tuple(raters or ()), tuple(purposes)
    for kind in kinds:
        if kind not in RaterKind.values:
            hint = nearest(kind, list(RaterKind.values))
            raise HeedfulError("{kind!r} is no kind of rater. {hint}", where="raters", kind=kind, hint=hint)
    for purpose in wanted:
        if purpose not in Purpose.values:
            raise HeedfulError(
                "{purpose!r} is no purpose.",
                where="purposes",
                mend="{known}.",
                purpose=purpose,
                known=", ".join(Purpose.values),
            )
    if snapshot is not None:
        if snapshot.programme_id != programme.pk:
            raise HeedfulError("the snapshot is another programme's.", where="snapshot")
        if batches or rounds or raters or include_surplus:
            raise HeedfulError(
                "a snapshot is a list of judgments; nothing can be chosen within it.",
                where="snapshot",
                mend="Leave batches, rounds, raters and surplus away.",
            )
    return Selection(
        programme,
        tuple(batch_named(programme, one).pk for one in batches or ()),
        tuple(rounds or ()),
        kinds,
        wanted,
        include_surplus,
        adjudicated,
        snapshot,
    )


def batch_named(programme: Programme, given: Any) -> Batch:
    """A programme's batch by its row, id or name.

    Raises:
        HeedfulError: there is none, or several have the name.
    """
    known = Batch.objects.filter(programme=programme)
    if isinstance(given, Batch):
        given = given.pk
    try:
        found = list(known.filter(pk=uuid.UUID(str(given))))
    except ValueError:
        found = list(known.filter(name=given)[:2])
    if len(found) > 1:
        raise HeedfulError(
            "several batches are called {given!r}.", where="batches", mend="Give the batch's id.", given=given
        )
    if not found:
        hint = nearest(str(given), list(known.values_list("name", flat=True)))
        raise HeedfulError("there is no batch {given!r}. {hint}", where="batches", given=str(given), hint=hint)
    return found[0]


def judged(chosen: Selection, names: Pseudonyms) -> Iterator[Judged]:
    """The items of a selection in the order of their ids, a few hundred in memory at a time.

    Args:
        chosen: which judgments.
        names: turns raters' ids into pseudonyms.
    """
    keys = set(chosen.judgments().values_list("item_id", flat=True).distinct())
    verdicts: dict[uuid.UUID, Any] = {}
    if chosen.adjudicated:
        verdicts = dict(chosen.verdicts().order_by("decided").values_list("item_id", "verdict"))
        keys |= set(verdicts)
    ordered = sorted(keys)
    for start in range(0, len(ordered), CHUNK):
        yield from _load(chosen, ordered[start : start + CHUNK], verdicts, names)


def _load(
    chosen: Selection, keys: Sequence[uuid.UUID], verdicts: Mapping[uuid.UUID, Any], names: Pseudonyms
) -> Iterator[Judged]:
    answers: dict[uuid.UUID, list[Text]] = defaultdict(list)
    entries = ItemCompletion.objects.filter(item__in=keys).order_by("item_id", "index").select_related("completion")
    for entry in entries:
        answers[entry.item_id].append(_text(entry.completion))
    said: dict[uuid.UUID, list[Judgment]] = defaultdict(list)
    rows = chosen.judgments().filter(item__in=keys).select_related("rater", "guideline").order_by("pk")
    for row in rows:
        if row.purpose not in chosen.purposes:
            raise AssertionError(f"judgment {row.pk} is for {row.purpose}")
        said[row.item_id].append(row)
    field = set(FieldIntake.objects.filter(programme=chosen.programme).values_list("batch", flat=True))
    work = _work([row.pk for rows in said.values() for row in rows], names)
    items = Item.objects.filter(pk__in=keys).select_related("prompt", "batch__guideline").order_by("pk")
    for item in sorted(items, key=lambda one: one.pk):
        verdict = verdicts.get(item.pk)
        votes = _votes(said[item.pk], names) if verdict is None else (Vote("", ADJUDICATOR, (verdict,)),)
        newest = max((row.guideline for row in said[item.pk]), key=lambda g: g.version, default=item.batch.guideline)
        yield Judged(
            str(item.pk),
            item.kind,
            item.prompt.messages,
            tuple(answers[item.pk]),
            votes,
            tuple(work[row.pk] for row in said[item.pk] if row.pk in work),
            {str(one["name"]): int(one.get("points", 5)) for one in newest.attributes},
            str(item.prompt.source.get(FIELD, "")) if item.batch_id in field else "",
        )


def _text(completion: Any) -> Text:
    return Text(completion.text, completion.policy, completion.erased is not None)


def _votes(rows: Sequence[Judgment], names: Pseudonyms) -> tuple[Vote, ...]:
    """One vote a rater: under the newest guideline that they judged by, the mean of an AI judge's orders."""
    by_rater: dict[Any, list[Judgment]] = defaultdict(list)
    for row in rows:
        if row.kind not in MADE:
            by_rater[row.rater_id].append(row)
    votes = []
    for key, given in by_rater.items():
        newest = max(row.guideline.version for row in given)
        payloads = tuple(row.payload for row in given if row.guideline.version == newest)
        orders = tuple(_order(row) for row in given if row.guideline.version == newest)
        votes.append(Vote(str(names.of(key)), given[0].rater.kind, payloads, orders))
    return tuple(votes)


def _order(row: Judgment) -> tuple[int, ...]:
    """The item's indices as the rater, or an AI judge, saw them."""
    shown = row.order or [int(index) for index in row.judge_order.split(",") if index.strip().isdigit()]
    return tuple(shown)


def anchors(chosen: Selection, names: Pseudonyms) -> Iterator[Anchor]:
    """The programme's gold with what raters of the chosen kinds said of it; of a snapshot, until it was made.

    An answer whose contest was upheld is none of the rater's errors, so it is left out.
    """
    known = GoldKey.objects.filter(item__programme=chosen.programme, item__purpose=Purpose.GOLD)
    said = standing(Judgment.objects.filter(pass_number=1, retracts=False, adjudication__isnull=True))
    said = said.exclude(gold_outcome__upheld=True)
    if chosen.raters:
        said = said.filter(rater__kind__in=chosen.raters)
    if chosen.snapshot is None:
        said = said.filter(current__isnull=False)
    else:
        at = chosen.snapshot.created
        known = known.filter(created__lte=at)
        said = said.filter(created__lte=at).filter(Q(superseded_by__isnull=True) | Q(superseded_by__created__gt=at))
    acceptable = dict(known.values_list("item_id", "acceptable"))
    ordered = sorted(acceptable)
    for start in range(0, len(ordered), CHUNK):
        keys = ordered[start : start + CHUNK]
        answers: dict[uuid.UUID, list[Text]] = defaultdict(list)
        entries = ItemCompletion.objects.filter(item__in=keys).order_by("item_id", "index")
        for entry in entries.select_related("completion"):
            answers[entry.item_id].append(_text(entry.completion))
        given: dict[uuid.UUID, list[Judgment]] = defaultdict(list)
        for row in said.filter(item__in=keys).select_related("rater", "guideline").order_by("pk"):
            given[row.item_id].append(row)
        for key in keys:
            if given[key]:
                kind = given[key][0].kind
                judged = Judged(str(key), kind, (), tuple(answers[key]), _votes(given[key], names))
                yield Anchor(judged, acceptable[key])


def _work(judgments: Sequence[uuid.UUID], names: Pseudonyms) -> dict[uuid.UUID, Work]:
    found = {}
    demonstrations = Demonstration.objects.filter(judgment__in=judgments).select_related(
        "completion", "judgment__rater"
    )
    for one in demonstrations:
        rater = one.judgment.rater
        found[one.judgment_id] = Work(_text(one.completion), str(names.of(rater.pk)), kind=rater.kind)
    edits = Edit.objects.filter(judgment__in=judgments).select_related("completion", "original", "judgment__rater")
    for edit in edits:
        rater = edit.judgment.rater
        found[edit.judgment_id] = Work(
            _text(edit.completion), str(names.of(rater.pk)), _text(edit.original), rater.kind
        )
    return found
