"""Whoever asks a dialogue's endpoint holds a short lease: gone with a server that died, renewed by one that waits."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from fake_endpoint import Endpoint, serving
from feedback_dialogues import talking
from feedback_factories import programme
from heedful.feedback import clock, dialogue, dialogue_asking, endpoints
from heedful.feedback.dialogue_items import choose
from heedful.feedback.models import Completion, Dialogue, DialogueTurn, Programme, Prompt

pytestmark = pytest.mark.django_db


@pytest.fixture
def fake() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


@pytest.fixture
def of() -> Programme:
    return programme(allow_private_addresses=True)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """later(seconds): the clock stands still, but for these steps."""
    at = clock.now()

    def step(seconds: float) -> None:
        nonlocal at
        at += timedelta(seconds=seconds)

    monkeypatch.setattr(clock, "now", lambda: at)
    return step


def states(of: Dialogue) -> list[str]:
    return [turn.state for turn in dialogue.state(of).turns]


class Stuck:
    """A policy that answers when it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()
        self.asked: list[int] = []

    def __call__(self, pin: Any, messages: Any, index: int, *, allow_private: bool) -> str:
        self.asked.append(index)
        assert self.let_go.wait(60)
        return f"late {index}"


@contextmanager
def asking(turn: DialogueTurn, policy: Stuck) -> Iterator[Future[bool]]:
    """A worker that waits for a stuck policy, in a thread of its own."""

    def act() -> bool:
        try:
            return dialogue_asking.fill(DialogueTurn.objects.get(pk=turn.pk), policy)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(act)
        try:
            until(lambda: len(policy.asked) == len(turn.order))
            yield run
        finally:
            policy.let_go.set()


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def texts(turn: DialogueTurn) -> list[str]:
    return [one.completion.text for one in turn.candidates.order_by("index")]


def test_a_turn_whose_worker_died_can_be_taken_seconds_later(
    of: Programme, fake: Endpoint, later: Callable[[float], None]
) -> None:
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    assert dialogue_asking.take(made)
    later(11)
    assert not dialogue_asking.take(made)
    assert not dialogue_asking.fill(made)
    assert (states(own), dialogue.state(own).waiting) == (["asking"], True)
    assert not fake.asked
    later(2)
    assert (states(own), dialogue.state(own).turns[0].failure) == (["lapsed"], "")
    assert dialogue_asking.fill(made)
    assert states(own) == ["choose"]
    assert len(fake.asked) == 2


def test_a_turn_that_nobody_ever_took_lapses_too(of: Programme, fake: Endpoint, later: Callable[[float], None]) -> None:
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    DialogueTurn.objects.update(created=clock.now())
    later(9)
    assert states(own) == ["asking"]
    later(2)
    assert states(own) == ["lapsed"]
    assert dialogue_asking.fill(made)


def test_what_a_dead_worker_kept_is_not_asked_again(
    of: Programme, fake: Endpoint, later: Callable[[float], None]
) -> None:
    own = talking(of, fake)
    fake.mode = "half"
    made = dialogue.say(own, "Hello?", key="1")
    dialogue_asking.fill(made)
    [came] = texts(made)
    fake.mode = "normal"
    assert dialogue_asking.take(made)
    later(13)
    assert states(own) == ["lapsed"]
    assert dialogue_asking.fill(made)
    assert len(fake.asked) == 3
    assert came in texts(made)
    assert Prompt.objects.count() == 2, "the dialogue's own, and one of both candidates"


@pytest.mark.django_db(transaction=True)
def test_two_workers_ask_the_endpoint_once(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    fake.delay = 0.1
    made = dialogue.say(own, "Hello?", key="1")
    barrier = threading.Barrier(3)

    def act() -> bool:
        barrier.wait()
        try:
            return dialogue_asking.fill(DialogueTurn.objects.get(pk=made.pk))
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        found = [run.result() for run in [pool.submit(act) for _ in range(3)]]
    assert any(found)
    assert len(fake.asked) == 2
    assert made.candidates.count() == 2


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_waits_keeps_its_turn(
    of: Programme, fake: Endpoint, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue_asking, "BEAT", 0.02)
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    with asking(made, Stuck()) as run:
        for _ in range(5):
            later(11)
            until(lambda: DialogueTurn.objects.get().asked_until == clock.now() + timedelta(seconds=12))
            assert dialogue_asking.take(made) is None
            assert states(own) == ["asking"]
    assert run.result()
    assert texts(made) == ["late 0", "late 1"]
    assert DialogueTurn.objects.get().asked_until is None


@pytest.mark.django_db(transaction=True)
def test_late_answers_count_where_nobody_asked_again(
    of: Programme, fake: Endpoint, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dialogue_asking, "BEAT", 60.0)
    made = dialogue.say(talking(of, fake), "Hello?", key="1")
    with asking(made, Stuck()) as run:
        later(100)
    assert run.result()
    assert texts(made) == ["late 0", "late 1"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("mode", ["normal", "half", "failing"])
def test_late_answers_are_dropped_where_another_asked_meanwhile(
    of: Programme, fake: Endpoint, later: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    monkeypatch.setattr(dialogue_asking, "BEAT", 60.0)
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    fake.mode = mode
    with asking(made, Stuck()) as run:
        later(13)
        filled = dialogue_asking.fill(made)
        before = (texts(made), states(own), DialogueTurn.objects.values().get())
    assert run.result() is filled is (mode == "normal")
    assert (texts(made), states(own), DialogueTurn.objects.values().get()) == before
    assert len(texts(made)) == {"normal": 2, "half": 1, "failing": 0}[mode]
    assert Completion.objects.count() == len(texts(made))
    fake.mode = "normal"
    assert dialogue_asking.fill(made)
    assert choose(made, 0, -1)
    assert not Completion.objects.filter(text__startswith="late").exists()


@pytest.mark.django_db(transaction=True)
def test_no_answer_is_kept_to_what_was_erased(of: Programme, fake: Endpoint) -> None:
    made = dialogue.say(talking(of, fake), "My name is Mai", key="1")
    with asking(made, Stuck()) as run:
        DialogueTurn.objects.update(text="", failure="")
    assert run.result() is False
    assert not Completion.objects.exists()
    assert "Mai" not in str(list(Prompt.objects.values()))


def test_an_endpoint_that_hangs_is_a_failure_and_is_asked_again(
    of: Programme, fake: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "SECONDS", 0.3)
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    fake.mode = "half hanging"
    assert not dialogue_asking.fill(made)
    [came] = texts(made)
    [shown] = dialogue.state(own).turns
    assert (shown.state, shown.answers, shown.failure) == ("failed", (), "the endpoint did not answer in time")
    fake.mode = "normal"
    monkeypatch.setattr(endpoints, "SECONDS", 60.0)
    assert dialogue_asking.fill(made)
    assert len(fake.asked) == 3
    assert came in dialogue.state(own).turns[0].answers


def test_nobody_waits_for_ever(of: Programme, fake: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialogue_asking, "BEAT", 0.01)
    monkeypatch.setattr(dialogue_asking, "LONGEST_WAIT", 0.05)
    own = talking(of, fake)
    stuck = Stuck()
    assert not dialogue_asking.fill(dialogue.say(own, "Hello?", key="1"), stuck)
    stuck.let_go.set()
    assert dialogue.state(own).turns[0].failure == "the endpoint did not answer in time"


def test_a_fault_of_the_studio_is_told_and_can_be_tried_again(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")

    def broken(*_: Any, **__: Any) -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        dialogue_asking.fill(made, broken)
    assert (states(own), DialogueTurn.objects.get().asked_until) == (["failed"], None)
    assert dialogue_asking.fill(made)
