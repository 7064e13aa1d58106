"""Judging without a browser: what forms say, drafts, skips, undone answers, gold; and what a page does not tell."""

from __future__ import annotations

import json
import re
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from feedback_factories import account, batch, item, open_batch, programme, rater
from feedback_quality import at, at_work, days, gold_item
from heedful.feedback import assignment as work
from heedful.feedback import clock, gold, payloads, programmes
from heedful.feedback.models import (
    Assignment,
    Batch,
    CurrentJudgment,
    Draft,
    Item,
    Judgment,
    Programme,
    Purpose,
    Skip,
    Slot,
    TaskKind,
)
from heedful.studio import answers
from heedful.studio.rating_words import skips
from rating_page import JSON, A, Page

pytestmark = pytest.mark.django_db


@pytest.fixture
def of() -> Programme:
    return programme("Everyday questions")


@pytest.fixture
def page(of: Programme) -> Page:
    return Page(rater(of))


# --- judgments ---

SAID = [
    (TaskKind.PAIRWISE, {"choice": "-3"}, {"strength": -3}),
    (TaskKind.PAIRWISE, {"choice": "bad"}, {"strength": 0, "both_bad": True}),
    (TaskKind.PAIRWISE, {"choice": "good"}, {"strength": 0, "both_good": True}),
    (TaskKind.RANKING, {"rank-0": "2", "rank-1": "1", "rank-2": "2"}, {"ranks": [2, 1, 2]}),
    (TaskKind.RANKING, {"rank-0": "1", "rank-1": "3", "rank-2": "1"}, {"ranks": [1, 3, 1]}),
    (TaskKind.RANKING, {"rank-0": "1", "rank-1": "2", "rank-2": "1"}, {"ranks": [1, 3, 1]}),
    (
        TaskKind.ATTRIBUTES,
        {f"score-{i}-{name}": str(1 + i) for i in range(3) for name in ("helpful", "honest")},
        {"scores": [{"helpful": 1 + i, "honest": 1 + i} for i in range(3)]},
    ),
]


@pytest.mark.parametrize(("kind", "fields", "shown"), SAID)
def test_what_a_form_says_is_kept_in_the_items_own_order(
    kind: str, fields: dict[str, str], shown: dict[str, Any], of: Programme, page: Page
) -> None:
    item(batch(of), kind=kind, completions=2 if kind == TaskKind.PAIRWISE else 3)
    task = page.next()
    at_work(Assignment.objects.get(pk=task[A]), 1500)
    reply = page.submit(task, rationale="It is <b>true</b>\r\nand short", safety="on", **fields)
    assert reply.json() == {"html": "", "last": task[A], "today": 1}
    kept = Judgment.objects.get()
    wanted = {"both_bad": False, "both_good": False} | shown if kind == TaskKind.PAIRWISE else shown
    assert payloads.to_shown(kind, kept.payload, kept.order) == wanted
    assert kept.rationale.text == "It is <b>true</b>\nand short"
    assert kept.safety_flag
    assert kept.active_ms == 1500


@pytest.mark.parametrize("kind", [TaskKind.DEMONSTRATION, TaskKind.EDIT])
def test_what_is_written_is_kept(kind: str, of: Programme, page: Page) -> None:
    item(batch(of), kind=kind, completions=kind == TaskKind.EDIT)
    task = page.next()
    assert page.submit(task, text=" ").status_code == 400
    assert page.submit(task, text="Better.\r\nYes").status_code == 200
    kept = Judgment.objects.get()
    written = kept.demonstration if kind == TaskKind.DEMONSTRATION else kept.edit
    assert written.completion.text == "Better.\nYes"
    assert written.completion.author == page.rater


def test_an_edit_begins_with_the_text_itself(of: Programme, page: Page) -> None:
    text = "\n</textarea><script>alert(1)</script>"
    item(batch(of), kind=TaskKind.EDIT, answers=[text])
    task = page.next()
    assert "data-own-text>\n\n&lt;/textarea&gt;&lt;script&gt;alert(1)" in task["html"]
    reply = page.submit(task, text=text)
    assert (reply.status_code, reply.json()["where"]) == (400, "text")


def test_one_submission_is_one_row_however_often_it_comes(of: Programme, page: Page) -> None:
    open_batch(of, 2)
    task = page.next()
    first, again = (page.submit(task, choice="2") for _ in range(2))
    assert first.json() == again.json()
    assert Judgment.objects.count() == 1
    other = page.submit(task, choice="1")
    assert (other.status_code, other.json()["where"]) == (409, "key")
    late = page.submit(task, choice="2", key="another tab")
    assert late.status_code == 409
    assert late.json()["error"] == "This item is submitted already."
    assert Judgment.objects.count() == 1


def test_a_submission_of_what_was_not_shown_is_refused(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    Item.objects.update(version=2)
    assert page.submit(task, choice="1").status_code == 409
    assert not Judgment.objects.exists()


WRONG = [
    ({"fields": {}}, "choice"),
    ({"fields": {"choice": "4"}}, "strength"),
    ({"fields": {"choice": "much"}}, "choice"),
    ({"fields": {"choice": 1}}, "fields.choice"),
    ({"fields": ["choice"]}, "fields"),
    ({"fields": {"choice": "1"}, "version": None}, "version"),
    ({"fields": {"choice": "1"}, "version": "x"}, "version"),
    ({"fields": {"choice": "1"}, "version": True}, "version"),
    ({"fields": {"choice": "1"}, "version": 1, "key": ""}, "key"),
    ({"fields": {"choice": "1"}, "version": 1, "key": 7}, "key"),
    ({"fields": {"choice": "1"}, "version": 1, "key": "k", "active_ms": -1}, "active_ms"),
    ({"fields": {"choice": "1"}, "version": 1, "key": "k", "active_ms": "soon"}, "active_ms"),
    ({"fields": {"choice": "1", "rationale": "a\0b"}, "version": 1, "key": "k"}, "rationale"),
]


@pytest.mark.parametrize(("body", "where"), WRONG)
def test_a_wrong_submission_names_the_field(body: dict[str, Any], where: str, of: Programme, page: Page) -> None:
    open_batch(of, 1)
    reply = page.ask("rate_submit", page.next()[A], **({"version": 1, "key": "k"} | body))
    assert (reply.status_code, reply.json()["where"]) == (400, where)
    assert not Judgment.objects.exists()


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "null", "\udc80".encode("utf-8", "surrogatepass")])
def test_a_body_that_is_no_object_is_refused(body: Any, of: Programme, page: Page) -> None:
    for name in ("rate_next", "rate_show", "rate_beat", "rate_draft", "rate_submit", "rate_skip", "rate_undo"):
        open_batch(of, 1)
        url = page.url(name) if name == "rate_next" else page.url(name, page.next()[A])
        reply = page.client.post(url, body, **JSON)
        assert (reply.status_code, reply.json()["where"]) == (400, "body")


def test_a_reason_may_be_required() -> None:
    page = Page(rater(programme(require_rationale=True)))
    open_batch(page.of, 1)
    task = page.next()
    assert "(needed)" in task["html"]
    reply = page.submit(task, choice="1")
    assert (reply.status_code, reply.json()["where"]) == (400, "rationale")
    assert page.submit(task, choice="1", rationale="because").status_code == 200


def test_late_work_is_kept(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    with at(clock.now() + days(1)):
        Page(rater(of)).next()
        assert page.ask("rate_beat", task[A], active_ms=100).json() == {"held": False}
        draft = page.ask("rate_draft", task[A], fields={"choice": "1"}, revision=0, active_ms=200)
        assert draft.json() == {"revision": 1, "held": False}
        assert page.submit(task, choice="1").status_code == 200
    assert Judgment.objects.get().surplus


# --- without JavaScript ---


def test_a_comparison_works_as_a_plain_form(of: Programme, page: Page) -> None:
    open_batch(of, 2)
    url = page.url("rate")
    assert page.client.post(page.url("rate_next")).url == url
    content = page.client.get(url).content.decode()
    action = re.search(r'<form class="task[^"]*" method="post" action="([^"]+)"', content)
    key, version = (re.search(rf'name="{name}" value="([^"]+)"', content) for name in ("key", "version"))
    assert action
    assert key
    assert version
    said = {"choice": "-2", "rationale": "clear", "key": key[1], "version": version[1]}
    assert page.client.post(action[1], {"key": key[1], "version": version[1]}, follow=True).status_code == 200
    assert not Judgment.objects.exists()
    for _ in range(2):
        assert page.client.post(action[1], said).url == url
    assert Judgment.objects.get().rationale.text == "clear"
    after = page.client.get(url).content.decode()
    assert action[1] not in after
    assert 'class="task kind-pairwise"' in after


def test_errors_of_a_plain_form_stand_on_the_page(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    reply = page.client.post(page.url("rate_submit", task[A]), {"key": "k", "version": 1}, follow=True)
    assert b"This is still open." in reply.content


# --- drafts, time ---


def test_drafts_go_on_from_one_another(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    key = page.next()[A]
    at_work(Assignment.objects.get(pk=key), 700)
    save = lambda revision, **fields: page.ask("rate_draft", key, fields=fields, revision=revision, active_ms=700)  # noqa: E731
    assert save(0, choice="1").json() == {"revision": 1, "held": True}
    assert save(1, choice="2", rationale="x").json() == {"revision": 2, "held": True}
    stale = save(1, choice="3")
    assert stale.status_code == 409
    assert stale.json()["mend"] == "Reload the page."
    again = page.next()
    assert again["fields"] == {"choice": "2", "rationale": "x"}
    assert (again["revision"], again["active_ms"]) == (2, 700)
    assert json.dumps("x") in page.client.get(page.url("rate")).content.decode()
    page.submit(again, choice="2")
    assert save(2, choice="3").status_code == 409
    assert not Draft.objects.exists()


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"fields": {}, "revision": "1"}, "revision"),
        ({"fields": {}}, "revision"),
        ({"revision": 0}, "fields"),
        ({"fields": {"a": "x" * 200_001}, "revision": 0}, "payload.fields.a"),
        ({"fields": {}, "revision": 0, "active_ms": 1.5}, "active_ms"),
    ],
)
def test_a_wrong_draft_names_the_field(body: dict[str, Any], where: str, of: Programme, page: Page) -> None:
    open_batch(of, 1)
    reply = page.ask("rate_draft", page.next()[A], **body)
    assert (reply.status_code, reply.json()["where"]) == (400, where)


def test_a_beat_renews_the_lease_and_counts_the_time(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    key = page.next()[A]
    before = Assignment.objects.get(pk=key).lease_until
    at_work(Assignment.objects.get(pk=key), 30_000)
    assert page.ask("rate_beat", key, active_ms=30_000).json() == {"held": True}
    found = Assignment.objects.get(pk=key)
    assert found.lease_until > before
    assert found.active_ms == 30_000
    assert page.ask("rate_beat", key, active_ms="x").status_code == 400


# --- skip, undo ---


def test_a_skip_goes_to_others(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    assert page.ask("rate_skip", task[A], reason="boring").json()["where"] == "reason"
    assert page.ask("rate_skip", task[A], reason="other", note=3).status_code == 400
    at_work(Assignment.objects.get(pk=task[A]), 900)
    assert page.ask("rate_skip", task[A], reason="language", note="Tamil?", active_ms=900).json()["today"] == 0
    made = Skip.objects.get()
    assert (made.reason, made.note, made.assignment.active_ms) == ("language", "Tamil?", 900)
    assert page.ask("rate_skip", task[A], reason="language").status_code == 200, "again changes nothing"
    assert page.next()["none"] == "done"
    assert Page(rater(of)).next()["kind"] == "pairwise"
    assert page.submit(task, choice="1").status_code == 409


def test_every_reason_has_words() -> None:
    assert [reason for reason, _ in skips()] == list(work.SKIP_REASONS)


@pytest.mark.parametrize(("kind", "fields", "shown"), SAID)
def test_an_undo_brings_the_item_back_as_it_was_filled(
    kind: str, fields: dict[str, str], shown: dict[str, Any], of: Programme, page: Page
) -> None:
    item(batch(of), kind=kind, completions=2 if kind == TaskKind.PAIRWISE else 3)
    task = page.next()
    said = fields | {"rationale": "so", "safety": "on"}
    last = page.submit(task, **said).json()["last"]
    back = page.ask("rate_undo", last, key="u").json()
    assert back[A] == task[A]
    assert back["fields"] == answers.filled(kind, shown, rationale="so", safety=True)
    assert (back["late"], back["today"], back["last"]) == (False, 0, None)
    assert page.ask("rate_undo", last, key="u").json()[A] == task[A], "a retry"
    nothing = page.ask("rate_undo", last, key="another")
    assert nothing.status_code == 409
    assert not CurrentJudgment.objects.exists()
    assert page.next()[A] == task[A]
    assert page.submit(task, key="k2", **fields).status_code == 200
    assert Judgment.objects.count() == 3


@pytest.mark.parametrize("kind", [TaskKind.DEMONSTRATION, TaskKind.EDIT])
def test_an_undone_text_comes_back(kind: str, of: Programme, page: Page) -> None:
    item(batch(of), kind=kind, completions=kind == TaskKind.EDIT)
    task = page.next()
    page.submit(task, text="mine")
    assert page.ask("rate_undo", task[A], key="u").json()["fields"] == {"text": "mine", "rationale": ""}


def test_an_undo_goes_back_further_and_the_item_at_hand_waits(of: Programme, page: Page) -> None:
    open_batch(of, 3)
    one = page.next()
    page.submit(one, choice="1", key="1")
    two = page.next()
    last = page.submit(two, choice="1", key="2").json()["last"]
    three = page.next()
    assert last == three["last"] == two[A]
    back = page.ask("rate_undo", two[A], key="u2").json()
    assert back["last"] == one[A]
    assert page.client.get(page.url("rate")).context["assignment"] == uuid.UUID(two[A])
    assert page.ask("rate_undo", one[A], key="u1").json()["last"] is None
    page.submit(one, choice="2", key="1b")
    assert page.next()[A] == two[A]
    page.submit(two, choice="2", key="2b")
    assert page.next()[A] == three[A]


def test_an_undo_of_surplus_work_says_that_it_is_late(of: Programme, page: Page) -> None:
    open_batch(of, 1)
    task = page.next()
    with at(clock.now() + days(1)):
        other = Page(rater(of))
        other.submit(other.next(), choice="1")
        page.submit(task, choice="1")
        assert page.ask("rate_undo", task[A], key="u").json()["late"] is True
        reply = page.client.post(page.url("rate_undo", task[A]), {"key": "u"}, follow=True)
        assert b"went back to the others" in reply.content


# --- gold ---


def _with_gold(training: bool) -> tuple[Page, Item]:
    page = Page(rater(programme(gold_rate=1.0), training_mode=training))
    made = batch(page.of)
    known = gold_item(made, item(made))
    gold.promote(known, [{"strength": [1, 3]}], "b says <why>", actor=account())
    item(made)
    return page, known


@pytest.mark.parametrize("training", [True, False])
def test_gold_is_explained_in_training_alone(training: bool) -> None:
    page, known = _with_gold(training)
    task = page.next()
    given = Assignment.objects.get(pk=task[A])
    assert given.item == known
    wrong = payloads.to_shown("pairwise", {"strength": -1}, given.order)["strength"]
    html = page.submit(task, choice=str(wrong)).json()["html"]
    assert ("b says &lt;why&gt;" in html) is training
    assert ("That differs from the key" in html) is training


def test_gold_without_a_script_is_explained_on_the_page() -> None:
    page, _ = _with_gold(True)
    task = page.next()
    said = {"choice": "0", "key": "k", "version": task["version"]}
    reply = page.client.post(page.url("rate_submit", task[A]), said)
    assert b"b says &lt;why&gt;" in reply.content


# --- blindness ---

MASK = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
TOKEN = re.compile(r'name="(csrfmiddlewaretoken|key)" value="[^"]+"')


def _bytes(made: Batch, order: list[int], **how: Any) -> list[bytes]:
    """What a new rater is sent of one item of the batch, ids and tokens masked: JSON and page."""
    made_for = Page(rater(made.programme))
    task = Assignment.objects.create(
        slot=Slot.objects.get(item__batch=made),
        item=Item.objects.get(batch=made),
        rater=made_for.rater,
        purpose=made.purpose,
        item_version=1,
        order=order,
        lease_until=clock.now() + days(1),
    )
    Slot.objects.filter(item__batch=made).update(state="leased", holder=task.pk, lease_until=clock.now() + days(1))
    replies = [made_for.ask("rate_next"), made_for.client.get(made_for.url("rate"))]
    assert str(task.pk).encode() in replies[0].content
    texts = [reply.content.decode() for reply in replies]
    return [
        MASK.sub("-", TOKEN.sub("-", text)).replace(made_for.rater.account.username, "-").encode() for text in texts
    ]


@pytest.mark.parametrize("kind", [TaskKind.PAIRWISE, TaskKind.RANKING, TaskKind.ATTRIBUTES])
def test_what_is_sent_says_nothing_of_where_an_answer_is_from(kind: str, of: Programme) -> None:
    question = [{"role": "user", "content": "Why?"}]
    one, other = batch(of), batch(of, purpose=Purpose.CHECK, priority=3, round=2)
    item(one, kind=kind, messages=question, answers=["x", "y"], policies=["secret-good", "secret-bad"])
    item(other, kind=kind, messages=question, answers=["y", "x"], policies=["secret-good", "secret-bad"], priority=4)
    sent, swapped = _bytes(one, [0, 1]), _bytes(other, [1, 0])
    assert sent == swapped
    for text in sent:
        assert b"secret" not in text
        assert b"purpose" not in text
        for key in Item.objects.values_list("pk", "prompt", "batch", "entries", "entries__completion"):
            assert not any(str(part).encode() in text for part in key)


def test_gold_looks_like_any_other(of: Programme) -> None:
    question = [{"role": "user", "content": "Why?"}]
    one, other = batch(of), batch(of)
    item(one, messages=question, answers=["x", "y"])
    known = item(other, messages=question, answers=["x", "y"])
    Item.objects.filter(pk=known.pk).update(purpose=Purpose.GOLD)
    assert _bytes(one, [0, 1]) == _bytes(other, [0, 1])


# --- the form's fields ---


@given(st.lists(st.integers(1, 9), min_size=2, max_size=9))
def test_any_ranks_become_ranks_that_the_store_keeps(given: list[int]) -> None:
    fields = {f"rank-{i}": str(rank) for i, rank in enumerate(given)}
    ranks = answers.payload_of(TaskKind.RANKING, fields, count=len(given))["ranks"]
    payloads.parse("ranking", {"ranks": ranks}, completions=len(given))
    for i, one in enumerate(given):
        for j, other in enumerate(given):
            assert (one < other) == (ranks[i] < ranks[j])


def test_consent_that_was_given_opens_the_work() -> None:
    page = Page(rater(programme(consent_text="# We keep what you say")))
    open_batch(page.of, 1)
    programmes.give_consent(page.rater)
    assert page.next()["kind"] == "pairwise"
