"""Adjudication: the adjudicator judges before the votes are shown."""

from __future__ import annotations

import pytest
from django.urls import reverse
from lead_world import World, judge, login, member, world

from feedback_factories import item, rater
from heedful.feedback import adjudication as service
from heedful.feedback.models import Adjudication, Item, Judgment, Role

pytestmark = pytest.mark.django_db
WHY = "the reason that a rater gave"


@pytest.fixture
def disputed() -> World:
    of = world(items=1)
    judge(of.raters[0], 3, rationale=WHY)
    judge(of.raters[1], -2, rationale=WHY)
    return of


def at(of: World, name: str = "adjudicate", which: Item | None = None) -> str:
    return reverse(name, args=[of.slug, (which or of.items[0]).pk])


def saying(of: World, strength: int) -> dict[str, str]:
    """The form's answer for b over a, in the order that the adjudicator sees."""
    order = service.order_for(of.items[0], of.adjudicator)
    return {"strength": str(strength if order == [0, 1] else -strength)}


def test_no_vote_is_in_any_page_before_the_judgment(disputed: World) -> None:
    client = login(disputed.adjudicator)
    votes = Judgment.objects.filter(item=disputed.items[0])
    for path in (disputed.at("adjudication/"), at(disputed)):
        page = client.get(path).content.decode()
        assert WHY not in page
        assert "policy-" not in page
        assert not any(str(vote.pk) in page or str(vote.rater.pk) in page for vote in votes)
        assert "Rater 0" not in page
    client.post(at(disputed, "adjudicate_votes"))  # asked for too early: nothing happens
    client.post(at(disputed, "adjudicate_decide"), saying(disputed, 1) | {"reason": "x"})
    assert not Adjudication.objects.exists()
    assert WHY not in client.get(at(disputed)).content.decode()
    assert "raters disagree" in client.get(disputed.at("adjudication/")).content.decode()


def test_judge_then_votes_then_a_verdict_that_is_a_record_of_its_own(disputed: World) -> None:
    client = login(disputed.adjudicator)
    key = client.get(at(disputed)).context["key"]
    said = saying(disputed, 2) | {"key": key, "rationale": "First look."}
    assert client.post(at(disputed, "adjudicate_judge"), said).url == at(disputed)
    assert client.post(at(disputed, "adjudicate_judge"), said).status_code == 302  # sent twice
    made = Adjudication.objects.get()
    assert (made.verdict, made.votes_shown is not None, made.judgment.payload["strength"]) == (None, True, 2)
    page = client.get(at(disputed)).content.decode()
    assert page.count(WHY) == 2
    assert "policy-" not in page
    assert "Rater 0" not in page
    mute = client.post(at(disputed, "adjudicate_decide"), saying(disputed, 3))
    assert (mute.status_code, list(mute.context["decision"].errors)) == (422, ["reason"])
    client.post(at(disputed, "adjudicate_decide"), saying(disputed, 3) | {"reason": "B says how."})
    made.refresh_from_db()
    assert made.verdict == {"strength": 3, "both_bad": False, "both_good": False}
    assert made.judgment.payload["strength"] == 2
    votes = Judgment.objects.filter(item=disputed.items[0], adjudication=None).order_by("created")
    assert [vote.payload["strength"] for vote in votes] == [3, -2]
    manager, path = login(disputed.manager), reverse("item", args=[disputed.slug, disputed.items[0].pk])
    assert "B says how." not in manager.get(path).content.decode()
    manager.post(path + "votes/")
    assert "B says how." in manager.get(path).content.decode()
    assert "B much better" in client.get(disputed.at("adjudication/")).content.decode()


def test_reading_writes_nothing(disputed: World) -> None:
    client = login(disputed.adjudicator)
    client.get(at(disputed))
    made = service.judge_first(disputed.items[0], disputed.adjudicator, {"strength": 1}, "k")
    page = client.get(at(disputed)).content.decode()  # as after a crash between the judgment and the votes
    made.refresh_from_db()
    assert made.votes_shown is None
    assert WHY not in page
    client.post(at(disputed, "adjudicate_votes"))
    assert WHY in client.get(at(disputed)).content.decode()


def test_a_judgment_without_an_answer_is_refused_beside_its_field(disputed: World) -> None:
    answer = login(disputed.adjudicator).post(at(disputed, "adjudicate_judge"), {"key": "k"})
    assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["strength"])
    assert not Adjudication.objects.exists()


def test_who_judged_an_item_does_not_adjudicate_it(disputed: World) -> None:
    both = disputed.raters[0].account
    member(disputed.programme, Role.MANAGER, "somebody")
    from heedful.feedback.programmes import add_member

    add_member(disputed.programme, both, Role.ADJUDICATOR, actor=None)
    client = login(both)
    assert client.get(at(disputed)).status_code == 403
    assert client.post(at(disputed, "adjudicate_judge"), {"key": "k", "strength": "1"}).status_code == 403
    assert str(disputed.items[0].pk) not in client.get(disputed.at("adjudication/")).content.decode()


@pytest.mark.parametrize("kind", ["ranking", "attributes"])
def test_other_tasks_are_judged_in_the_order_shown(kind: str) -> None:
    of = world(items=0)
    one = item(of.batch, kind=kind, completions=3)
    of.items = [one]
    order = service.order_for(one, of.adjudicator)
    if kind == "ranking":
        sent = {"rank_0": "1", "rank_1": "3", "rank_2": "3"}  # a gap is settled: 1, 2, 2
        wanted = {"ranks": [0, 0, 0]}
        for place, rank in enumerate((1, 2, 2)):
            wanted["ranks"][order[place]] = rank
    else:
        sent = {f"score_{i}_{n}": str(i + 1) for i in range(3) for n in range(2)}
        rows: list[dict[str, int]] = [{}, {}, {}]
        for place in range(3):
            rows[order[place]] = {"helpful": place + 1, "honest": place + 1}
        wanted = {"scores": rows}  # type: ignore[dict-item]
    client = login(of.adjudicator)
    assert client.post(at(of, "adjudicate_judge"), sent | {"key": "k"}).status_code == 302
    assert Adjudication.objects.get().judgment.payload == wanted
    page = client.get(at(of))
    assert {name: page.context["form"][name].value() for name in sent} == (
        {"rank_0": "1", "rank_1": "2", "rank_2": "2"} if kind == "ranking" else sent
    )


def test_the_overview_counts_what_waits(disputed: World) -> None:
    rater(disputed.programme)
    words = [one.words for one in login(disputed.manager).get(disputed.at()).context["waiting"]]
    assert words == ["item waits for a verdict"]
