"""A dialogue whose server is killed while its policy answers: the same turn goes on soon, and nothing is doubled."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.utils import timezone
from studio_process import Session, Studio, scratch, store, studio

import dialogue_store
from fake_endpoint import Endpoint, serving
from heedful.feedback.databases import opened
from heedful.feedback.models import Completion, DialogueCandidate, DialogueTurn, PolicyEndpoint

SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
LEASE = timedelta(seconds=12)
"""After its last sign of life nobody asks in a dead server's stead for so long; a sign comes every three seconds."""
pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("beside")]


@pytest.fixture
def fake() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


@pytest.fixture
def database() -> Iterator[str]:
    with scratch(SERVER) as made:
        yield made


class Rater:
    """Who talks, as the page's script does."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.path = f"/p/{made['slug']}/dialogue/{made['assignment']}/"
        self.cookie = made["cookies"][0]

    def at(self, running: Studio) -> None:
        """Load the page, of another server too."""
        self.browser = Session(running.base, self.cookie)
        assert self.browser.call("GET", self.path).status == 200

    def act(self, name: str, **given: str) -> dict[str, Any]:
        answer = self.browser.call("POST", f"{self.path}{name}/", given)
        assert answer.status == 200, answer.data
        return answer.data

    def turns(self) -> dict[str, Any]:
        return self.browser.call("GET", f"{self.path}turns/").data

    def until(self, state: str) -> str:
        """The turns' HTML, once they have come to a state."""
        wait(lambda: self.turns()["state"] == state)
        html: str = self.turns()["html"]
        return html


def wait(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.on_sqlite  # it waits for a lease to end; test_feedback_dialogue_asking holds the same on both databases
def test_a_turn_outlives_the_server_that_asked(tmp_path: Path, database: str, fake: Endpoint) -> None:
    fake.mode = "half hanging"
    program = Path(dialogue_store.__file__)
    with studio(tmp_path, database) as running, opened(running.database) as alias:
        turns = DialogueTurn.objects.using(alias)
        candidates = DialogueCandidate.objects.using(alias).select_related("completion")
        made = store("prepare", tmp_path, running.database, program=program, url=fake.url)
        who = Rater(made)
        who.at(running)
        who.act("begin")
        assert who.act("say", text="Where is it?", key="1")["state"] == "asking"
        wait(candidates.exists)
        first = turns.get().asked_until
        wait(lambda: turns.get().asked_until > first)
        assert who.turns()["state"] == "asking"
        running.kill()
        held = turns.get().asked_until
        assert held - timezone.now() <= LEASE
        came = candidates.get().completion.text
        PolicyEndpoint.objects.using(alias).update(model="second-model", candidates=3)
        with studio(tmp_path, database) as again:
            who.at(again)
            assert "Where is it?" in who.until("lapsed")
            assert timezone.now() >= held, "nobody asks while the old lease runs"
            fake.mode = "normal"
            assert who.act("retry")["state"] in ("asking", "choose")
            assert came.split(" to ")[0] in who.until("choose")
            fake.let_go.set()  # what the dead server asked for is answered now, to nobody
            assert who.act("retry")["state"] == "choose"
            assert who.act("choose", turn="1", choice="-2")["state"] == "speak"
            offered = Session(again.base, made["cookies"][1])
            page = f"/p/{made['slug']}/rate/"
            assert offered.call("GET", page).status == 200
            assert offered.call("POST", page + "next/").data["kind"] == "pairwise"
        assert len(fake.asked) == 3, "two at first, and the one that was missing"
        assert {one["model"] for one in fake.asked} == {"first-model"}
        assert turns.get().text == "Where is it?"
        kept = {one.index: one.completion.text for one in candidates.all()}
        assert sorted(kept) == [0, 1]
        assert came in kept.values()
        assert {one.policy for one in Completion.objects.using(alias)} == {"first-model"}
        assert Completion.objects.using(alias).count() == 2


@pytest.mark.slow
@pytest.mark.browser
def test_an_open_page_goes_on_by_itself_when_the_server_is_back(
    tmp_path: Path, database: str, fake: Endpoint, browser: Any
) -> None:
    fake.mode = "hanging"
    with studio(tmp_path, database) as running:
        program = Path(dialogue_store.__file__)
        made = store("prepare", tmp_path, running.database, program=program, url=fake.url)
        context = browser.new_context(base_url=running.base, reduced_motion="reduce")
        context.add_cookies([{"name": "heedful", "value": made["cookies"][0], "url": running.base}])
        page = context.new_page()
        page.goto(Rater(made).path)
        page.click("text=Begin the dialogue")
        page.wait_for_selector("#dialogue[data-ready]")
        page.click("form.say button")
        page.wait_for_selector("[data-waiting]")
        wait(lambda: len(fake.asked) == 2)
        running.kill()
        page.wait_for_selector("#notices :text('by itself')")
        fake.mode = "normal"
        with studio(tmp_path, database, ("--port", running.base.rpartition(":")[2])):
            page.wait_for_selector("form.choose", timeout=30_000)  # the old lease ends first
            assert page.locator("#notices *").count() == 0
            page.keyboard.press("6")
            page.keyboard.press("Enter")
            page.wait_for_selector("form.say")
        context.close()
    assert len(fake.asked) == 4
