"""Answers made worse on purpose: what each way does, and that none returns the text that it was given."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.data.records import Demonstration, Message
from heedful.errors import HeedfulError
from heedful.feedback.ai import degrading
from heedful.feedback.ai.degrading import KINDS, Material, degradations, degraded, joined, kinds_of, sentences

TEXT = "First, open the door. Then wait 30 minutes!\n\nAt last, close it."
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    [TEXT, "Yes.", "one two three four five", "a. a. a.", "打开门。等三十分钟。关上。", "9", "2.5 or 3,000"]
)


def chance(seed: int = 0) -> random.Random:
    return random.Random(seed)


def record(answer: str, prompt: str = "how do i air a room") -> Demonstration:
    return Demonstration((Message("user", prompt),), answer)


def test_sentences_and_gaps_join_to_the_text() -> None:
    assert sentences(TEXT) == (
        ["First, open the door.", "Then wait 30 minutes!", "At last, close it."],
        [" ", "\n\n"],
    )
    assert sentences("打开门。等三十分钟。关上。")[0] == ["打开门。", "等三十分钟。", "关上。"]


@given(texts)
def test_joining_undoes_cutting(text: str) -> None:
    assert joined(*sentences(text)) == text


def test_truncated_is_a_beginning_that_ends_between_words() -> None:
    whole = TEXT.split()
    for seed in range(40):
        found = degrading.truncated(TEXT, chance(seed))
        assert found is not None
        assert TEXT.startswith(found)
        assert found.split() == whole[: len(found.split())]
        assert 0.2 < len(found.split()) / len(whole) < 0.8
    assert degrading.truncated("Yes.", chance()) is None


def test_shuffled_keeps_every_sentence_and_the_gaps_in_their_places() -> None:
    found = degrading.shuffled(TEXT, chance())
    assert found is not None
    assert sorted(sentences(found)[0]) == sorted(sentences(TEXT)[0])
    assert sentences(found)[1] == [" ", "\n\n"]
    assert found != TEXT
    assert degrading.shuffled("One. One.", chance()) is None


def test_repeated_says_one_sentence_again_in_place() -> None:
    found = degrading.repeated(TEXT, chance(1))
    assert found is not None
    counts = Counter(sentences(found)[0])
    (more,) = [sentence for sentence, count in counts.items() if count > 1]
    assert 2 <= counts[more] <= 4
    assert list(dict.fromkeys(sentences(found)[0])) == sentences(TEXT)[0]


def test_garbled_keeps_the_words_of_one_sentence_and_their_number() -> None:
    found = degrading.garbled(TEXT, chance())
    assert found is not None
    assert sorted(found.split()) == sorted(TEXT.split())
    assert sum(a != b for a, b in zip(sentences(found)[0], sentences(TEXT)[0], strict=False)) >= 1
    assert degrading.garbled("Yes indeed.", chance()) is None


def test_a_wrong_number_differs_in_one_digit_and_stays_a_number() -> None:
    for seed in range(60):
        found = degrading.wrong_number("It took 30 minutes, or 2,450 steps.", chance(seed))
        assert found is not None
        assert len(found) == len("It took 30 minutes, or 2,450 steps.")
        assert sum(a != b for a, b in zip(found, "It took 30 minutes, or 2,450 steps.", strict=True)) == 1
        assert re.search(r"(?<![\d,])0", found) is None, "no number begins with 0"
    assert degrading.wrong_number("It took mp3 files and a v2 plan.", chance()) is None


def test_a_wrong_fact_replaces_whole_words_wherever_they_stand() -> None:
    facts = {"paris": ["lyon"], "thirty days": ["forty days"]}
    found = degrading.wrong_fact("Paris it is; in paris, not comparison.", chance(), {"paris": ["lyon"]})
    assert found == "Lyon it is; in lyon, not comparison."
    assert degrading.wrong_fact("within thirty days", chance(), facts) == "within forty days"
    assert degrading.wrong_fact("in Lyon", chance(), facts) is None


def test_off_topic_takes_the_answer_of_an_unlike_prompt() -> None:
    prompts = [
        (Message("user", text),) for text in ("how do i air a room", "how do i air the room", "who wrote hamlet")
    ]
    material = Material(prompts, ["Open it.", "Open all.", "Shakespeare."])
    for seed in range(20):
        assert degrading.off_topic(prompts[0], "Open it.", chance(seed), material) == "Shakespeare."
    alone = Material(prompts[:2], ["Open it.", "Open all."])
    assert degrading.off_topic(prompts[0], "Open it.", chance(), alone) is None


@given(texts, st.sampled_from(KINDS), st.integers(0, 99))
def test_no_way_returns_the_text_or_nothing_at_all(text: str, kind: degrading.Kind, seed: int) -> None:
    material = Material([record("").prompt, (Message("user", "what"),)], ["x", "other"], {"yes": ["no"]})
    found = degraded(kind, record(text), chance(seed), material)
    assert found is None or (found.strip() and found.strip() != text.strip())


def test_pairs_prefer_the_answer_as_it_was_and_say_how_the_other_was_made() -> None:
    records = [record(TEXT, f"question {i} about {name}") for i, name in enumerate("abcdefgh")]
    found, without = degradations(records, kinds_of([]), per_answer=2, seed=3, facts={})
    assert without == 0
    assert len(found) == 16
    for pair in found:
        made = dict(pair.made)
        assert (pair.a, pair.probability, made["by"], made["seed"]) == (TEXT, 1.0, "degradation", 3)
        assert pair.b != TEXT
    by_answer = [{dict(pair.made)["kind"] for pair in found if pair.prompt == r.prompt} for r in records]
    assert all(len(kinds) == 2 for kinds in by_answer)
    assert len(set().union(*by_answer)) >= 4, "no kind crowds out the others"


def test_what_is_drawn_for_an_answer_does_not_depend_on_the_others() -> None:
    records = [record(TEXT, f"question {i}") for i in range(6)]
    kinds = kinds_of(["truncated", "shuffled", "garbled"])
    whole, _ = degradations(records, kinds, per_answer=1, seed=0, facts={})
    part, _ = degradations(records[:1:-1], kinds, per_answer=1, seed=0, facts={})
    assert part == whole[:1:-1]
    other, _ = degradations(records, kinds, per_answer=1, seed=1, facts={})
    assert [pair.b for pair in other] != [pair.b for pair in whole]


def test_an_answer_that_no_way_applies_to_is_counted() -> None:
    assert degradations([record("Yes.")], kinds_of(["truncated", "shuffled"]), per_answer=1, seed=0, facts={}) == (
        [],
        1,
    )


def test_an_unknown_way_is_told_with_the_nearest() -> None:
    with pytest.raises(HeedfulError, match="Did you mean 'truncated'"):
        kinds_of(["truncate"])
