"""No page shows what raters said of an item to somebody who could still decide it: every route, byte by byte."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.urls import get_resolver, reverse
from django.urls.resolvers import URLPattern, URLResolver
from lead_world import World, judge, login, member, world

from feedback_factories import account, rater
from feedback_quality import at, take
from heedful.feedback import adjudication, clock, sight
from heedful.feedback.assignment import skip
from heedful.feedback.models import Account, Assignment, AuditEvent, Item, Judgment, Membership, Rationale, Role
from heedful.studio.lead.charts_data import NAMES

pytestmark = pytest.mark.django_db
WHY, NOTE, REASON = "why-a-rater-said-so", "a-note-of-who-skipped", "the-reason-of-a-verdict"
TELLS_A_SHARE = {"overview", "batches", "batch", "charts", "charts_part", "chart"}
"""Routes with the share of a batch's decided comparisons that went to what was shown first: a sum, no vote."""


@pytest.fixture(autouse=True)
def one_moment() -> Iterator[None]:
    """Time stands still, so that no page differs from itself a minute later."""
    with at(clock.now()):
        yield


@pytest.fixture
def of() -> World:
    """Two items with two votes and a skip each; the second has a verdict."""
    found = world(items=2, raters=3, quota=2)
    first, second, third = found.raters
    for _ in found.items:
        skip(take(third), "unclear", note=NOTE)
    for who, strength in ((first, 3), (second, -2)):
        for _ in found.items:
            judge(who, strength, rationale=WHY)
    for who in (member(found.programme, Role.ADJUDICATOR, f"judge-{found.slug}"),):
        made = adjudication.judge_first(found.items[1], who, {"strength": 1}, "k", rationale=WHY)
        adjudication.votes(made)
        adjudication.decide(made, {"strength": 3}, REASON)
    return found


def person(of: World, role: str) -> Account:
    """Somebody who could come to decide an item: in a role, with two of them, or the studio's first admin."""
    if role == "hats":
        Membership.objects.create(programme=of.programme, account=of.manager, role=Role.ADJUDICATOR)
        return of.manager
    return account(is_superuser=True) if role == "owner" else getattr(of, role)


def routes() -> list[tuple[str, str]]:
    """(name, pattern) of every address in the URL configuration that names a programme."""
    found = []

    def walk(patterns: list[Any], prefix: str) -> None:
        for one in patterns:
            if isinstance(one, URLResolver):
                walk(one.url_patterns, prefix + str(one.pattern))
            elif isinstance(one, URLPattern) and "<slug:slug>" in prefix + str(one.pattern):
                found.append((str(one.name or ""), prefix + str(one.pattern)))

    walk(get_resolver().url_patterns, "")
    return [(name, pattern) for name, pattern in found if not pattern.startswith("api/")]


def addresses(of: World, one: Item) -> dict[tuple[str, str], str]:
    """Every route with the ids of this item and what belongs to it, and the filters of the list of items."""
    ids = {"slug": of.slug, "item": one.pk, "batch": one.batch_id, "rater": of.raters[0].pk, "version": 1}
    ids |= {"account": of.manager.pk, "step": "file", "key": "nothing"}
    nothing = "00000000-0000-7000-8000-000000000000"
    found = {}
    for name, pattern in routes():
        for chart in NAMES if name == "chart" else [""]:

            def value(match: re.Match[str], chart: str = chart) -> str:
                word = match.group(1).rpartition(":")[2]
                return chart if word == "name" and chart else str(ids.get(word, nothing))

            found[name, chart] = "/" + re.sub(r"<([^>]+)>", value, pattern)
    items = reverse("items", args=[of.slug])
    for query in ("?disagreement=on", "?flagged=on", "?q=eggs", f"?q={one.pk}"):
        found["items", query] = items + query
    return found


Pages = dict[tuple[str, str], bytes]


def read(client: Client, paths: dict[tuple[str, str], str]) -> Pages:
    """What each address answers, without what is drawn by lot at each look; nothing of those that take no GET."""
    drawn = re.compile(rb'name="(csrfmiddlewaretoken|key)" value="[^"]*"|name="csrf-token" content="[^"]*"')
    pages = {}
    for key, path in paths.items():
        answer = client.get(path)
        if answer.status_code not in (404, 405):
            pages[key] = drawn.sub(b"", b"".join(answer.streaming_content) if answer.streaming else answer.content)
    return pages


@contextmanager
def said(one: Item, change: Callable[[int], int], text: str) -> Iterator[None]:
    """While it lasts, the item's raters (and whoever decided it) have said something else."""
    with connection.cursor() as cursor:
        on = "" if connection.vendor == "sqlite" else " ON feedback_judgment"
        cursor.execute(f"DROP TRIGGER IF EXISTS feedback_judgment_no_update{on}")  # rows never change, but here
    before = {row.pk: row.payload for row in Judgment.objects.filter(item=one)}
    for key, payload in before.items():
        Judgment.objects.filter(pk=key).update(payload=payload | {"strength": change(payload["strength"])})
    Rationale.objects.filter(judgment__item=one).update(text=text)
    verdicts = list(one.adjudications.all())
    for row in verdicts:
        one.adjudications.filter(pk=row.pk).update(verdict=row.verdict | {"strength": change(row.verdict["strength"])})
    yield
    for key, payload in before.items():
        Judgment.objects.filter(pk=key).update(payload=payload)
    Rationale.objects.filter(judgment__item=one).update(text=WHY)
    for row in verdicts:
        one.adjudications.filter(pk=row.pk).update(verdict=row.verdict)


def differing(client: Client, pages: Pages, of: World, one: Item, change: Callable[[int], int]) -> set[str]:
    """Names of the routes that answer something else than these pages once raters said something else."""
    paths = {key: path for key, path in addresses(of, one).items() if key in pages}
    with said(one, change, "something else altogether"):
        others = read(client, paths)
    assert pages.keys() == others.keys()
    return {name for name, more in pages if pages[name, more] != others[name, more]}


def test_every_page_of_who_could_decide_an_item_is_the_same_bytes_whatever_raters_said(of: World) -> None:
    client, one = login(of.admin), of.items[0]
    pages = read(client, addresses(of, one))
    assert {name for name, _ in pages} >= {"item", "items", "audit", "raters", "rater", *TELLS_A_SHARE}
    for page, content in pages.items():
        for mark in (WHY, NOTE, REASON):
            assert mark.encode() not in content, (page, mark)
    assert differing(client, pages, of, one, lambda s: 1 if s > 0 else -1) == set()
    assert differing(client, pages, of, one, lambda s: -s) <= TELLS_A_SHARE


@pytest.mark.parametrize(
    ("role", "which"),
    [
        ("admin", 1),
        ("adjudicator", 0),
        ("hats", 0),
        pytest.param("manager", 0, marks=pytest.mark.slow),  # one of the two hats
        pytest.param("owner", 0, marks=pytest.mark.slow),  # an admin everywhere
    ],
)
def test_so_it_is_for_every_other_role_and_for_an_item_that_another_decided(of: World, role: str, which: int) -> None:
    """All but the pages of sums, which need no second look."""
    client, one = login(person(of, role)), of.items[which]
    pages = read(client, {key: path for key, path in addresses(of, one).items() if key[0] not in TELLS_A_SHARE})
    assert ("adjudicate" if role == "adjudicator" else "item") in {name for name, _ in pages}
    for page, content in pages.items():
        assert not any(mark.encode() in content for mark in (WHY, NOTE, REASON)), page
    assert differing(client, pages, of, one, lambda s: -s) == set()


def test_the_button_shows_them_writes_it_down_and_closes_adjudication_for_good(of: World) -> None:
    one = of.items[0]
    client = login(of.admin)
    path = reverse("item", args=[of.slug, one.pk])
    page = client.get(path)
    assert page.context["folded"] == "may"
    assert "leave the verdict to others" in page.content.decode()
    assert reverse("adjudicate", args=[of.slug, one.pk]) in page.content.decode()
    assert client.get(reverse("item_votes", args=[of.slug, one.pk])).status_code == 405
    assert not AuditEvent.objects.filter(kind=sight.GIVEN_UP).exists()
    assert client.post(reverse("item_votes", args=[of.slug, one.pk])).url == path
    event = AuditEvent.objects.get(kind=sight.GIVEN_UP)
    assert (event.actor, event.ids) == (of.admin.pk, {"item": str(one.pk)})
    shown = client.get(path).content.decode()
    assert shown.count(WHY) == 2
    assert NOTE in shown
    pages = read(client, {("item", ""): path})
    assert differing(client, pages, of, one, lambda s: -s) == {"item"}  # so that what is compared can differ
    assert client.get(reverse("adjudicate", args=[of.slug, one.pk])).status_code == 403
    sent = {"key": "k", "strength": "1"}
    assert client.post(reverse("adjudicate_judge", args=[of.slug, one.pk]), sent).status_code == 403
    assert not one.adjudications.exists()
    other = client.get(reverse("item", args=[of.slug, of.items[1].pk]))
    assert other.context["folded"] == "may"
    assert "verdict left to others" in client.get(of.at("audit/")).content.decode()


def test_who_judged_first_reads_names_on_the_items_page_only_after_the_verdict(of: World) -> None:
    one = of.items[0]
    client = login(of.admin)
    path = reverse("item", args=[of.slug, one.pk])
    client.post(reverse("adjudicate_judge", args=[of.slug, one.pk]), {"key": "k", "strength": "1"})
    page = client.get(path)
    assert page.context["folded"] == "begun"
    assert WHY not in page.content.decode()
    refused = client.post(reverse("item_votes", args=[of.slug, one.pk]), follow=True)
    assert "decide it" in refused.content.decode()
    assert WHY not in refused.content.decode()
    decision = {"strength": "1", "reason": REASON}
    assert client.post(reverse("adjudicate_decide", args=[of.slug, one.pk]), decision).status_code == 302
    assert WHY in client.get(path).content.decode()
    assert client.get(reverse("adjudicate", args=[of.slug, one.pk])).status_code == 403


def test_an_item_that_lies_before_a_lead_to_be_judged_keeps_its_votes(of: World) -> None:
    lead, one = rater(of.programme, account=of.manager), of.items[0]
    Assignment.objects.create(
        slot=one.slots.all()[0], item=one, rater=lead, purpose="train", item_version=1,
        lease_until=clock.now() + timedelta(minutes=5),
    )  # fmt: skip
    page = login(of.manager).get(reverse("item", args=[of.slug, one.pk]))
    assert page.context["folded"] == "before"
    assert WHY not in page.content.decode()


def test_an_item_that_nobody_judged_says_so_and_has_no_button() -> None:
    of = world(items=1)
    page = login(of.admin).get(reverse("item", args=[of.slug, of.items[0].pk])).content.decode()
    assert "Nobody has judged it yet." in page
    assert "leave the verdict" not in page


def test_the_suggested_key_does_not_tell_a_verdict_that_is_folded_away(of: World) -> None:
    path = reverse("item", args=[of.slug, of.items[1].pk])
    client = login(of.manager)
    folded = client.get(path).context["form"].initial
    assert (folded["low"], folded["high"], folded["reason"]) == ("-3", "3", "")  # what any answer matches
    client.post(reverse("item_votes", args=[of.slug, of.items[1].pk]))
    initial = client.get(path).context["form"].initial
    assert initial["reason"] == REASON
    assert (initial["low"], initial["high"]) in {("1", "3"), ("-3", "-1")}  # the verdict's side


def test_exports_are_files_that_tell_votes_and_their_page_says_so(of: World) -> None:
    client = login(of.admin)
    assert "tells what raters said" in client.get(of.at("export/")).content.decode()
    ready = client.post(of.at("export/"), {"format": "heedful", "margin": "none"}, follow=True)
    assert ready.status_code == 200
    assert WHY not in ready.content.decode()
