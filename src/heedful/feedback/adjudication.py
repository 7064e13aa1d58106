"""Adjudication: somebody who judged nothing decides where raters disagree, and judges before seeing what they said."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Q, QuerySet

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, programmes, sight, verdicts
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Account,
    Adjudication,
    CurrentJudgment,
    Item,
    ItemState,
    Judgment,
    Programme,
    Purpose,
    Rater,
    Rationale,
    Role,
    Skip,
    TaskKind,
)
from heedful.feedback.payloads import from_shown, parse, stored, to_shown
from heedful.feedback.rules import rules_of
from heedful.feedback.sight import ORDINARY
from heedful.feedback.texts import clean

REASONS = ("unsafe", "disagreement", "skips")
"""Why an item waits, the most pressing first."""
LONGEST_TEXT = 5_000


@dataclass(frozen=True)
class Case:
    """An item that waits for an adjudicator. What raters said of it is not told here."""

    item: Item
    reasons: tuple[str, ...]
    """Of `REASONS`."""
    votes: int
    skips: int


@dataclass(frozen=True)
class Vote:
    """What one rater said, for an adjudicator who has judged."""

    number: int
    """1, 2, ... in the order in which they judged: a name for the rater that says nothing of them."""
    rater: Rater
    payload: dict[str, Any]
    """Of the item's own indices."""
    shown: dict[str, Any]
    """In the order in which this adjudicator saw the item."""
    rationale: str
    safety_flag: bool
    surplus: bool
    guideline_version: int
    given: datetime


def queue(programme: Programme, limit: int = 200) -> list[Case]:
    """Items that ask for a verdict: flagged unsafe, done and disputed, or passed by many; the most pressing first.

    Of those that are disputed, the ones come first whose raters disagree most (`verdicts.spread`).

    Left out are items with a verdict that holds, gold, and tasks in which there is nothing to decide.
    """
    found: dict[UUID, set[str]] = defaultdict(set)
    disputed = _disputed(programme)
    for reason, keys in (
        ("unsafe", _flagged(programme)),
        ("disagreement", disputed),
        ("skips", _items(programme).filter(state=ItemState.PARKED).values_list("pk", flat=True)),
    ):
        for key in keys:
            found[key].add(reason)
    reason_of = {key: min(REASONS.index(reason) for reason in reasons) for key, reasons in found.items()}
    ranked = sorted(found, key=lambda key: (reason_of[key], -round(disputed.get(key, 0.0), 9), key))
    chosen = ranked[:limit]
    votes = Count("current", filter=Q(current__pass_number=1, current__purpose__in=ORDINARY))
    items = {
        item.pk: item
        for item in Item.objects.filter(pk__in=chosen).select_related("prompt", "batch").annotate(votes=votes)
    }
    return [
        Case(items[key], tuple(r for r in REASONS if r in found[key]), items[key].votes, items[key].skips)
        for key in chosen
    ]


def queue_for(account: Account, programme: Programme, limit: int = 200) -> list[Case]:
    """The queue without what this account judged, wrote, passed or has open, or saw the votes of."""
    rater = Rater.objects.filter(programme=programme, account=account).first()
    cases = queue(programme, limit=10_000)
    own = sight.settled(account, programme)
    if rater is not None:
        own |= sight.touched(rater, [case.item.pk for case in cases])
    return [case for case in cases if case.item.pk not in own][:limit]


def _items(programme: Programme) -> QuerySet[Item]:
    decided = Adjudication.objects.filter(decided__isnull=False, superseded=None)
    items = Item.objects.filter(programme=programme, purpose__in=ORDINARY, kind__in=verdicts.COMPARABLE)
    return items.exclude(state=ItemState.WITHDRAWN).exclude(pk__in=decided.values("item"))


def _flagged(programme: Programme) -> set[UUID]:
    items = _items(programme)
    judged = CurrentJudgment.objects.filter(judgment__safety_flag=True, judgment__programme=programme)
    passed = Skip.objects.filter(reason="unsafe", assignment__rater__programme=programme)
    flagged = Q(pk__in=judged.values("item")) | Q(pk__in=passed.values("assignment__item"))
    return set(items.filter(flagged).values_list("pk", flat=True))


def _disputed(programme: Programme) -> dict[UUID, float]:
    """Items that are done, and whose counted judgments disagree by the programme's rule: by how much."""
    done = _items(programme).filter(state=ItemState.DONE, batch__quota_cap__gte=2)
    counted = CurrentJudgment.objects.filter(slot__isnull=False, slot__reserved_for=None, pass_number=1)
    pairs = counted.filter(item__in=done.filter(kind=TaskKind.PAIRWISE)).values("item").order_by()
    sides = pairs.annotate(
        more=Count("pk", filter=Q(judgment__payload__strength__gt=0)),
        less=Count("pk", filter=Q(judgment__payload__strength__lt=0)),
        total=Count("pk"),
    )
    split = sides.filter(more__gt=0, less__gt=0).values_list("item", "less", "more", "total")
    found = {item: verdicts.spread_of_sides(a, total - a - b, b) for item, a, b, total in split}
    threshold = rules_of(programme.settings).disagreement
    given: dict[tuple[UUID, str], list[Any]] = defaultdict(list)
    others = counted.filter(item__in=done.exclude(kind=TaskKind.PAIRWISE))
    for item, kind, payload in others.values_list("item_id", "item__kind", "judgment__payload").iterator():
        given[item, kind].append(payload)
    for (item, kind), said in given.items():
        if verdicts.disagree(kind, said, threshold):
            found[item] = verdicts.spread(kind, said)
    return found


def may_adjudicate(item: Item, account: Account) -> bool:
    """Whether an account may: an adjudicator of the programme who has neither judged, written, passed nor open the
    item, and has not seen its votes (`heedful.feedback.sight`)."""
    if Role.ADJUDICATOR not in programmes.roles_of(account, item.programme) or not sight.decidable(item):
        return False
    if item.pk in sight.settled(account, item.programme_id):
        return False
    rater = Rater.objects.filter(programme=item.programme_id, account=account).first()
    return rater is None or not sight.touched(rater, [item.pk])


def _require(item: Item, account: Account) -> None:
    if not may_adjudicate(item, account):
        raise HeedfulError(
            "this item is not yours to adjudicate.",
            where="item",
            mend="Who judged or wrote it, or saw its votes, leaves it to another.",
        )


def order_for(item: Item, account: Account) -> list[int]:
    """The order in which this adjudicator sees the item's answers: always the same for them, no telling for others."""
    indices = list(item.entries.order_by("index").values_list("index", flat=True))
    return sorted(indices, key=lambda index: hashlib.sha256(f"{item.pk}|{account.pk}|{index}".encode()).digest())


def judge_first(
    item: Item,
    account: Account,
    shown: Mapping[str, Any],
    key: str,
    *,
    rationale: str = "",
    safety_flag: bool = False,
    active_ms: int = 0,
) -> Adjudication:
    """Keep what an adjudicator says before they see the votes; their judgment is no vote and is never exported as one.

    Args:
        item: pairwise, ranking or attributes.
        account: of the adjudicator.
        shown: payload about the order that `order_for` gives.
        key: idempotency key; the same key with the same content gives the same record.
        rationale: why.
        safety_flag: the item is unsafe.
        active_ms: time they worked on it.

    Raises:
        HeedfulError: they may not adjudicate this item, or the payload is wrong; with the field.
        Conflict: the key was used for something else.
    """
    _require(item, account)
    clean(rationale, "rationale", longest=LONGEST_TEXT)
    clean(key, "key", longest=80, empty=False)
    order = order_for(item, account)
    payload = _payload(item, shown, order)
    digest = events.digest_of([str(item.pk), payload, rationale, safety_flag])
    with transaction.atomic():
        rater = programmes.rater_of(account, item.programme)
        assert rater is not None  # an adjudicator is a rater
        # The rater's row before the item's, as every submission does: the other way round two of them could wait
        # for each other.
        Rater.objects.select_for_update(no_key=True).get(pk=rater.pk)
        item = Item.objects.select_for_update(no_key=True).get(pk=item.pk)
        same = Judgment.objects.filter(rater=rater, idempotency_key=key).first()
        if same is not None:
            made = Adjudication.objects.filter(judgment=same).first()
            if made is None or same.request_sha256 != digest:
                raise Conflict("this key was used for something else.", where="key")
            return made
        _require(item, account)  # they may have left it to others meanwhile, in another tab
        open_one = Adjudication.objects.filter(item=item, adjudicator=account, decided=None).first()
        if open_one is not None:
            raise Conflict("you judged this item; decide it now.", where="item")
        judgment = Judgment.objects.create(
            programme_id=item.programme_id,
            batch_id=item.batch_id,
            item=item,
            rater=rater,
            kind=item.kind,
            purpose=Purpose.CHECK,
            guideline=item.batch.guideline,
            item_version=item.version,
            payload=payload,
            order=order,
            safety_flag=safety_flag,
            active_ms=active_ms,
            surplus=True,
            idempotency_key=key,
            request_sha256=digest,
        )
        if rationale.strip():
            Rationale.objects.create(judgment=judgment, text=rationale)
        made = Adjudication.objects.create(item=item, judgment=judgment, adjudicator=account)
        events.record(
            "adjudication.judged",
            programme=item.programme_id,
            actor=account,
            digest=events.digest_of(payload),
            item=item,
            adjudication=made,
            judgment=judgment,
        )
    return made


def _payload(item: Item, shown: Mapping[str, Any], order: Sequence[int]) -> dict[str, Any]:
    attributes = item.batch.guideline.attributes
    kept = from_shown(item.kind, shown, order)
    return stored(parse(item.kind, kept, completions=len(order), attributes=attributes))


def votes(adjudication: Adjudication) -> list[Vote]:
    """What raters said of the item, once its adjudicator has judged; writes down, once, that they were shown.

    Call it first where the judgment is given (a POST); a later page may call it again, it then writes nothing.
    """
    if adjudication.votes_shown is None:
        with transaction.atomic():
            found = Adjudication.objects.select_for_update().get(pk=adjudication.pk)
            if found.votes_shown is None:
                found.votes_shown = clock.now()
                found.save(update_fields=["votes_shown"])
                programme = found.item.programme_id
                events.record(
                    "adjudication.votes_shown", programme=programme, actor=found.adjudicator_id, adjudication=found
                )
        adjudication.votes_shown = found.votes_shown
    order = adjudication.judgment.order
    rows = CurrentJudgment.objects.filter(item=adjudication.item_id, purpose__in=ORDINARY, pass_number=1)
    rows = rows.select_related("judgment__rationale", "judgment__guideline", "rater__account", "item")
    return [_vote(number, row, order) for number, row in enumerate(rows.order_by("judgment__created", "pk"), 1)]


def _vote(number: int, row: CurrentJudgment, order: Sequence[int]) -> Vote:
    judgment = row.judgment
    return Vote(
        number=number,
        rater=row.rater,
        payload=judgment.payload,
        shown=to_shown(judgment.kind, judgment.payload, order),
        rationale=judgment.rationale.text if hasattr(judgment, "rationale") else "",
        safety_flag=judgment.safety_flag,
        surplus=judgment.surplus,
        guideline_version=judgment.guideline.version,
        given=judgment.created,
    )


def skips_of(item: Item) -> Iterable[Skip]:
    """Why raters passed the item, the first first."""
    return Skip.objects.filter(assignment__item=item).order_by("created", "pk")


def decide(adjudication: Adjudication, verdict: Mapping[str, Any], reason: str) -> Adjudication:
    """Give the verdict that stands for the item; one from before is superseded. Votes stay as they are.

    Args:
        adjudication: judged, its votes shown, not decided.
        verdict: payload about the order in which this adjudicator saw the item; the first judgment may be revised.
        reason: why.

    Raises:
        HeedfulError: it is decided already, the votes were not shown, no reason, or a wrong payload.
    """
    clean(reason, "reason", longest=LONGEST_TEXT, empty=False)
    with transaction.atomic():
        item = Item.objects.select_for_update(no_key=True).get(pk=adjudication.item_id)
        found = Adjudication.objects.select_for_update().get(pk=adjudication.pk)
        if found.decided is not None:
            raise HeedfulError("this is decided.", where="adjudication", mend="A new adjudication can supersede it.")
        if found.votes_shown is None:
            raise HeedfulError("the votes were not shown yet.", where="adjudication", mend="Look at them first.")
        payload = _payload(item, verdict, found.judgment.order)
        found.verdict, found.reason, found.decided = payload, reason.strip(), clock.now()
        found.save(update_fields=["verdict", "reason", "decided"])
        earlier = Adjudication.objects.filter(item=item, decided__isnull=False, superseded=None).exclude(pk=found.pk)
        earlier.update(superseded=found.decided)
        events.record(
            "adjudication.decided",
            programme=item.programme_id,
            actor=found.adjudicator_id,
            digest=events.digest_of(payload),
            item=item,
            adjudication=found,
        )
    return found


def standing(item: Item) -> Adjudication | None:
    """The adjudication whose verdict holds, or None."""
    return Adjudication.objects.filter(item=item, decided__isnull=False, superseded=None).order_by("-decided").first()
