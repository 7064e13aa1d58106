"""A run that people judge through a real store, killed while they are at it: asked once, leases kept, and what is left
open is said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from test_watch import Killed, go, long_answers, rows, settings
from test_watch_meanwhile import at, enough, killed

from feedback_factories import programme, rater
from heedful.feedback import assignment, submission
from heedful.feedback.client import FeedbackClient, connect
from heedful.feedback.models import Batch, Judgment, Programme
from heedful.files import sha256_file
from heedful.pipeline.people_judge import PeopleJudge
from stage_runs import write_inputs, write_model

pytestmark = pytest.mark.on_sqlite
__all__ = ["long_answers"]  # the runs' reward, by name
PAIRS = 12


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("people")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    return folder


@pytest.fixture
def of(transactional_db: None) -> Programme:
    return programme()


@pytest.fixture
def asked(of: Programme, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[float], None]], FeedbackClient]:
    """asked(sleep) -> the store that the next runs ask, sleeping so while they wait."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))

    def open_store(sleep: Callable[[float], None]) -> FeedbackClient:
        client = connect(database=f"sqlite:///{connection.settings_dict['NAME']}")

        def ask(stage: Any, gold: Any, name: str) -> PeopleJudge:
            return PeopleJudge(client, name, votes=gold.votes, patience=60.0, say=stage.display.say, sleep=sleep)

        monkeypatch.setattr("heedful.pipeline.stages.watched.ask_people", ask)
        return client

    return open_store


def given(of: Programme, made: Path, out: Path, meanwhile: str, **watch: Any) -> Any:
    """Settings of a run of eight steps that is checked after two."""
    gold = {"judge": f"people:{of.slug}", "every_steps": 2, "every_kl": 100.0, "pairs": PAIRS, "block": PAIRS}
    gold |= {"prompts": str(made / "inputs" / "prompts.jsonl"), "votes": 2, "meanwhile": meanwhile}
    score = {"normalise": "none", "missing_eos_penalty": 0.0}
    found = settings("rloo", made, out, {"signs": ["kl"], "gold": gold, **watch}, steps=8, score=score)
    return type(found)(**{**vars(found), "reward": "test_watch_people:long_answers"})


def say(held: Any) -> None:
    """A rater decides what lies before them: the first shown is better."""
    submission.submit(held, {"strength": -2}, key=str(held.pk), item_version=held.item.version)


def test_a_run_that_is_killed_while_people_judge_asks_nobody_twice_and_says_what_it_left(
    of: Programme, asked: Any, made: Path, tmp_path: Path
) -> None:
    ann, bob, _ = (rater(of) for _ in range(3))
    asked(lambda seconds: pytest.fail("a run that trains on does not wait"))
    held: list[Any] = []

    def people_at_work() -> None:
        for _ in range(2):
            say(assignment.next_assignment(ann))
        held.append(assignment.next_assignment(bob))

    run = given(of, made, tmp_path / "run", "train")
    with pytest.raises(Killed):
        go("rloo", run, watch=at({3: people_at_work, 5: killed}))
    (batch,) = Batch.objects.all()
    assert batch.state == "open"
    held[0].refresh_from_db()
    assert held[0].state == "leased"  # a run's death takes nothing away from whoever is at work

    manifest, said = go("rloo", run, watch=at({7: enough}))
    assert Batch.objects.count() == 1
    left = manifest["watch"]["gold"]["left_open"]
    assert (left["step"], left["batch"], left["filled"], left["held"]) == (2, batch.name, 2, 1)
    assert PAIRS < left["places"] <= 2 * PAIRS  # two judgments for each pair of different texts
    assert "2 of" in said
    assert "1 pairs lie before raters, who may finish them" in said
    batch.refresh_from_db()
    assert batch.state == "paused"
    assert assignment.next_assignment(ann) is None
    say(held[0])  # and it is kept
    assert Judgment.objects.count() == 3
    assert {one.item.purpose for one in Judgment.objects.select_related("item")} == {"check"}

    go("rloo", given(of, made, tmp_path / "alone", "wait", mode="off"), watch=at({7: enough}))
    weights = [sha256_file(tmp_path / name / "model.safetensors") for name in ("run", "alone")]
    assert weights[0] == weights[1]


@pytest.mark.slow  # the test above has a store, a kill and a run that goes on; this one all checks of a run
def test_a_run_that_is_killed_while_it_waits_goes_on_to_the_same_bits(
    of: Programme, asked: Any, made: Path, tmp_path: Path
) -> None:
    crowd = [rater(of) for _ in range(3)]
    slept: list[float] = []

    def work(seconds: float) -> None:
        """Ann judges one pair; then the run dies; when it waits again all of them judge all that is open."""
        if not slept:
            say(assignment.next_assignment(crowd[0]))
            slept.append(seconds)
            return
        if len(slept) == 1:
            slept.append(seconds)
            raise Killed
        for who in crowd:
            while (held := assignment.next_assignment(who)) is not None:
                say(held)

    asked(work)
    run = given(of, made, tmp_path / "cut", "wait")
    with pytest.raises(Killed):
        go("rloo", run)
    assert Judgment.objects.count() == 1
    manifest, _ = go("rloo", run)
    batches = Batch.objects.count()
    places = sum(one["against_start"] is not None for one in manifest["watch"]["gold"]["checks"])
    assert batches == places == 4  # one for each check, none twice
    again, _ = go("rloo", given(of, made, tmp_path / "whole", "wait"))
    assert Batch.objects.count() == batches  # the same texts are the same batches: all of it is known
    assert again["watch"] == manifest["watch"]
    for name in ("model.safetensors", "metrics.jsonl"):
        assert sha256_file(tmp_path / "cut" / name) == sha256_file(tmp_path / "whole" / name)
    for name in ("alarms.jsonl", "events.jsonl"):
        assert rows(tmp_path / "cut" / name) == rows(tmp_path / "whole" / name)
