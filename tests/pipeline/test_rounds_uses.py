"""Prompts that train, are judged and check never meet, whatever the file and the round."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.records import Conversation, Message, normalised
from heedful.data.splits import near_duplicates
from heedful.pipeline.rounds.uses import USES, Use, in_turn, overlapping, uses_of

SHARES: dict[Use, float] = {"reward": 0.4, "check": 0.2}


def ask(text: str) -> Conversation:
    return (Message("user", text),)


MANY = [ask(" ".join(f"{row}{n}" for n in range(start, start + 26))) for row in "abcd" for start in range(9)]
"""Four texts seen through windows: neighbours are near-duplicates, all others are not, and chains come and go."""


def parted(prompts: list[Conversation], uses: list[Use | None]) -> dict[Use, list[Conversation]]:
    return {use: [one for one, own in zip(prompts, uses, strict=True) if own == use] for use in USES}


def test_the_shares_are_met_on_average_and_the_order_does_not_matter() -> None:
    prompts = [ask(f"question number {i} about {i * i}") for i in range(600)]
    uses = uses_of(prompts, SHARES, 3)
    assert 200 < uses.count("reward") < 280
    assert 90 < uses.count("check") < 150
    turned = uses_of(prompts[::-1], SHARES, 3)
    assert turned[::-1] == uses
    assert uses_of(prompts, SHARES, 4) != uses


@pytest.mark.parametrize(
    "other",
    [
        "WHAT is the best   way to cook rice?",
        "What is the best way to cook rice",
        "Ｗhat is the best way, to cook rice!",
    ],
)
def test_a_prompt_written_a_little_otherwise_has_the_same_use(other: str) -> None:
    prompts = [ask("What is the best way to cook rice?"), ask(other)]
    for seed in range(20):
        assert len(set(uses_of(prompts, SHARES, seed))) == 1


def test_near_duplicates_share_a_use() -> None:
    long = "please explain to my little brother how the moon goes around the earth and why we see it change its shape"
    prompts = [ask(long), ask(long + " tonight")]
    assert normalised(prompts[0]) != normalised(prompts[1])
    assert len(set(near_duplicates(prompts))) == 1
    for seed in range(20):
        assert len(set(uses_of(prompts, SHARES, seed))) == 1


@settings(max_examples=60)
@given(st.lists(st.sampled_from(MANY), min_size=4, unique=True), st.data())
def test_three_rounds_on_changing_files_never_bring_a_prompt_under_two_uses(
    first: list[Conversation], data: st.DataObject
) -> None:
    earlier: dict[Use, list[Conversation]] = {use: [] for use in USES}
    prompts = first
    for _ in range(3):
        uses = uses_of(prompts, SHARES, 1, earlier=earlier)
        for use, some in parted(prompts, uses).items():
            earlier[use] = list(dict.fromkeys([*earlier[use], *some]))
        prompts = data.draw(st.lists(st.sampled_from(MANY), min_size=2, unique=True))
    for a, b in combinations(USES, 2):
        assert not {normalised(one) for one in earlier[a]} & {normalised(one) for one in earlier[b]}
        assert overlapping(earlier[a], earlier[b]) == []


def test_a_prompt_that_stands_between_two_uses_gets_none_and_they_keep_theirs() -> None:
    words = [f"word{number}" for number in range(28)]
    left, between, right = (ask(" ".join(words[start : start + 26])) for start in range(3))
    assert len(set(near_duplicates([left, between, right]))) == 1
    assert len(set(near_duplicates([left, right]))) == 2
    uses = uses_of([left, between, right], SHARES, 0, earlier={"train": [left], "check": [right]})
    assert uses == ["train", None, "check"]


def test_prompts_of_demonstrations_train() -> None:
    prompts = [ask(f"question number {i} about {i * i}") for i in range(40)]
    taught = prompts[:20]
    assert set(uses_of(prompts, SHARES, 0, training=taught)[:20]) == {"train"}
    before = uses_of(prompts, SHARES, 0)
    assert uses_of(prompts, SHARES, 0, training=taught)[20:] == before[20:]
    assert set(before[:20]) == set(USES)
    kept = uses_of(prompts, SHARES, 0, earlier={"check": prompts[:1]}, training=taught)
    assert kept[0] == "check"  # what an earlier round used it for stands; the stage leaves the demonstration out
    assert overlapping(taught, prompts[:1]) == [0]


def test_prompts_take_turns() -> None:
    order = in_turn(["a", "b", "c", "d"], {"a": 2, "c": 1}, 5)
    assert [{0: 2, 1: 0, 2: 1, 3: 0}[one] for one in order] == [0, 0, 1, 2]
    assert {tuple(in_turn(list("abcd"), {}, seed)[:1]) for seed in range(30)} == {(0,), (1,), (2,), (3,)}
