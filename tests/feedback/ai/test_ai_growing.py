"""Prompt growth: what joins a pool, what does not, and that the same replies grow the same pool."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.core.text import common_subsequence, rouge_l, words
from heedful.feedback.ai.answering import Sampling
from heedful.feedback.ai.asks import Ask, BudgetSpentError, Failure
from heedful.feedback.ai.growing import Growing, Grown, Pool, grow, numbered, pool_of, unfit
from heedful.feedback.ai.spending import Spent
from scripted_asker import Scripted, reply

SEEDS = ["Name a river in Asia.", "How do I boil an egg?", "Write a poem about snow."]


def how(wanted: int = 6, **over: object) -> Growing:
    made = {
        "per_ask": 3,
        "shown": 4,
        "threshold": 0.7,
        "asks_at_once": 2,
        "most_asks": 10,
        "instruction": "",
        "seed": 0,
    }
    return Growing(wanted, sampling=Sampling(200, 1.0), **(made | over))  # type: ignore[arg-type]


def grown(asker: Scripted, plan: Growing, left_out: Counter[str] | None = None) -> tuple[list[Grown], Pool]:
    pool = pool_of(SEEDS)
    return list(grow(pool, asker, plan, Spent(), Counter() if left_out is None else left_out)), pool


NOUNS = ["lamps", "otters", "taxes", "violins", "glaciers", "stamps", "beehives", "kites", "cellars", "comets", "wells"]


def fresh(ask: Ask) -> str:
    """Three requests of a subject for each question."""
    subject = NOUNS[ask.draw % len(NOUNS)]
    return f"Sure:\n1. List facts on {subject}\n2. Why are {subject} worth keeping at home?\n3. {subject}, {subject}!"


@pytest.mark.parametrize(
    ("a", "b", "length"),
    [("a b c d", "b d", 2), ("a b", "b a", 1), ("", "a", 0), ("a a a", "a a", 2), ("a b c a b", "c a b a", 3)],
)
def test_the_longest_common_subsequence(a: str, b: str, length: int) -> None:
    assert common_subsequence(a.split(), b.split()) == length
    assert common_subsequence(b.split(), a.split()) == length


def test_rouge_l_of_the_papers_sentences() -> None:
    """Lin 2004, section 3.1: "police killed the gunman" is nearer to "police kill the gunman" than its reverse is."""
    reference = "police killed the gunman".split()
    assert rouge_l(reference, "police kill the gunman".split()) == 0.75
    assert rouge_l(reference, "the gunman kill police".split()) == 0.5
    assert rouge_l([], []) == 0.0


@given(st.lists(st.sampled_from("abc"), max_size=9), st.lists(st.sampled_from("abcd"), max_size=9))
def test_the_bits_agree_with_the_table(a: list[str], b: list[str]) -> None:
    rows = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a, 1):
        for j, y in enumerate(b, 1):
            rows[i][j] = rows[i - 1][j - 1] + 1 if x == y else max(rows[i - 1][j], rows[i][j - 1])
    assert common_subsequence(a, b) == rows[-1][-1]


@given(st.lists(st.text("ab c", max_size=12), max_size=6), st.text("ab c", max_size=12))
def test_the_nearest_is_the_nearest_of_all(pool: list[str], text: str) -> None:
    _, alike = pool_of(pool).nearest(text)
    assert alike == max([rouge_l(words(text), words(other)) for other in pool], default=0.0)


@pytest.mark.parametrize(
    ("reply", "found"),
    [
        ("1. One\n2. Two", ["One", "Two"]),
        ("Here you are:\n\n1) One\n\n2) Two\nThat is all.\n3. No", ["One", "Two"]),
        ("1. One\n3. Three", ["One"]),
        ("2. Two\n1. One", []),
        ("1. One\n   and more of it\n2. Two", ["One"]),
        ("no list", []),
        ("1.\n2. Two", []),
    ],
)
def test_requests_are_what_is_numbered_in_turn(reply: str, found: list[str]) -> None:
    assert numbered(reply) == found


def test_what_does_not_join() -> None:
    pool = pool_of(SEEDS)
    assert unfit("name a river in asia", pool, 0.7)[0] == "a repeat"
    why, nearest, alike = unfit("Name a lake in Asia.", pool, 0.7)
    assert (why, nearest, alike) == ("a repeat", SEEDS[0], pytest.approx(10 / 12))
    assert unfit("Name a lake in Asia.", pool, 0.9)[0] == ""
    assert unfit("Go", pool, 0.7)[0] == "too short"
    assert unfit("very " * 200, pool, 0.7)[0] == "too long"


def test_a_pool_grows_without_repeats_and_says_how_near_each_was() -> None:
    left_out: Counter[str] = Counter()
    found, pool = grown(Scripted(fresh), how(), left_out)
    assert len(found) == 6
    assert pool.texts == [*SEEDS, *(one.text for one in found)]
    for place, one in enumerate(found):
        before = pool_of(pool.texts[: 3 + place])
        assert before.nearest(one.text) == (one.nearest, one.similarity)
        assert one.similarity < 0.7
    assert left_out["a repeat"] > 0, "two questions of a kind on different subjects are alike"


def test_the_same_replies_grow_the_same_pool_in_whatever_order_they_come() -> None:
    one, two, other = Scripted(fresh, seed=1), Scripted(fresh, seed=2), Scripted(fresh)
    assert grown(one, how())[0] == grown(two, how())[0]
    assert {ask.key("m") for ask in one.paid} == {ask.key("m") for ask in two.paid}
    grown(other, how(seed=9))
    assert other.paid[0].messages != one.paid[0].messages, "another seed shows other prompts"


def test_growing_ends_after_a_group_that_brings_none_and_after_the_last_question() -> None:
    asker = Scripted(lambda ask: "1. How do I boil an egg?\n2. Write a poem about snow.")
    assert grown(asker, how())[0] == []
    assert len(asker.paid) == 2
    asker = Scripted(fresh)
    assert len(grown(asker, how(wanted=99, most_asks=3))[0]) < 10
    assert len(asker.paid) == 3


def test_a_reply_that_is_not_whole_brings_nothing() -> None:
    replies = iter(
        [
            Failure("timeout", "nobody", 2),
            reply("1. Half of a", finish="length"),
            reply("Sure!"),
            reply("1. Why do otters float?"),
        ]
    )
    left_out: Counter[str] = Counter()
    found, _ = grown(Scripted(lambda ask: next(replies)), how(asks_at_once=4, most_asks=4), left_out)
    assert [one.text for one in found] == ["Why do otters float?"]
    assert left_out == {"no reply: timeout": 1, "no reply: cut short": 1, "no numbered request in a reply": 1}


def test_nothing_is_paid_for_twice_when_growing_goes_on() -> None:
    asker = Scripted(fresh, budget=3)
    with pytest.raises(BudgetSpentError):
        grown(asker, how(wanted=9))
    asker.budget = None
    found, _ = grown(asker, how(wanted=9))
    assert found == grown(Scripted(fresh), how(wanted=9))[0]
    assert len({ask.key("m") for ask in asker.paid}) == len(asker.paid)


def test_what_is_shown_is_mostly_what_was_given() -> None:
    asker = Scripted(fresh)
    grown(asker, how(wanted=9, asks_at_once=1, most_asks=5))
    shown = [ask.messages[-1].content for ask in asker.paid]
    assert [text.count("<request>") for text in shown] == [3, 4, 4, 4, 4][: len(shown)]
    assert sum(seed in shown[1] for seed in SEEDS) == 3
