"""A programme in the middle of its work, for tests of the lead's pages."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any

from django.test import Client

from feedback_factories import account, batch, item, programme, rater
from feedback_quality import at_work
from heedful.feedback import assignment, submission
from heedful.feedback.models import Account, Batch, Item, Membership, Programme, Rater, Role

_keys = itertools.count(1)
BACKEND = "django.contrib.auth.backends.ModelBackend"


@dataclass
class World:
    """A programme with somebody in each role."""

    programme: Programme
    admin: Account
    manager: Account
    adjudicator: Account
    raters: list[Rater]
    batch: Batch
    items: list[Item] = field(default_factory=list)

    @property
    def slug(self) -> str:
        return self.programme.slug

    def at(self, path: str = "") -> str:
        """An address in the programme."""
        return f"/p/{self.slug}/{path}"


def member(of: Programme, role: str, name: str) -> Account:
    """An account with one role."""
    made = account(name, display_name=name.title())
    Membership.objects.create(programme=of, account=made, role=role)
    return made


def world(items: int = 3, raters: int = 2, quota: int = 2, **over: Any) -> World:
    """A programme with an open batch of comparisons that nobody has judged."""
    number = next(_keys)
    admin = account(f"admin-{number}", display_name="Ada Admin")
    made = programme("Everyday answers", admin=admin, **over)
    one = batch(made, name="First batch", quota=quota, quota_cap=quota)
    people = [rater(made, account=account(f"rater-{number}-{i}", display_name=f"Rater {i}")) for i in range(raters)]
    found = World(
        made,
        admin,
        member(made, Role.MANAGER, f"manager-{number}"),
        member(made, Role.ADJUDICATOR, f"adjudicator-{number}"),
        people,
        one,
    )
    found.items = [item(one, text=f"How do I boil {n} eggs?") for n in range(items)]
    return found


def judge(who: Rater, strength: int = 2, *, of: Batch | None = None, active_ms: int = 30_000, **said: Any) -> Any:
    """The rater judges what is next for them; the strength is for the item's own b over a."""
    held = assignment.next_assignment(who, batch=of)
    assert held is not None, assignment.why_none(who)
    assignment.show(held)
    at_work(held, active_ms)
    shown = strength if held.order == [0, 1] else -strength
    return submission.submit(
        held,
        {"strength": shown},
        key=f"key-{next(_keys)}",
        item_version=held.item_version,
        active_ms=active_ms,
        **said,
    )


def judged(of: World, strengths: tuple[int, ...] = (2, -2)) -> World:
    """Every item judged once by each rater, who all say the same each time."""
    for _ in of.items:
        for who, strength in zip(of.raters, strengths, strict=False):
            judge(who, strength)
    return of


def login(who: Account | None) -> Client:
    """A client that is logged in."""
    client = Client()
    if who is not None:
        client.force_login(who, backend=BACKEND)
    return client
