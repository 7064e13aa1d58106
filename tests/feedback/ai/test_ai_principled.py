"""A principle drawn for each pair, and the judge's odds as a soft label."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.data.load import DataSpec, load_preferences
from heedful.data.records import Message, Preference
from heedful.data.write import write_records
from heedful.errors import HeedfulError
from heedful.feedback.ai.asks import Ask, Failure, Reply, Usage
from heedful.feedback.ai.constitution import Constitution, Principle
from heedful.feedback.ai.judging import judge
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.principled import PrincipledWay, cases_of
from heedful.feedback.ai.ways import Manner
from scripted_asker import Scripted, reply

CONSTITUTION = Constitution(
    "c",
    (
        Principle("harm", choice="Which is less harmful?", tags=("harmlessness",)),
        Principle("use", choice="Which is more useful?", tags=("helpfulness",)),
        Principle("only-revises", critique="x", revision="y"),
    ),
    "c.yaml",
)


def letters(a: float, b: float) -> Reply:
    """A reply that gives the letters these probabilities."""
    said = "A" if a >= b else "B"
    return Reply(said, "stop", ({"A": math.log(a), "B": math.log(b)},), Usage(9, 1), "scripted", tokens=(said,))


def pair(number: int = 0) -> Preference:
    return Preference((Message("user", f"question {number}"),), f"good {number}", f"bad {number}", probability=0.0)


def first_is_good(ask: Ask) -> bool:
    text = ask.messages[1].content
    return text.index("good") < text.index("bad")


def prefers_good(chance: float) -> Callable[[Ask], Reply]:
    """A judge that says so of the good answer, wherever it stands; not asked for letters, it reasons."""

    def answer(ask: Ask) -> Reply:
        if not ask.top_logprobs:
            return reply("hm")
        return letters(chance, 1 - chance) if first_is_good(ask) else letters(1 - chance, chance)

    return answer


def labels(way: PrincipledWay, asker: Scripted, count: int = 1) -> list[float | None]:
    opinions = dict(judge(asker, way, cases_of([pair(i) for i in range(count)])))
    return [way.label(opinions[i]) for i in range(count)]


def test_the_label_is_the_mean_of_both_orders_log_odds() -> None:
    """0.9 for the good one when it stands first, 0.6 when second: odds of 9 and 1.5, so sqrt(13.5) to 1."""
    asker = Scripted(lambda ask: letters(0.9, 0.1) if first_is_good(ask) else letters(0.4, 0.6))  # type: ignore[arg-type]
    (label,) = labels(PrincipledWay(CONSTITUTION), asker)
    assert label == pytest.approx(math.sqrt(13.5) / (1 + math.sqrt(13.5)))
    assert len(asker.paid) == 2


def test_a_judge_that_sees_only_the_place_says_one_half() -> None:
    assert labels(PrincipledWay(CONSTITUTION), Scripted(lambda ask: letters(0.99, 0.01))) == [pytest.approx(0.5)]


def test_each_pair_has_one_principle_in_both_orders_drawn_by_the_pair_alone() -> None:
    way = PrincipledWay(CONSTITUTION)
    asker = Scripted(lambda ask: letters(0.5, 0.5))
    labels(way, asker, 40)
    told: dict[str, set[str]] = {}
    for ask in asker.paid:
        question = ask.messages[1].content.split("[user]\n")[1].split("\n")[0]
        told.setdefault(question, set()).update(
            p.id for p in CONSTITUTION.principles[:2] if p.choice in ask.messages[0].content
        )
    assert all(len(ids) == 1 for ids in told.values())
    assert {next(iter(ids)) for ids in told.values()} == {"harm", "use"}
    alone = way.principle(cases_of([pair(7)])[0]).id
    assert told["question 7"] == {alone}
    turned = Case(pair(7).prompt, (pair(7).b, pair(7).a))
    assert way.principle(turned).id == alone


def test_tags_choose_among_principles_and_one_that_only_revises_is_never_drawn() -> None:
    way = PrincipledWay(CONSTITUTION, ("harmlessness",))
    assert {way.principle(case).id for case in cases_of([pair(i) for i in range(20)])} == {"harm"}
    with pytest.raises(HeedfulError, match="no principle serves choosing"):
        PrincipledWay(Constitution("c", CONSTITUTION.principles[2:], "c.yaml"))


def test_after_thoughts_the_letter_follows_the_reasoning_and_the_label_is_clamped() -> None:
    def answer(ask: Ask) -> object:
        if not ask.top_logprobs:
            return f"One thing speaks for the {'first' if first_is_good(ask) else 'second'}."
        assert [m.role for m in ask.messages] == ["system", "user", "assistant", "user"]
        good = "first" in ask.messages[2].content
        return letters(0.999, 0.001) if good else letters(0.001, 0.999)

    way = PrincipledWay(CONSTITUTION, thoughts=True)
    asker = Scripted(answer)  # type: ignore[arg-type]
    assert labels(way, asker) == [0.6]
    assert len(asker.paid) == 4
    assert labels(PrincipledWay(CONSTITUTION), Scripted(prefers_good(0.999))) == [pytest.approx(0.999)]
    assert labels(way, Scripted(prefers_good(0.55))) == [pytest.approx(0.55)]
    assert labels(way, Scripted(prefers_good(0.3))) == [0.4]


def test_what_cannot_be_read_is_no_label() -> None:
    way = PrincipledWay(CONSTITUTION)
    silent = Scripted(lambda ask: Failure("timeout", "nobody", 3) if first_is_good(ask) else letters(0.2, 0.8))
    (case,) = cases_of([pair()])
    ((_, opinion),) = judge(silent, way, [case])
    assert way.label(opinion) is None
    assert way.preference(case, opinion, "m") is None
    assert labels(way, Scripted(lambda ask: "I would rather not say.")) == [None]


def test_a_record_says_which_principle_and_judge_it_comes_from_and_is_read_again(tmp_path: Path) -> None:
    way = PrincipledWay(CONSTITUTION)
    (case,) = cases_of([pair()])
    ((_, opinion),) = judge(Scripted(prefers_good(0.8)), way, [case])
    record = way.preference(case, opinion, "scripted@here")
    assert record is not None
    made = dict(record.made)
    assert (record.a, record.b, record.probability) == ("good 0", "bad 0", pytest.approx(0.8))
    assert made["principle"] == way.principle(case).id
    assert (made["by"], made["model"], made["constitution"]) == ("constitution", "scripted@here", CONSTITUTION.version)
    assert made["consistency"] == 1.0
    write_records(tmp_path / "ai.jsonl", [record])
    (again,) = load_preferences(DataSpec(str(tmp_path / "ai.jsonl"))).records
    assert (again.probability, dict(again.made)) == (record.probability, made)


def test_the_template_depends_on_the_principle_and_on_thoughts() -> None:
    cases = cases_of([pair(i) for i in range(12)])
    plain, thinking = PrincipledWay(CONSTITUTION), PrincipledWay(CONSTITUTION, thoughts=True)
    versions = {plain.principle(case).id: plain.template(case).version for case in cases}
    assert len(set(versions.values())) == 2
    assert all(thinking.template(case).version not in versions.values() for case in cases)


def test_ties_have_no_letter_and_more_than_two_answers_no_principle() -> None:
    assert PrincipledWay(CONSTITUTION, manner=Manner(ties=True)).manner.ties is False
    with pytest.raises(HeedfulError, match="chooses between two answers"):
        PrincipledWay(CONSTITUTION).orders(Case((Message("user", "q"),), ("a", "b", "c")))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.text(max_size=12), st.text(max_size=12)), min_size=1, max_size=4),
    st.lists(st.floats(0.01, 0.99), min_size=3, max_size=3),
)
def test_no_text_however_odd_moves_a_label_to_another_pair(texts: list[tuple[str, str]], odds: list[float]) -> None:
    """Every label equals that of the pair judged alone."""

    def answer(ask: Ask) -> Reply:
        value = odds[int(ask.key("m")[:6], 16) % 3]
        return letters(value, 1 - value)

    way = PrincipledWay(CONSTITUTION)
    records = [Preference((Message("user", f"{i}"),), a, b) for i, (a, b) in enumerate(texts)]
    cases = cases_of(records)
    together = dict(judge(Scripted(answer, seed=1), way, cases))
    for number, case in enumerate(cases):
        ((_, alone),) = judge(Scripted(answer), way, [case])
        assert way.label(together[number]) == way.label(alone)
