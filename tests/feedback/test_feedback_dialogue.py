"""Dialogues with a live policy: kept before they are shown, resumed after any failure, judged by others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection

from fake_endpoint import Endpoint, serving
from feedback_dialogues import endpoint, start, talking, turn
from feedback_factories import account, item, programme, rater
from heedful.errors import HeedfulError
from heedful.feedback import assignment as work
from heedful.feedback import dialogue, dialogue_asking, endpoints, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.dialogue_items import choose
from heedful.feedback.models import (
    Assignment,
    Batch,
    Completion,
    CurrentJudgment,
    Dialogue,
    DialogueCandidate,
    DialogueTurn,
    Item,
    PolicyEndpoint,
    Programme,
    Prompt,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def fake() -> Iterator[Endpoint]:
    with serving() as server:
        yield server


@pytest.fixture
def of() -> Programme:
    return programme(allow_private_addresses=True)


def test_a_turn_is_asked_kept_shown_and_goes_on(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    assert dialogue.state(own).suggestion == "Ask about a parcel."
    made = dialogue.say(own, "Where is it?", key="1")
    assert dialogue.state(own).waiting
    assert dialogue_asking.fill(made)
    [shown] = dialogue.state(own).turns
    assert shown.state == "choose"
    texts = {one.index: one.completion.text for one in made.candidates.all()}
    assert shown.answers == tuple(texts[index] for index in made.order)
    kept = choose(made, 1, 3)
    assert dialogue.state(own).turns[0].chosen == 1
    second = dialogue.say(own, "And now?", key="2")
    assert dialogue_asking.fill(second)
    assert fake.asked[-1]["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": texts[made.order[1]]},
        {"role": "user", "content": "And now?"},
    ]
    assert sorted(one["seed"] for one in fake.asked[:2]) == [5, 6]
    assert fake.asked[0]["temperature"] == 0.7
    assert kept.prompt.messages == fake.asked[0]["messages"]


def test_a_turn_is_an_item_that_others_can_judge_and_its_rater_cannot_again(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    kept = turn(own, strength=-2)
    entries = list(kept.entries.all())
    assert (kept.kind, kept.batch.state, kept.batch.purpose) == ("pairwise", "open", "train")
    assert [entry.completion.policy for entry in entries] == ["shop-7b", "shop-7b"]
    assert DialogueCandidate.objects.get(index=0).completion == entries[0].completion
    assert Completion.objects.count() == 2
    assert Prompt.objects.count() == 2
    first = CurrentJudgment.objects.get(item=kept)
    made = DialogueTurn.objects.get()
    better = made.order[0]
    assert first.judgment.payload["strength"] == (-2 if better == 0 else 2)
    assert (made.chosen, first.judgment.order, first.slot is not None) == (better, made.order, True)
    assert work.next_assignment(own.assignment.rater).item.kind == "dialogue"  # what they hold
    other = rater(of)
    offered = work.next_assignment(other)
    assert offered is not None
    assert offered.item == kept
    submission.submit(offered, {"strength": 1}, key="x", item_version=1)
    turn(own, "More?")
    assert Batch.objects.count() == 2
    dialogue.end(own, key="end", item_version=1)
    assert work.next_assignment(own.assignment.rater) is None


@pytest.mark.parametrize("order", [[0, 1], [1, 0]])
@pytest.mark.parametrize("strength", [-3, 1])
def test_what_is_kept_speaks_of_the_candidates_not_of_the_order_shown(
    of: Programme, fake: Endpoint, order: list[int], strength: int
) -> None:
    made = dialogue.say(talking(of, fake), "Hello?", key="1")
    DialogueTurn.objects.update(order=order)
    made.refresh_from_db()
    assert dialogue_asking.fill(made)
    kept = choose(made, int(strength > 0), strength)
    better = order[int(strength > 0)]
    payload = CurrentJudgment.objects.get(item=kept).judgment.payload
    assert payload["strength"] == (abs(strength) if better == 1 else -abs(strength))
    assert made.chosen == better


def test_a_choice_of_several_is_a_ranking(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake, candidates=3)
    made = dialogue.say(own, "Hello?", key="1")
    assert dialogue_asking.fill(made)
    with pytest.raises(HeedfulError):
        choose(made, 1, 2)
    kept = choose(made, 1)
    ranks = CurrentJudgment.objects.get(item=kept).judgment.payload["ranks"]
    assert (kept.kind, ranks[made.order[1]], sorted(ranks)) == ("ranking", 1, [1, 2, 2])


@pytest.mark.parametrize(("place", "strength"), [(0, 1), (1, -1), (2, 1), (-1, 0), (0, 4), (0, None), (True, 1)])
def test_the_better_answer_goes_on(of: Programme, fake: Endpoint, place: Any, strength: Any) -> None:
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    dialogue_asking.fill(made)
    with pytest.raises(HeedfulError):
        choose(made, place, strength)
    assert not Item.objects.exclude(kind="dialogue").exists()
    assert choose(made, 1, 0, both_good=True)


def test_what_is_said_twice_is_one_turn(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    made = dialogue.say(own, "Hello?", key="1")
    assert dialogue.say(own, "Hello?", key="1") == made
    with pytest.raises(Conflict):
        dialogue.say(own, "Something else", key="1")
    with pytest.raises(Conflict, match="not done"):
        dialogue.say(own, "More", key="2")
    with pytest.raises(Conflict, match="not every"):
        choose(made, 0, -1)
    dialogue_asking.fill(made)
    kept = choose(made, 0, -1)
    assert choose(made, 0, -1) == kept
    with pytest.raises(Conflict, match="another"):
        choose(made, 1, 1)
    assert DialogueTurn.objects.count() == 1
    assert len(fake.asked) == 2
    for text in ("", "   ", "a\0b", "x" * 20_001):
        with pytest.raises(HeedfulError):
            dialogue.say(own, text, key="3")


def test_a_failed_candidate_is_asked_again_without_those_that_came(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    fake.mode = "half"
    made = dialogue.say(own, "Hello?", key="1")
    assert not dialogue_asking.fill(made)
    [shown] = dialogue.state(own).turns
    assert (shown.state, shown.answers, shown.failure) == ("failed", (), "the endpoint answered 500")
    came = made.candidates.get().completion.text
    fake.mode = "normal"
    assert dialogue_asking.fill(made)
    assert len(fake.asked) == 3
    assert came in dialogue.state(own).turns[0].answers
    assert dialogue_asking.fill(made)
    assert len(fake.asked) == 3


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("failing", "the endpoint answered 500"),
        ("refusing", "the endpoint answered 401"),
        ("odd", "the endpoint's answer makes no sense"),
        ("empty", "the endpoint's answer cannot be kept: the text is empty."),
    ],
)
def test_a_failure_is_told_without_the_endpoints_words(of: Programme, fake: Endpoint, mode: str, says: str) -> None:
    own = talking(of, fake)
    fake.mode = mode
    made = dialogue.say(own, "Hello?", key="1")
    assert not dialogue_asking.fill(made)
    assert dialogue.state(own).turns[0].failure == says
    assert not Completion.objects.exists()


def test_an_endpoint_that_is_away_or_refused_is_a_failure_too(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    Programme.objects.update(settings={})
    made = dialogue.say(own, "Hello?", key="1")
    assert not dialogue_asking.fill(made)
    assert "refused" in dialogue.state(own).turns[0].failure
    assert not fake.asked
    Programme.objects.update(settings={"allow_private_addresses": True})
    Dialogue.objects.update(pinned=own.pinned | {"base_url": "http://127.0.0.1:9/v1"})
    assert not dialogue_asking.fill(made)
    assert "cannot be reached" in dialogue.state(own).turns[0].failure


def test_the_policy_stays_the_same_to_the_end(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    PolicyEndpoint.objects.update(model="another", base_url="http://127.0.0.1:9/v1")
    endpoints.retire_endpoint(own.endpoint, actor=account())
    turn(own)
    assert {one["model"] for one in fake.asked} == {"shop-7b"}
    with pytest.raises(HeedfulError, match="no policy"):
        dialogue.begin(start(programme()))


def test_the_key_comes_from_the_variable_that_was_named_and_from_no_other(
    of: Programme, fake: Endpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID", "OPENAI_ADMIN_KEY"):
        monkeypatch.setenv(name, "private")
    own = talking(of, fake, key_variable="HEEDFUL_KEY_SHOP")
    made = dialogue.say(own, "Hello?", key="1")
    assert not dialogue_asking.fill(made)
    assert dialogue.state(own).turns[0].failure == "the server has no key in HEEDFUL_KEY_SHOP"
    monkeypatch.setenv("HEEDFUL_KEY_SHOP", "of-the-shop")
    assert dialogue_asking.fill(made)
    assert {headers["authorization"] for headers in fake.headers} == {"Bearer of-the-shop"}
    assert "private" not in str(fake.headers)
    assert "of-the-shop" not in str(Dialogue.objects.values())


@pytest.mark.parametrize(
    ("field", "over"),
    [
        ("key_variable", {"key_variable": "DATABASE_URL"}),
        ("key_variable", {"key_variable": "OPENAI_API_KEY"}),
        ("candidates", {"candidates": 1}),
        ("candidates", {"candidates": 10}),
        ("sampling.temperature", {"sampling": {"temperature": 3}}),
        ("sampling.max_tokens", {"sampling": {"max_tokens": 1.5}}),
        ("sampling.logit_bias", {"sampling": {"logit_bias": {}}}),
        ("sampling.stop", {"sampling": {"stop": "x"}}),
    ],
)
def test_an_endpoint_is_checked(of: Programme, fake: Endpoint, field: str, over: dict[str, Any]) -> None:
    with pytest.raises(HeedfulError) as caught:
        endpoint(of, fake, **over)
    assert caught.value.where == field


def test_an_endpoint_inside_needs_permission(fake: Endpoint) -> None:
    with pytest.raises(HeedfulError, match="does not connect to") as caught:
        endpoint(programme(), fake)
    assert caught.value.where == "base_url"


def test_handing_in_says_how_many_turns_there_were_and_taking_back_opens_it(of: Programme, fake: Endpoint) -> None:
    own = talking(of, fake)
    with pytest.raises(HeedfulError, match="nothing was said"):
        dialogue.end(own, key="e", item_version=1)
    turn(own)
    dialogue_asking.fill(dialogue.say(own, "left open", key="2"))
    made = dialogue.end(own, key="e", item_version=1, rationale="it was fine")
    assert dialogue.end(own, key="e", item_version=1, rationale="it was fine") == made
    assert (made.payload, made.rationale.text, made.surplus) == ({"turns": 1}, "it was fine", False)
    assert dialogue.state(Dialogue.objects.get()).ended
    with pytest.raises(Conflict, match="over"):
        dialogue.say(Dialogue.objects.get(), "again", key="3")
    with pytest.raises(Conflict, match="over"):
        dialogue.last_turn(Dialogue.objects.get())
    submission.undo(made, key="u")
    again = dialogue.begin(own.assignment)
    assert again == own
    assert choose(DialogueTurn.objects.get(index=1), 0, 0)
    assert dialogue.end(again, key="e2", item_version=1).payload == {"turns": 2}


@pytest.mark.django_db(transaction=True)
def test_dialogues_that_end_turns_at_the_same_time_share_one_batch(of: Programme, fake: Endpoint) -> None:
    endpoint(of, fake)
    first = start(of)
    second = Assignment.objects.get(pk=first.pk)
    own = item(first.item.batch, completions=0, kind="dialogue", messages=[{"role": "user", "content": "Hi"}])
    other = work.next_assignment(rater(of))
    assert other is not None
    assert other.item == own
    work.show(other)
    turns = []
    for one in (second, other):
        made = dialogue.say(dialogue.begin(one), "Hello?", key="1")
        dialogue_asking.fill(made)
        turns.append(made.pk)
    barrier = threading.Barrier(2)

    def act(key: Any) -> None:
        barrier.wait()
        try:
            choose(DialogueTurn.objects.get(pk=key), 0, -1)
        finally:
            connection.close()

    with ThreadPoolExecutor(2) as pool:
        for run in [pool.submit(act, key) for key in turns]:
            run.result()
    assert Batch.objects.count() == 2
    kept = [one.item for one in DialogueTurn.objects.all()]
    assert len({one.pk for one in kept if one}) == 2
    for one in DialogueTurn.objects.all():
        assert one.item is not None
        assert {entry.completion_id for entry in one.item.entries.all()} == {
            candidate.completion_id for candidate in one.candidates.all()
        }
