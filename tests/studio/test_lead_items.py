"""The list of items with its filters and search, and what can be done on an item's page."""

from __future__ import annotations

import pytest
from django.urls import reverse
from lead_world import World, judge, judged, login, world

from feedback_factories import batch, item
from heedful.feedback.models import AuditEvent, GoldKey, Item

pytestmark = pytest.mark.django_db


@pytest.fixture
def full() -> World:
    return judged(world())


def found(of: World, **query: str) -> set[str]:
    """What the list shows for a filter."""
    answer = login(of.manager).get(of.at("items/"), query)
    assert answer.status_code == 200
    return {str(row.item.pk) for row in answer.context["rows"]}


def keys(*items: Item) -> set[str]:
    return {str(one.pk) for one in items}


def test_text_is_found_in_prompts_and_answers_in_any_script(full: World) -> None:
    thai = item(full.batch, text="Chuẩn bị phỏng vấn thế nào?", answers=["光合作用是什么", 'say "hi" \\ 100%_'])
    arabic = item(full.batch, text="الطقس والمناخ", answers=["one", "two"])
    assert found(full, q="phỏng vấn") == keys(thai)
    assert found(full, q="光合作用") == keys(thai)
    assert found(full, q='"hi" \\ 100%_') == keys(thai)
    assert found(full, q="المناخ") == keys(arabic)
    assert found(full, q=str(arabic.pk)) == keys(arabic)
    assert found(full, q="role") == set()  # of the messages' JSON, only what was said is searched
    for hostile in ("' OR 1=1 --", "%", "_", "\0", "\\", "{", '"]'):
        found(full, q=hostile)
    assert found(full, q="nothing has this") == set()


def test_filters_narrow_and_stay_in_the_address_of_the_next_page(full: World) -> None:
    other = batch(full.programme, name="Second", purpose="check")
    ranked = item(other, kind="ranking", completions=3)
    assert found(full, kind="ranking") == keys(ranked)
    assert found(full, batch=str(other.pk)) == keys(ranked)
    assert found(full, state="done") == keys(*full.items)
    assert found(full, purpose="check") == keys(ranked)
    assert found(full, batch=str(world().batch.pk)) == set()  # another programme's batch is no choice
    for _ in range(51):
        item(other)
    page = login(full.manager).get(full.at("items/"), {"purpose": "check"})
    assert "?purpose=check&amp;page=2" in page.content.decode()
    assert len(login(full.manager).get(full.at("items/"), {"purpose": "check", "page": "2"}).context["rows"]) == 2


def test_disagreement_and_flags_are_found() -> None:
    of = world(items=0)
    first, second = of.raters
    apart, alike, flagged = (item(of.batch) for _ in range(3))
    for which, strengths, unsafe in ((apart, (2, -1), False), (alike, (2, 1), False), (flagged, (1, 1), True)):
        for who, strength in zip((first, second), strengths, strict=True):
            held = judge(who, strength, safety_flag=unsafe)
            assert held.item_id == which.pk
    ranked = item(of.batch, kind="ranking", completions=3)
    from heedful.feedback import submission

    for who, ranks in ((first, [1, 2, 3]), (second, [3, 2, 1])):
        submission.record(ranked, who, {"ranks": ranks}, key=f"{who.pk}")
    assert found(of, disagreement="on") == keys(apart, ranked)
    assert found(of, flagged="on") == keys(flagged)


def test_the_page_shows_policies_votes_in_the_items_letters_and_history(full: World) -> None:
    client, path = login(full.manager), reverse("item", args=[full.slug, full.items[0].pk])
    client.post(path + "votes/")
    page = client.get(path).content.decode()
    assert "policy-0" in page
    assert "A better" in page
    assert "B better" in page
    assert "judgment submitted" in page


def test_an_item_is_parked_handed_out_again_withdrawn_and_reopened(full: World) -> None:
    client = login(full.manager)
    extra = item(full.batch)

    def act(which: Item, what: str) -> str:
        answer = client.post(reverse(f"item_{what}", args=[full.slug, which.pk]), follow=True)
        which.refresh_from_db()
        assert answer.status_code == 200
        return answer.content.decode()

    act(extra, "park")
    assert extra.state == "parked"
    act(extra, "unpark")
    assert extra.state == "open"
    assert "not parked" in act(extra, "unpark")
    act(extra, "withdraw")
    assert extra.state == "withdrawn"
    done = full.items[0]
    act(done, "reopen")
    assert (done.state, done.slots.filter(state="free").count()) == ("open", 1)
    kinds = set(AuditEvent.objects.filter(ids__item=str(extra.pk)).values_list("kind", flat=True))
    assert {"item.parked", "item.unparked", "item.withdrawn"} <= kinds


def test_promotion_takes_acceptable_answers_and_refuses_what_all_match(full: World) -> None:
    client, one = login(full.manager), full.items[0]
    path = reverse("item_gold", args=[full.slug, one.pk])
    every = client.post(path, {"low": "-3", "high": "3", "flag": "any", "reason": "Because."})
    assert (every.status_code, list(every.context["form"].errors)) == (422, ["low"])
    back = client.post(path, {"low": "2", "high": "1", "flag": "any", "reason": "Because."})
    assert list(back.context["form"].errors) == ["high"]
    mute = client.post(path, {"low": "1", "high": "3", "flag": "any", "reason": ""})
    assert list(mute.context["form"].errors) == ["reason"]
    assert client.post(path, {"low": "1", "high": "3", "flag": "any", "reason": "B is right."}).status_code == 302
    one.refresh_from_db()
    assert (one.purpose, one.gold_key.acceptable) == ("gold", [{"strength": [1, 3]}])
    also = {"low": "0", "high": "0", "flag": "both_bad", "reason": "Or neither.", "also": "on"}
    client.post(path, also)
    key = GoldKey.objects.get(item=one)
    assert key.acceptable == [{"strength": [1, 3]}, {"strength": [0, 0], "both_bad": True}]
    client.post(reverse("item_gold_retire", args=[full.slug, one.pk]))
    key.refresh_from_db()
    assert key.retired is not None


@pytest.mark.parametrize(
    ("kind", "sent", "pattern"),
    [
        ("ranking", {"best": ["0", "2"], "above_0": ["1"]}, {"best": [0, 2], "above": [[0, 1]]}),
        (
            "attributes",
            {"low_0_0": "4", "high_0_0": "5", "low_0_1": "1", "high_0_1": "5", "low_1_0": "1", "high_1_0": "5",
             "low_1_1": "1", "high_1_1": "5", "low_2_0": "1", "high_2_0": "5", "low_2_1": "1", "high_2_1": "5"},
            {"scores": {"0": {"helpful": [4, 5]}}},
        ),
    ],
)  # fmt: skip
def test_rankings_and_attributes_have_keys_of_their_own(kind: str, sent: dict[str, str], pattern: object) -> None:
    of = world(items=0)
    one = item(of.batch, kind=kind, completions=3)
    client, path = login(of.manager), reverse("item_gold", args=[of.slug, one.pk])
    every = {} if kind == "ranking" else sent | {"low_0_0": "1"}  # what any answer matches
    assert client.post(path, every | {"reason": "x"}).status_code == 422
    assert client.post(path, sent | {"reason": "It shows."}).status_code == 302
    assert GoldKey.objects.get(item=one).acceptable == [pattern]
    page = client.get(reverse("item", args=[of.slug, one.pk]))
    assert page.context["form"].initial["reason"] == "It shows."


def test_what_people_write_has_no_key(full: World) -> None:
    one = item(full.batch, kind="demonstration", completions=0)
    answer = login(full.manager).post(reverse("item_gold", args=[full.slug, one.pk]), {"reason": "x"}, follow=True)
    assert not GoldKey.objects.filter(item=one).exists()
    assert "right answers" in answer.content.decode()


def test_hostile_texts_are_words_on_every_page_that_shows_them(full: World) -> None:
    bad = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    one = item(full.batch, text=bad, answers=[bad, bad], policies=[bad, bad])
    client = login(full.manager)
    for path in (full.at("items/"), reverse("item", args=[full.slug, one.pk])):
        page = client.get(path).content.decode()
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;" in page
