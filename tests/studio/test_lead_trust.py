"""The page on trust: what it says, to whom, how cheaply, and that what raters wrote stays text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from lead_world import login, member

from agreement_store import FLIPPER, LEFT, crowded, people, say
from feedback_factories import batch, item, programme, rater
from heedful.feedback import erasure, trust
from heedful.feedback.models import GroupAnswer, Judgment, Programme, Rater, Role
from heedful.feedback.people import Group, GroupTable, suppress
from heedful.feedback.programmes import add_member

pytestmark = pytest.mark.django_db
HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    trust.forget()
    yield
    trust.forget()


@pytest.fixture
def of() -> Programme:
    made = crowded()
    made.settings = {"group_questions": [{"name": "age", "question": "How old?", "answers": ["young", "old"]}]}
    made.save()
    for place in range(8):  # who answered and has not judged yet
        GroupAnswer.objects.create(rater=rater(made), question="age", answer="young" if place % 2 else "old")
    return made


def at(of: Programme, name: str = "trust", *more: Any) -> str:
    return reverse(name, args=[of.slug, *more])


def read(of: Programme, name: str = "trust", *more: Any) -> str:
    """A page as a manager sees it."""
    manager = member(of, Role.MANAGER, f"manager-{of.memberships.count()}")
    return login(manager).get(at(of, name, *more)).content.decode()


def raters(of: Programme) -> list[Rater]:
    return list(Rater.objects.filter(programme=of, kind="person").order_by("pk"))


def test_each_part_says_what_to_do_and_its_table_what_the_picture_does(of: Programme) -> None:
    manager = member(of, Role.MANAGER, "manager")
    page = login(manager).get(at(of))
    shown = {one.name: one for one in page.context["sections"]}
    assert list(shown) == [
        "agreement", "others", "ceiling", "attributes", "rankings", "sources", "time", "batches",
        "groups-0", "groups-0-likes", "groups-1",
    ]  # fmt: skip
    for one in shown.values():
        assert one.do.endswith((".", "?")), one.name
        assert one.note
        assert all(len(row) == len(one.columns) for row in one.rows), one.name
    table = dict(zip(shown["others"].columns, zip(*shown["others"].rows, strict=True), strict=True))
    names = list(table.values())
    assert names[1][1:] == ("73%", "77%", "63%", "66%", "62%")
    assert names[2][1] == "71% to 74%"
    points = shown["others"].chart
    assert points is not None
    assert [round(value or 0, 1) for value in points.values][1:] == [72.6, 77.3, 63.0, 65.7, 62.2]
    assert shown["ceiling"].rows[1][1] == "—"
    assert "<strong>" in page.content.decode()


def test_the_ceiling_is_that_of_the_agreement() -> None:
    of = programme()
    work = batch(of)
    four = people(of, 2)
    for number in range(20):
        one = item(work)
        say(one, four[0], {"strength": 2})
        say(one, four[1], {"strength": 2 if number < 18 else -2})
    found = {one.name: one for one in login(member(of, Role.MANAGER, "manager")).get(at(of)).context["sections"]}
    assert found["ceiling"].rows[0][1] == "90%"
    assert found["ceiling"].rows[1][2] == "90% to 95%"  # 0.9, and (1 + sqrt(0.8)) / 2 = 0.947
    assert found["agreement"].rows[0][1] == "90%"


def test_who_needs_attention_comes_first_and_nothing_happens_to_them(of: Programme) -> None:
    flipper, left = raters(of)[FLIPPER], raters(of)[LEFT]
    manager = member(of, Role.MANAGER, "manager")
    page = login(manager).get(at(of))
    pointed = {found.pk: card for found, _name, card in page.context["pointed"]}
    assert next(iter(pointed)) in (flipper.pk, left.pk)
    assert pointed[flipper.pk].weight == "act"
    rows = login(manager).get(at(of, "raters")).context["rows"]
    weights = [weight for *_rest, weight in rows]
    assert weights == sorted(weights, key=lambda one: {"act": 0, "look": 1}.get(one, 2))
    assert {row.rater.pk for row, _n, _h, weight in rows if weight == "act"} == {
        key for key, card in trust.look(of).cards().items() if card.weight == "act"
    }
    own = login(manager).get(at(of, "rater", flipper.pk)).content.decode()
    assert "Pause them and go through the failed gold together" in own
    assert "Right on gold" in own
    assert not Rater.objects.filter(programme=of, paused__isnull=False).exists()
    assert "nothing happens by itself" in page.content.decode()


def test_raters_and_adjudicators_never_see_it(of: Programme) -> None:
    one = raters(of)[0]
    assert one.account is not None
    add_member(of, one.account, Role.RATER, actor=None)
    for who in (one.account, member(of, Role.ADJUDICATOR, "adjudicator")):
        for name, *more in (("trust",), ("trust_part",), ("trust_picture", "agreement")):
            assert login(who).get(at(of, name, *more)).status_code == 403
    me = login(one.account).get(at(of, "me")).content.decode()
    assert "Trust" not in me
    assert "talk now" not in me
    assert login(None).get(at(of)).status_code == 302


def test_what_raters_said_of_one_item_and_who_is_in_a_group_stand_nowhere(of: Programme) -> None:
    page = read(of)
    assert "young" in page
    keys = {str(key) for key in Judgment.objects.filter(programme=of).values_list("item", flat=True)}
    assert not any(key in page for key in keys)
    assert "town" not in page  # fourteen answers of one rater each
    numbers = re.findall(r"<section[^>]*aria-labelledby=\"trust-groups-0\".*?</section>", page, re.S)
    assert ">6<" not in numbers[0]
    assert ">8<" not in numbers[0]


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ({"young": 10, "old": 12, "": 0}, {"young", "old"}),
        ({"young": 6, "old": 8, "": 0}, {"old"}),  # young are hidden, else nobody would prefer not to say
        ({"young": 8, "old": 12, "": 1}, {"young", "old"}),  # young and the rest are nine: the rest may be four
        ({"young": 8, "old": 12, "": 0}, {"old"}),
        ({"a": 9, "b": 9, "c": 2, "": 6}, {"a", "b"}),
        ({"a": 3, "b": 2, "": 0}, set()),
    ],
)
def test_what_the_table_of_groups_hides_is_not_given_away(counts: dict[str, int], told: set[str]) -> None:
    shown, total = suppress(counts)
    rows = tuple(Group(answer, count, None) for answer, count in shown.items())
    assert trust.tellable(GroupTable("q", total, rows), counts) == told


def test_words_of_people_are_text() -> None:
    of = programme()
    work, other = batch(of, name=HOSTILE[:100]), batch(of, name="plain")
    crowd = people(of, 12)
    crowd[0].account.display_name = HOSTILE  # type: ignore[union-attr]
    crowd[0].account.save()  # type: ignore[union-attr]
    of.settings = {"group_questions": [{"name": "g", "question": HOSTILE, "answers": ["<i>x</i>", "y"]}]}
    of.save()
    for place, who in enumerate(crowd):
        GroupAnswer.objects.create(rater=who, question="g", answer="<i>x</i>" if place % 2 else "y")
    for number in range(24):
        one = item(work if number < 12 else other, policies=["<b>p</b>", "q"])
        for place in range(12):
            side = 1 if place == 0 else number % 3 - 1
            say(one, crowd[place], {"strength": -2 * side})
    page = read(of) + read(of, "raters") + read(of, "rater", crowd[0].pk)
    assert "&lt;script&gt;" in page
    for bad in ("<script>alert", "<img src=x", "<i>x</i>", "<b>p</b>"):
        assert bad not in page


def test_pictures_come_without_script_and_are_told_when_they_are_the_same(of: Programme) -> None:
    client = login(member(of, Role.MANAGER, "manager"))
    page = client.get(at(of)).content.decode()
    addresses = [one.replace("&amp;", "&") for one in re.findall(r'src="([^"]+\.svg[^"]+)"', page)]
    assert len(addresses) == 9
    for address in addresses:
        got = client.get(address)
        assert (got.status_code, got["Content-Type"]) == (200, "image/svg+xml")
        assert b"<script" not in got.content
        assert client.get(address, headers={"if-none-match": got["ETag"]}).status_code == 304
    for path in ("nonsense", "rankings"):
        assert client.get(at(of, "trust_picture", path)).status_code == 404
    assert client.get(at(of, "trust_picture", "agreement"), {"theme": "pink"}).status_code == 404


def ages(of: Programme) -> dict[str, int]:
    """Groups by age that are told of, and their raters who judged."""
    found = trust.look(of).found.groups
    assert found is not None
    return dict(next(one.raters for one in found if one.question == "age"))


def asked(act: Any) -> int:
    with CaptureQueriesContext(connection) as captured:
        act()
    return len(captured.captured_queries)


def test_a_refresh_without_news_costs_three_lookups_and_news_are_seen_at_once(of: Programme) -> None:
    first = asked(lambda: trust.look(of))
    assert first <= 16
    assert asked(lambda: trust.look(of)) == 3
    before = trust.look(of).found.judgments
    one = item(batch(of))
    say(one, raters(of)[0], {"strength": 1})
    assert trust.look(of).found.judgments == before + 1
    assert "young" in ages(of)
    GroupAnswer.objects.filter(rater=raters(of)[0]).update(answer="")
    assert ages(of)["young"] == 5
    erasure.erase_rater(raters(of)[1], actor=None)
    assert "young" not in ages(of)


def test_a_look_takes_in_the_newest_alone_and_asks_no_more_for_it(
    of: Programme, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = asked(lambda: trust.look(of))
    assert trust.look(of).whole
    trust.forget()
    monkeypatch.setattr(trust, "NEWEST", 100)
    assert asked(lambda: trust.look(of)) <= whole + 2
    told = trust.look(of)
    assert (told.found.judgments, told.whole) == (100, False)
    assert "newest 100 judgments" in read(of)


def test_nothing_yet_is_said() -> None:
    of = programme()
    assert "Nobody has compared, ranked or scored anything yet." in read(of)
    say(item(batch(of)), rater(of), {"strength": 1})
    assert "Nothing was judged by two raters" in read(of)


@pytest.mark.parametrize(
    ("language", "title"), [("vi", "Có tin được các nhãn không?"), ("zh-hans", "这些标注可信吗？")]
)
def test_it_speaks_the_language(of: Programme, language: str, title: str) -> None:
    manager = member(of, Role.MANAGER, "manager")
    manager.language = language
    manager.save()
    client = login(manager)
    page = client.get(at(of)).content.decode() + client.get(at(of, "rater", raters(of)[FLIPPER].pk)).content.decode()
    assert title in page
    for english in ("Talk to", "Pause them", "No reward model", "raters agree", "Nobody", "expectation", "label"):
        assert english not in re.sub(r"<[^>]+>", "", page), english
