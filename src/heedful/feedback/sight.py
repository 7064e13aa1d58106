"""Who may be shown what raters said of an item, so that whoever decides it judges first.

What raters said is folded away from everybody who leads until they can no longer decide the item: they judged, wrote
or passed it, decided it, or left its verdict to others. That last step is on record (`OpenedVotes`), and for good:
they are given the item neither to decide nor to judge.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.db import transaction

from heedful.feedback import clock, events, verdicts
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    HELD,
    Account,
    Adjudication,
    Assignment,
    AssignmentState,
    Item,
    ItemCompletion,
    ItemState,
    Judgment,
    OpenedVotes,
    Programme,
    Purpose,
    Rater,
)

GIVEN_UP = "adjudication.given_up"
ORDINARY = (Purpose.TRAIN, Purpose.CHECK)
ENDED = tuple(state for state in HELD if state != AssignmentState.LEASED)


def decidable(item: Item) -> bool:
    """Whether there is, or may come to be, something in the item for an adjudicator to decide."""
    ordinary = item.purpose in ORDINARY and item.state != ItemState.WITHDRAWN
    return ordinary and item.kind in verdicts.COMPARABLE


def touched(rater: Rater, items: Sequence[UUID], states: Sequence[str] = HELD) -> set[UUID]:
    """Which of these items a rater judged, wrote or had an assignment of in such a state.

    Their own adjudications do not count.
    """
    judged = Judgment.objects.filter(rater=rater, item__in=items, adjudication__isnull=True)
    wrote = ItemCompletion.objects.filter(item__in=items, completion__author=rater)
    had = Assignment.objects.filter(rater=rater, item__in=items, state__in=states)
    found: set[UUID] = set()
    for rows in (judged, wrote, had):
        found |= set(rows.values_list("item_id", flat=True))
    return found


def settled(account: Account, programme: Programme | UUID) -> set[UUID]:
    """The items that an account decided, or whose verdict it left to others: it judges none of them first again."""
    left = OpenedVotes.objects.filter(item__programme=programme, account=account)
    own = Adjudication.objects.filter(item__programme=programme, adjudicator=account, decided__isnull=False)
    return set(left.values_list("item_id", flat=True)) | set(own.values_list("item_id", flat=True))


def judges_no_more(item: Item, account: UUID) -> bool:
    """Whether an account judged an item as its adjudicator, or left its verdict to others and saw the votes.

    What it says of the item from then on is no rater's judgment, also where it had the item as a rater before.
    """
    decided = Adjudication.objects.filter(item=item, adjudicator=account)
    return decided.exists() or OpenedVotes.objects.filter(item=item, account=account).exists()


def sees_votes(item: Item, account: Account) -> bool:
    """Whether what raters said of the item may stand on a page that this account reads."""
    if not decidable(item):
        return True
    rater = Rater.objects.filter(programme=item.programme_id, account=account).first()
    if rater is not None and before_them(item, rater):
        return False
    return item.pk in settled(account, item.programme_id) or (
        rater is not None and bool(touched(rater, [item.pk], ENDED))
    )


def before_them(item: Item, rater: Rater) -> bool:
    """Whether the item lies before the rater to be judged."""
    held = Assignment.objects.filter(item=item, rater=rater, state=AssignmentState.LEASED)
    return held.filter(lease_until__gt=clock.now()).exists()


def give_up(item: Item, account: Account) -> None:
    """Leave an item's verdict to others, for good: from then on what raters said of it is shown to this account.

    Nothing is written for whoever sees it anyhow.

    Raises:
        Conflict: the item lies before them to be judged, or they judged it as its adjudicator and have to decide it.
    """
    with transaction.atomic():
        item = Item.objects.select_for_update(no_key=True).get(pk=item.pk)
        if sees_votes(item, account):
            return
        rater = Rater.objects.filter(programme=item.programme_id, account=account).first()
        if rater is not None and before_them(item, rater):
            raise Conflict("this item lies before you to be judged.", where="item", mend="Judge it or skip it first.")
        if Adjudication.objects.filter(item=item, adjudicator=account, decided=None).exists():
            raise Conflict("you judged this item to decide it.", where="item", mend="Decide it; then you see them.")
        OpenedVotes.objects.create(item=item, account=account)
        events.record(GIVEN_UP, programme=item.programme_id, actor=account, item=item)
