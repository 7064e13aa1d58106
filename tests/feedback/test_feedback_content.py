"""Batches and items coming in: all or nothing, and never seen before they are whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from feedback_factories import programme, rater
from heedful.data.records import Message, prompt_key
from heedful.errors import HeedfulError
from heedful.feedback import assignment, content, submission
from heedful.feedback.models import (
    AuditEvent,
    Batch,
    Completion,
    Item,
    ItemCompletion,
    Programme,
    Prompt,
    Slot,
)
from heedful.feedback.programmes import publish_guideline
from heedful.feedback.replay import difference, replay
from heedful.feedback.rubric import attributes_of
from heedful.feedback.texts import LONGEST_CONTENT, clean, clean_json

ASK = [{"role": "user", "content": "Which?"}]
TWO = [content.NewCompletion("a", policy="p"), content.NewCompletion("b")]
GOOD = content.NewItem(ASK, TWO, "pairwise")


def staged(of: Programme | None = None, **over: Any) -> Batch:
    return content.create_batch(of or programme(), "b", **over)


@pytest.mark.django_db
def test_items_keep_all_that_came_with_them() -> None:
    made = staged(purpose="check", round=3, quota=2, quota_cap=3, priority=4, source_sha256="f" * 64)
    answers = [
        content.NewCompletion("a", policy="sft", sampling={"temperature": 0.7}, source={"row": 1}),
        content.NewCompletion("b"),
    ]
    messages = [{"role": "system", "content": ""}, *ASK]
    new = content.NewItem(
        messages, answers, "pairwise", language="vi", expertise="law", categories=["violence"], priority=2,
        source={"file": "x.csv", "line": 7},
    )  # fmt: skip
    assert content.add_items(made, [new, GOOD]) == 2
    first, second = Item.objects.filter(batch=made).order_by("position")
    assert (first.prompt.messages, first.prompt.categories, first.prompt.source) == (
        messages,
        ["violence"],
        {"file": "x.csv", "line": 7},
    )
    assert [entry.completion.text for entry in first.entries.all()] == ["a", "b"]
    kept = first.entries.all()[0].completion
    assert (kept.policy, kept.sampling, kept.source) == ("sft", {"temperature": 0.7}, {"row": 1})
    assert (first.purpose, first.language, first.expertise, first.priority) == ("check", "vi", "law", 2)
    assert second.prompt.key == prompt_key((Message("user", "WHICH"),))
    assert not Slot.objects.exists()
    assert assignment.next_assignment(rater(made.programme)) is None
    content.open_batch(made, actor=made.programme.memberships.get(role="admin").account)
    assert set(Slot.objects.values_list("item", "route", "priority")) == {
        (first.pk, "vi|law", 2),
        (second.pk, "", 0),
    }
    assert Slot.objects.count() == 4
    content.open_batch(made)
    assert Slot.objects.count() == 4
    assert AuditEvent.objects.filter(kind="batch.opened").count() == 1


def _with(**over: Any) -> content.NewItem:
    return replace(GOOD, **over)


WRONG: list[tuple[content.NewItem, str]] = [
    (_with(messages=[]), "messages"),
    (_with(messages=[{"role": "assistant", "content": "x"}]), "messages"),
    (_with(messages=[{"role": "robot", "content": "x"}]), "messages[0].role"),
    (_with(messages=[{"role": "user", "content": "  "}]), "messages[0].content"),
    (_with(messages=[{"role": "user", "content": "a\0b"}]), "messages[0].content"),
    (_with(messages=[{"role": "user", "content": 5}]), "messages[0].content"),
    (_with(messages=[{"role": "user"}]), "messages[0]"),
    (_with(completions=[]), "completions"),
    (_with(completions=TWO * 2), "completions"),
    (_with(kind="ranking", completions=TWO * 5), "completions"),
    (_with(kind="demonstration"), "completions"),
    (_with(kind="edit"), "completions"),
    (_with(kind="guess"), "kind"),
    (_with(completions=[TWO[0], content.NewCompletion("\ud800")]), "completions[1].text"),
    (_with(completions=[TWO[0], content.NewCompletion("x" * (LONGEST_CONTENT + 1))]), "completions[1].text"),
    (_with(completions=[TWO[0], content.NewCompletion("x", policy="p" * 301)]), "completions[1].policy"),
    (_with(completions=[TWO[0], content.NewCompletion("x", source={"a": ["\0"]})]), "completions[1].source.a[0]"),
    (_with(source={"x": float("nan")}), "source.x"),
    (_with(language="a|b"), "language"),
    (_with(language="@x"), "language"),
    (_with(expertise="x" * 61), "expertise"),
    (_with(categories=[""]), "categories[0]"),
    (_with(priority=1001), "priority"),
    (_with(priority=True), "priority"),
    (_with(named_raters=["nobody"]), "named_raters[0]"),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("new", "field"), WRONG, ids=[f"{n}-{field}" for n, (_, field) in enumerate(WRONG)])
@pytest.mark.parametrize("state", ["staged", "open"])
def test_one_wrong_item_keeps_all_out_and_is_named(new: content.NewItem, field: str, state: str) -> None:
    made = staged()
    Batch.objects.filter(pk=made.pk).update(state=state)
    with pytest.raises(HeedfulError) as found:
        content.add_items(made, [GOOD, new, GOOD])
    assert found.value.where == f"item 2, {field}"
    assert not Item.objects.exists()
    assert not Prompt.objects.exists()


@pytest.mark.django_db
def test_named_raters_are_the_programmes_and_enough_and_authors_too() -> None:
    of = programme()
    own, foreign = rater(of), rater(programme())
    for new, field in (
        (_with(named_raters=[foreign.pk]), "named_raters[0]"),
        (_with(named_raters=[own.pk]), "named_raters"),
        (_with(completions=[content.NewCompletion("a", author=foreign), TWO[1]]), "completions[0].author"),
    ):
        with pytest.raises(HeedfulError) as found:
            content.add_items(staged(of, quota=2), [new])
        assert found.value.where == f"item 1, {field}"
    rubric = publish_guideline(of, "# none", author=None, attributes=[])
    with pytest.raises(HeedfulError, match="no attributes") as found:
        content.add_items(staged(of, guideline=rubric), [_with(kind="attributes")])
    assert found.value.where == "item 1, kind"


@pytest.mark.django_db
def test_a_failure_in_the_middle_leaves_nothing_of_a_staged_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    made = staged()
    content.add_items(made, [GOOD])
    monkeypatch.setattr(content, "CHUNK", 2)
    write = content._write
    calls = []

    def fail(batch: Batch, rows: Any) -> Any:
        calls.append(len(rows))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return write(batch, rows)

    monkeypatch.setattr(content, "_write", fail)
    with pytest.raises(KeyboardInterrupt):
        content.add_items(made, [GOOD] * 7)
    assert calls == [2, 2, 2]
    for model, count in ((Item, 1), (Prompt, 1), (Completion, 2), (ItemCompletion, 2)):
        assert model._default_manager.count() == count


@pytest.mark.django_db
def test_opening_goes_on_where_it_was_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    made = staged(quota=2)
    content.add_items(made, [GOOD] * 5)
    monkeypatch.setattr(content, "CHUNK", 2)
    make = content.slots.make
    calls = []

    def fail(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return make(*given)

    monkeypatch.setattr(content.slots, "make", fail)
    with pytest.raises(KeyboardInterrupt):
        content.open_batch(made)
    assert Batch.objects.get(pk=made.pk).state == "staged"
    assert Slot.objects.count() == 4
    content.open_batch(made)
    assert Slot.objects.count() == 10
    assert Batch.objects.get(pk=made.pk).state == "open"


@pytest.mark.django_db
def test_items_added_to_an_open_batch_are_handed_out() -> None:
    made = staged()
    with pytest.raises(HeedfulError, match="no items"):
        content.open_batch(made)
    content.add_items(made, [GOOD])
    content.open_batch(made)
    content.add_items(made, [GOOD, GOOD])
    assert list(Slot.objects.order_by("position").values_list("item__position", flat=True)) == [0, 1, 2]
    content.pause_batch(made)
    content.add_items(made, [GOOD])
    assert Slot.objects.count() == 4
    content.close_batch(made)
    with pytest.raises(HeedfulError, match="closed"):
        content.add_items(made, [GOOD])
    assert AuditEvent.objects.filter(kind__in=("batch.opened", "batch.paused", "batch.closed")).count() == 3


@pytest.mark.django_db
@pytest.mark.parametrize("purpose", ["gold", "qualification", "calibration"])
def test_batches_for_one_rater_at_a_time_get_no_slots(purpose: str) -> None:
    made = staged(purpose=purpose)
    content.add_items(made, [GOOD])
    content.open_batch(made)
    assert not Slot.objects.exists()
    assert Item.objects.get().purpose == purpose


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("over", "where"),
    [
        ({"quota": 0}, "quota"),
        ({"quota": 3, "quota_cap": 2}, "quota_cap"),
        ({"purpose": "fun"}, "purpose"),
        ({"priority": 5000}, "priority"),
        ({"round": 0}, "round"),
        ({"quota": True}, "quota"),
    ],
)
def test_a_batch_with_an_odd_value_is_refused(over: dict[str, Any], where: str) -> None:
    with pytest.raises(HeedfulError) as found:
        staged(**over)
    assert found.value.where == where


@pytest.mark.django_db
def test_withdrawn_items_are_out_and_work_on_them_is_surplus() -> None:
    made = staged(quota=2)
    content.add_items(made, [GOOD])
    content.open_batch(made)
    who, other = rater(made.programme), rater(made.programme)
    held = assignment.next_assignment(who)
    assert held is not None
    only = Item.objects.get()
    content.withdraw_item(only)
    content.withdraw_item(only)
    assert (only.state, only.version) == ("withdrawn", 2)
    assert assignment.next_assignment(other) is None
    assert set(Slot.objects.values_list("state", flat=True)) == {"closed"}
    late = submission.submit(held, {"strength": 1}, key="k", item_version=2)
    assert late.surplus
    for act in (content.unpark_item, content.reopen_item):
        with pytest.raises(HeedfulError):
            act(only)
    assert difference(replay()) == []


@pytest.mark.django_db
def test_a_done_item_can_be_asked_for_once_more() -> None:
    made = staged()
    content.add_items(made, [GOOD])
    content.open_batch(made)
    who = rater(made.programme)
    held = assignment.next_assignment(who)
    assert held is not None
    only = Item.objects.get()
    with pytest.raises(HeedfulError):
        content.reopen_item(only)
    submission.submit(held, {"strength": 1}, key="k", item_version=1)
    content.reopen_item(only)
    assert (only.state, only.extra_slots) == ("open", 1)
    assert assignment.next_assignment(who) is None
    assert assignment.next_assignment(rater(made.programme)) is not None
    assert difference(replay()) == []


@pytest.mark.django_db
def test_parking_by_hand_and_back() -> None:
    made = staged(quota=2)
    content.add_items(made, [GOOD])
    content.open_batch(made)
    only = Item.objects.get()
    with pytest.raises(HeedfulError, match="not parked"):
        content.unpark_item(only)
    content.park_item(only)
    content.park_item(only)
    assert only.state == "parked"
    assert set(Slot.objects.values_list("state", flat=True)) == {"closed"}
    content.unpark_item(only)
    assert set(Slot.objects.values_list("state", "lane")) == {("free", 0)}
    assert difference(replay()) == []


@given(text=st.text(st.characters(exclude_categories=()), max_size=40))
def test_text_is_taken_just_when_both_databases_can_keep_it(text: str) -> None:
    fine = "\0" not in text and not any(0xD800 <= ord(letter) <= 0xDFFF for letter in text)
    if fine:
        assert clean(text, "field") == text
    else:
        with pytest.raises(HeedfulError, match=r"^field: "):
            clean(text, "field")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.just("x"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k") | st.just("l"), inner, max_size=2),
    max_leaves=8,
)


@given(value=JSON)
@settings(max_examples=50)
def test_json_comes_through_as_it_is(value: Any) -> None:
    assert clean_json(value, "field") == value


@pytest.mark.parametrize(
    ("value", "where"),
    [
        ({"a": [1, "\0"]}, "v.a[1]"),
        ({"\0": 1}, "v (a key)"),
        (float("inf"), "v"),
        ({"a": object()}, "v.a"),
        ({1: 2}, "v (a key)"),
    ],
)
def test_json_that_no_database_keeps_is_named(value: Any, where: str) -> None:
    with pytest.raises(HeedfulError) as found:
        clean_json(value, "v")
    assert found.value.where == where
    nested: Any = 1
    for _ in range(30):
        nested = [nested]
    with pytest.raises(HeedfulError, match="too deep"):
        clean_json(nested, "v")


def test_attributes_of_a_rubric_are_whole() -> None:
    assert attributes_of([{"name": "kind"}]) == [
        {"name": "kind", "question": "", "low": "", "high": "", "title": "kind", "points": 5}
    ]
    for given_, where in (
        ([{}], "attributes[0].name"),
        ([{"name": "a b"}], "attributes[0].name"),
        ([{"name": "a"}, {"name": "a"}], "attributes[1].name"),
        ([{"name": "a", "points": 1}], "attributes[0].points"),
        ([{"name": "a", "points": True}], "attributes[0].points"),
        ([{"name": "a", "scale": 3}], "attributes[0]"),
        (["a"], "attributes[0]"),
    ):
        with pytest.raises(HeedfulError) as found:
            attributes_of(given_)  # type: ignore[arg-type]
        assert found.value.where == where
