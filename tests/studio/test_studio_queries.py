"""What the next item and its submission ask of the database, over HTTP: a fixed number of statements."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from feedback_factories import batch, item, open_batch, programme, rater
from heedful.feedback.models import Draft, Programme, Prompt, Webhook
from rating_page import A, Page

pytestmark = pytest.mark.django_db
NEXT, SUBMIT = 22, 22
"""At most, for a rater at ordinary work; what begins and ends transactions aside."""
MARKS = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE")


def asked(act: Callable[[], Any]) -> tuple[Any, list[str]]:
    """What came of it, and the statements that it took."""
    with CaptureQueriesContext(connection) as captured:
        answer = act()
    found = [one["sql"] for one in captured.captured_queries]
    return answer, [sql for sql in found if not sql.startswith(MARKS)]


def judged(page: Page, **fields: str) -> tuple[list[str], list[str]]:
    """The statements of the next item, and of its submission."""
    task, first = asked(page.next)
    assert A in task
    reply, second = asked(lambda: page.submit(task, key=f"key {task[A]}", **({"choice": "0"} | fields)))
    assert reply.status_code == 200
    return first, second


def plain(of: Programme) -> Page:
    """A rater who has judged one of three items."""
    page = Page(rater(of))
    open_batch(of, 3)
    judged(page)
    return page


def test_an_item_and_its_judgment_take_a_fixed_number_of_statements() -> None:
    page = plain(programme())
    first, second = judged(page, rationale="Shorter.")
    assert len(first) <= NEXT, "\n".join(first)
    assert len(second) <= SUBMIT, "\n".join(second)


def test_nothing_is_asked_twice() -> None:
    first, second = judged(plain(programme()))
    assert len(set(first)) == len(first)
    assert len(set(second)) == len(second)


def _past(of: Programme, page: Page) -> None:
    """The rater has judged a score of items, passed some and drafted others."""
    open_batch(of, 26, priority=1)
    for number in range(24):
        task = page.next()
        if number % 6 == 0:
            page.ask("rate_skip", task[A], reason="other")
            continue
        page.ask("rate_draft", task[A], fields={"choice": "1"}, revision=0, active_ms=1)
        page.submit(task, key=f"k{number}", choice="1")
    assert not Draft.objects.exists()


def _others(of: Programme, page: Page) -> None:
    """Others judge at the same time."""
    work = open_batch(of, 12, quota=6, priority=1)
    for other in (Page(rater(of)) for _ in range(5)):
        for _ in range(4):
            other.submit(other.next(), key="k", choice="2")
        other.next()
    assert work.slots.filter(state="done").exists()


def _batches(of: Programme, page: Page) -> None:
    """Batches come first in which nothing is left, and others later."""
    for _ in range(8):
        open_batch(of, 0, priority=5)
        open_batch(of, 2)


def _long(of: Programme, page: Page) -> None:
    """The next item has nine answers to a long conversation."""
    turns = [{"role": role, "content": f"{i}"} for i in range(10) for role in ("user", "assistant")]
    item(batch(of, priority=1), completions=9, kind="ranking", messages=[*turns, {"role": "user", "content": "?"}])


def _routes(of: Programme, page: Page) -> None:
    """Items stand in many queues."""
    work = batch(of, priority=1)
    for language in ("en", "vi", "zh", "fr", "de", "es"):
        for expertise in ("", "law", "medicine"):
            item(work, language=language, expertise=expertise)
    page.rater.expertise = ["law"]
    page.rater.save()


@pytest.mark.parametrize("more", [_past, _others, _batches, _long, _routes])
def test_the_number_does_not_grow(more: Callable[[Programme, Page], None]) -> None:
    of = programme()
    page = plain(of)
    few = judged(page)
    more(of, page)
    fields = {f"rank-{i}": str(i + 1) for i in range(9)} if more is _long else {}
    many = judged(page, **fields)
    for fewer, some in zip(few, many, strict=True):
        assert len(some) <= len(fewer), "\n".join(some)


def test_a_webhook_costs_one_look_and_one_delivery_an_event() -> None:
    of = programme()
    page = plain(of)
    few = sum(map(len, judged(page)))
    for number in range(3):
        Webhook.objects.create(programme=of, url=f"https://example.org/{number}", secret="s" * 32)
    many = judged(page)
    events = sum("INSERT INTO" in sql and "feedback_auditevent" in sql for some in many for sql in some)
    assert events >= 3
    assert sum(map(len, many)) == few + 2 * events


def test_a_programme_s_guideline_is_read_once() -> None:
    page = plain(programme())
    assert not any('FROM "feedback_guideline"' in sql for some in judged(page) for sql in some)


def test_prompts_that_a_rater_opted_out_of_are_left_out_by_the_database() -> None:
    of = programme()
    who = rater(of, excluded_categories=["violence", "medical"])
    page = Page(who)
    work = open_batch(of, 60)
    Prompt.objects.filter(programme=of).update(categories=["travel", "violence"])
    last = item(work)
    task, some = asked(page.next)
    assert task[A] == str(last.assignments.get().pk)
    assert len(some) <= NEXT + 5, "no look a few at a time"
    page.submit(task, key="k", choice="0")
    reply, some = asked(page.next)
    assert reply["none"] == "done"
    assert len(some) <= NEXT
