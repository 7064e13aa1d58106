"""Critique and revision: what is asked, what is kept, and that no text of anybody moves a chain to another item."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heedful.data.records import Demonstration, Message, Origin
from heedful.feedback.ai.answering import Sampling
from heedful.feedback.ai.asks import Ask, BudgetSpentError, Failure
from heedful.feedback.ai.constitution import Principle
from heedful.feedback.ai.quoting import quoted, unwrapped
from heedful.feedback.ai.revising import (
    Answered,
    Revising,
    answered,
    demonstrations,
    figures,
    preferences,
    revise,
)
from heedful.feedback.ai.spending import Spent
from scripted_asker import Scripted, reply

PRINCIPLES = (
    Principle("kind", critique="Is it kind?", revision="Make it kind."),
    Principle("true", critique="Is it true?", revision="Make it true."),
)


def how(rounds: int = 2, **over: object) -> Revising:
    made = Revising(PRINCIPLES, rounds, 0, Sampling(50, 0.0), Sampling(80, 0.0))
    return replace(made, **over)  # type: ignore[arg-type]


def items(*answers: str, prompt: str = "Hi") -> list[Answered]:
    asked = (Message("user", prompt),)
    return answered([Demonstration(asked, text, Origin("f", i)) for i, text in enumerate(answers, 1)])


def shown(ask: Ask, name: str) -> str:
    """What an ask holds between a pair of tags."""
    found = re.search(rf"<({name}(?:-\d+)?)>\n(.*)\n</\1>", ask.messages[-1].content, re.DOTALL)
    assert found, ask.messages[-1].content
    return found[2]


def bettered(ask: Ask) -> str:
    """A critique that names the answer; a revision that counts up."""
    text = ask.messages[-1].content
    answer = shown(ask, "answer")
    return f"{answer}+" if "<critique" in text else f"poor: {answer}"


def test_a_chain_critiques_and_revises_its_newest_answer_by_the_principles_drawn() -> None:
    asker = Scripted(bettered)
    (chain,) = revise(items("ok"), asker, how(), Spent(), at_once=8)
    assert [(step.critique, step.revision) for step in chain.steps] == [("poor: ok", "ok+"), ("poor: ok+", "ok++")]
    assert [ask.max_tokens for ask in asker.paid] == [50, 80, 50, 80]
    for step, critique, revision in zip(chain.steps, asker.paid[::2], asker.paid[1::2], strict=True):
        principle = next(p for p in PRINCIPLES if p.id == step.principle)
        assert principle.critique in critique.messages[-1].content
        assert principle.revision in revision.messages[-1].content
        assert shown(critique, "user") == "Hi"
        assert shown(revision, "critique") == step.critique
    assert chain.row()["revision"] == "ok++"


def test_principles_depend_on_the_item_and_not_on_what_else_is_revised() -> None:
    many = items(*(f"answer {i}" for i in range(30)))
    drawn = {
        c.item.key: [s.principle for s in c.steps] for c in revise(many, Scripted(bettered), how(), Spent(), at_once=4)
    }
    assert len({tuple(names) for names in drawn.values()}) == 4
    for chain in revise(many[::-7], Scripted(bettered), how(), Spent(), at_once=99):
        assert [step.principle for step in chain.steps] == drawn[chain.item.key]
    other = list(revise(many, Scripted(bettered), how(seed=1), Spent(), at_once=99))
    assert [s.principle for c in other for s in c.steps] != [name for names in drawn.values() for name in names]


def test_copies_of_an_item_draw_their_own_replies_where_replies_are_drawn() -> None:
    asker = Scripted(bettered)
    warm = how(rounds=1, critique=Sampling(50, 1.0), revision=Sampling(80, 1.0))
    chains = list(revise(items("ok", "ok", "ok"), asker, warm, Spent(), at_once=8))
    assert [chain.item.copy for chain in chains] == [0, 1, 2]
    critiques = [ask for ask in asker.paid if "<critique>" not in ask.messages[-1].content]
    assert {ask.draw for ask in critiques} == {0, 1, 2}
    assert len({ask.seed for ask in critiques}) == 3


@pytest.mark.parametrize(
    ("said", "reason", "part"),
    [
        (Failure("timeout", "nobody there", 6), "timeout", "critique"),
        (reply("I will not", finish="refusal"), "refused", "critique"),
        (reply("and so", finish="length"), "cut short", "critique"),
        (reply("  \n"), "empty", "critique"),
        (reply("\0"), "unusable", "critique"),
    ],
)
def test_a_reply_that_is_not_whole_ends_its_chain_and_demonstrates_nothing(
    said: object, reason: str, part: str
) -> None:
    def answer(ask: Ask) -> object:
        return said if "second" in ask.messages[-1].content else bettered(ask)

    chains = list(revise(items("first", "second", "third"), Scripted(answer), how(), Spent(), at_once=8))  # type: ignore[arg-type]
    assert [chain.broken and (chain.broken.reason, chain.broken.part, chain.broken.round) for chain in chains] == [
        None,
        (reason, part, 1),
        None,
    ]
    assert [row["completion"][0]["content"] for row in demonstrations(chains)] == ["first++", "third++"]
    assert chains[1].row()["revision"] is None
    assert figures(chains)["broken"] == {reason: 1}


def test_a_chain_that_breaks_late_keeps_what_it_had() -> None:
    def answer(ask: Ask) -> object:
        late = shown(ask, "answer") == "ok+" and "<critique>" in ask.messages[-1].content
        return reply("<answer> </answer>") if late else bettered(ask)

    (chain,) = revise(items("ok"), Scripted(answer), how(), Spent(), at_once=8)  # type: ignore[arg-type]
    assert chain.broken is not None
    assert (chain.broken.round, chain.broken.part, chain.broken.reason) == (2, "revision", "empty")
    assert [step.revision for step in chain.steps] == ["ok+"]
    assert demonstrations([chain]) == []


def test_pairs_say_how_they_were_made_and_leave_out_what_did_not_change() -> None:
    def answer(ask: Ask) -> str:
        return "kept" if shown(ask, "answer") == "kept" else bettered(ask)

    chains = list(revise(items("kept", "ok"), Scripted(answer), how(rounds=1), Spent(), at_once=8))
    (pair,) = preferences(chains, "v1")
    assert (pair.a, pair.b, pair.probability) == ("ok+", "ok", 1.0)
    assert dict(pair.made) == {"by": "revision", "constitution": "v1", "principles": chains[1].steps[0].principle}
    found = figures(chains)
    assert (found["whole"], found["changed"]) == (2, 1)
    assert sum(one["drawn"] for one in found["principles"].values()) == 2
    assert sum(one["changed"] for one in found["principles"].values()) == 1


def test_a_budget_that_ends_keeps_whole_chains_and_nothing_is_paid_for_twice() -> None:
    work = items(*(f"a{i}" for i in range(6)))
    asker = Scripted(bettered, budget=11)
    done = []
    with pytest.raises(BudgetSpentError):  # noqa: PT012
        for chain in revise(work, asker, how(), Spent(), at_once=2):
            done.append(chain)  # noqa: PERF402
    assert [chain.item.answer for chain in done] == ["a0", "a1"]
    assert len(asker.paid) == 11
    asker.budget = None
    spent = Spent()
    chains = list(revise(work, asker, how(), spent, at_once=2))
    assert [chain.answer for chain in chains] == [f"a{i}++" for i in range(6)]
    assert len(asker.paid) == 24, "6 chains of 2 rounds ask 24 questions in all, however often they are started"
    assert (spent.replies, spent.cached, spent.cost, spent.paid) == (24, 11, 6.0, 3.25)


TAGS = st.sampled_from(
    ["<answer>", "</answer>", "</answer-2>", "<critique>", "</user>", "<user-3>", "x", "\n", "</ANSWER>"]
)
ODD = st.lists(
    TAGS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=4), max_size=8
)
ODD_TEXT = ODD.map("".join).filter(str.strip)


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "answer"]), ODD_TEXT), min_size=1, max_size=4))
@example([("answer", "one\n</answer>\n\n<answer>\ntwo")])
@example([("user", "one\n</user>\n\n<answer>\ntwo"), ("answer", "three\n</answer-2>\n\n")])
def test_what_stands_between_tags_is_one_whole_text(parts: list[tuple[str, str]]) -> None:
    text = quoted(parts)
    suffix = re.search(r"\A<[a-z]+(-\d+)?>", text)[1] or ""  # type: ignore[index]
    found = re.findall(rf"<([a-z]+){suffix}>\n(.*?)\n</\1{suffix}>(?:\n\n|\Z)", text, re.DOTALL)
    assert found == parts


@settings(max_examples=60, deadline=None)
@given(st.lists(ODD_TEXT, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_no_reply_however_odd_moves_a_chain_to_another_item(said: list[str], chance: object) -> None:
    """Replies are drawn from odd texts by what was asked; every chain must hold the replies to its own questions."""

    def answer(ask: Ask) -> str:
        digits = int(ask.key("m")[:8], 16)
        return said[digits % len(said)]

    work = items(*said, *said[::-1])
    warm = how(critique=Sampling(50, 1.0), revision=Sampling(80, 1.0))
    together = list(revise(work, Scripted(answer, seed=3), warm, Spent(), at_once=99))
    assert [chain.item for chain in together] == work
    for chain in together:
        assert next(iter(revise([chain.item], Scripted(answer), warm, Spent(), at_once=1))) == chain


def test_a_thought_before_the_answer_is_taken_off() -> None:
    (chain,) = revise(
        items("ok"),
        Scripted(lambda ask: f"<think>let me see</think>\n{bettered(ask)}"),
        how(rounds=1),
        Spent(),
        at_once=1,
    )
    assert (chain.steps[0].critique, chain.answer) == ("poor: ok", "ok+")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("<answer>\nHello.\n</answer>", "Hello."),
        (" <answer-2>Hello.</answer-2>\n", "Hello."),
        ("<answer>one</answer> and <answer>two</answer>", "<answer>one</answer> and <answer>two</answer>"),
        ("<answer>Hello.</answer-2>", "<answer>Hello.</answer-2>"),
        ("Here: <answer>Hello.</answer>", "Here: <answer>Hello.</answer>"),
    ],
)
def test_only_a_pair_of_tags_around_all_of_it_is_taken_off(text: str, found: str) -> None:
    assert unwrapped(text, "answer") == found
