"""Comparisons from how their answers came about."""

from __future__ import annotations

import pytest

from heedful.data.records import Conversation, Demonstration, Message
from heedful.errors import HeedfulError
from heedful.feedback.ai.answering import Sampling
from heedful.feedback.ai.asks import Ask, Failure
from heedful.feedback.ai.constitution import Constitution, Principle
from heedful.feedback.ai.spending import Spent
from heedful.feedback.ai.synthetic import Contrast, by_contrast, by_models, by_score
from scripted_asker import Scripted, reply

CONSTITUTION = Constitution(
    "c",
    (
        Principle("polite", follow="Be polite.", violate="Be rude."),
        Principle("short", follow="Be brief.", violate="Ramble."),
    ),
    "c.yaml",
)


def asked(text: str) -> Conversation:
    return (Message("user", text),)


def said(prompt: str, answer: str) -> Demonstration:
    return Demonstration(asked(prompt), answer)


def contrast(temperature: float = 0.0) -> Contrast:
    return Contrast(CONSTITUTION, CONSTITUTION.only("contrasting"), 0, Sampling(40, temperature))


def test_stronger_against_weaker_pairs_answers_to_one_prompt_in_their_order() -> None:
    strong = [said("p", "s1"), said("q", "s2"), said("p", "s3"), said("r", "same"), said("t", "s5")]
    weak = [said("q", "w1"), said("p", "w2"), said("p", "w3"), said("r", " same "), said("u", "w5")]
    found = by_models(strong, weak, ("big", "small"))
    assert [(pair.prompt[0].content, pair.a, pair.b) for pair in found.pairs] == [
        ("p", "s1", "w2"),
        ("q", "s2", "w1"),
        ("p", "s3", "w3"),
    ]
    assert all(
        pair.made == (("by", "stronger against weaker"), ("stronger", "big"), ("weaker", "small"))
        for pair in found.pairs
    )
    assert found.left_out == {
        "equal answers": 1,
        "no answer of the weaker model": 1,
        "no answer of the stronger model": 1,
    }


def test_best_against_worst_by_score() -> None:
    records = [said("p", "mid"), said("q", "x"), said("p", "low"), said("p", "high"), said("r", "a"), said("r", "b")]
    found = by_score(records, [1.0, 5.0, -2.0, 3.5, 1.0, 1.25], "runs/reward", least_gap=0.5)
    (pair,) = found.pairs
    assert (pair.prompt[0].content, pair.a, pair.b) == ("p", "high", "low")
    assert dict(pair.made) == {"by": "best against worst", "of": 3, "reward": "runs/reward", "gap": 5.5}
    assert found.left_out == {"one answer alone": 1, "scores too close": 1}
    with pytest.raises(ValueError, match="finite"):
        by_score(records[:1], [float("nan")], "r")


def test_contrast_asks_with_the_principle_kept_and_broken_and_keeps_the_bare_prompt() -> None:
    def answer(ask: Ask) -> str:
        return f"as told: {ask.messages[0].content}"

    asker = Scripted(answer)
    system = (Message("system", "You sell shoes."), Message("user", "hi"))
    found = by_contrast([asked("hello"), system], asker, contrast(), Spent())
    assert not found.left_out
    for pair, prompt in zip(found.pairs, [asked("hello"), system], strict=True):
        principle = next(p for p in CONSTITUTION.principles if p.id == dict(pair.made)["principle"])
        before = "You sell shoes.\n\n" if prompt is system else ""
        assert pair.prompt == prompt
        assert pair.a == f"as told: {before}{principle.follow}"
        assert pair.b == f"as told: {before}{principle.violate}"
        assert dict(pair.made)["constitution"] == CONSTITUTION.version
        assert dict(pair.made)["model"] == "scripted"
    assert [m.role for m in asker.paid[0].messages] == ["system", "user"]


def test_contrast_counts_what_comes_to_nothing_and_moves_no_answer_to_another_prompt() -> None:
    def answer(ask: Ask) -> object:
        question = ask.messages[-1].content
        if question == "silent":
            return Failure("timeout", "nobody", 3)
        if question == "cut":
            return reply("and th", finish="length")
        return "the same" if question == "same" else f"{question}: {ask.messages[0].content}"

    prompts = [asked(text) for text in ("one", "silent", "cut", "same", "two")]
    found = by_contrast(prompts, Scripted(answer, seed=5), contrast(), Spent())  # type: ignore[arg-type]
    assert [pair.prompt[0].content for pair in found.pairs] == ["one", "two"]
    for pair in found.pairs:
        assert pair.a.startswith(pair.prompt[0].content)
        assert pair.b.startswith(pair.prompt[0].content)
    assert found.left_out == {"timeout": 1, "cut short": 1, "equal answers": 1}


def test_a_prompt_that_stands_there_twice_gets_two_pairs_of_its_own() -> None:
    asker = Scripted(lambda ask: f"{ask.draw} {ask.seed} {ask.messages[0].content}")
    found = by_contrast([asked("hi"), asked("hi")], asker, contrast(1.0), Spent())
    assert len({pair.a for pair in found.pairs}) == 2
    assert len(asker.paid) == 4


def test_a_prompt_with_a_tool_is_told_before_anything_is_asked() -> None:
    prompt = (Message("user", "hi"), Message("assistant", "look"), Message("tool", "42"))
    asker = Scripted(lambda ask: "x")
    with pytest.raises(HeedfulError, match="turn of a tool"):
        by_contrast([asked("fine"), prompt], asker, contrast(), Spent())
    assert not asker.paid
