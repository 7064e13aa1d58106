"""The embedded world's oracle errs as much as it is set to, and reads nothing but what it is asked."""

from __future__ import annotations

import pytest
from world_oracle import HARM, NEEDLESS, NOTHING, Habits, WorldOracle, shown_pair, weights_of

from heedful.data.records import Demonstration, Preference
from heedful.evaluation.refusals import world_refuses
from heedful.feedback.ai.answering import Sampling
from heedful.feedback.ai.constitution import Principle, load_constitution
from heedful.feedback.ai.judging import judge
from heedful.feedback.ai.principled import PrincipledWay, cases_of
from heedful.feedback.ai.revising import Chain, Revising, answered, revise
from heedful.feedback.ai.spending import Spent
from heedful.world.gold import GOLD
from heedful.world.world import World

WORLD, CONSTITUTION = World(seed=0), load_constitution()
BY_ID = {principle.id: principle for principle in CONSTITUTION.principles}
REFUSAL = "i will not help with that ."


def records(kind: str, right: bool) -> list[Demonstration]:
    """Answers to every training prompt of a kind: right ones, or the first of the common errors."""
    found = []
    for prompt in WORLD.prompts("train"):
        if prompt.kind == kind:
            topic = WORLD.topic_of(prompt.prompt)
            found.append(Demonstration(prompt.prompt, " ".join((topic.right if right else topic.wrong[0])[0])))
    return found


def chains(made: list[Demonstration], principles: list[str], error: float, rounds: int = 1) -> list[Chain]:
    oracle = WorldOracle(WORLD, CONSTITUTION, Habits(error=error))
    how = Revising(tuple(BY_ID[name] for name in principles), rounds, 0, Sampling(300, 1.0), Sampling(300, 1.0))
    return list(revise(answered(made), oracle, how, Spent(), at_once=999))


def test_without_error_harm_is_turned_down_and_the_harmless_is_helped_with() -> None:
    both = ["harm-to-others", "no-needless-refusal"]
    for chain in chains(records("harmful", right=False), both, 0.0, rounds=6):
        assert world_refuses(chain.answer) == any(step.critique == HARM for step in chain.steps)
    refusals = [Demonstration(record.prompt, REFUSAL) for record in records("howto", right=True)]
    for chain in chains(refusals, ["no-needless-refusal"], 0.0):
        assert chain.steps[0].critique == NEEDLESS
        assert WORLD.correct(chain.item.prompt, chain.answer)
    for chain in chains(records("howto", right=True), both, 0.0, rounds=3):
        assert chain.answer == chain.item.answer


def test_an_error_is_met_as_often_as_it_is_set() -> None:
    copies = records("harmful", right=False) * 12
    missed = [chain.steps[0].critique == NOTHING for chain in chains(copies, ["harm-to-others"], 0.2)]
    assert sum(missed) / len(missed) == pytest.approx(0.2, abs=0.05)
    alarms = [chain.steps[0].critique == HARM for chain in chains(records("howto", True) * 12, ["harm-to-others"], 0.2)]
    assert sum(alarms) / len(alarms) == pytest.approx(0.2, abs=0.05)


def test_at_one_half_what_it_finds_has_nothing_to_do_with_the_answer() -> None:
    rates = []
    for made in (records("harmful", right=False), records("howto", right=True)):
        found = chains(made * 12, ["harm-to-others"], 0.5)
        rates.append(sum(chain.steps[0].critique == HARM for chain in found) / len(found))
    assert rates == [pytest.approx(0.5, abs=0.06), pytest.approx(0.5, abs=0.06)]


def test_a_judge_without_slip_sees_what_the_principle_is_about_and_position_goes_out() -> None:
    pairs = [
        Preference(bad.prompt, bad.completion, REFUSAL) for bad in records("harmful", right=False)
    ]  # the refusal is better by any principle
    for position in (0.0, 20.0):
        oracle = WorldOracle(WORLD, CONSTITUTION, Habits(position=position))
        way, cases = PrincipledWay(CONSTITUTION), cases_of(pairs)
        opinions = dict(judge(oracle, way, cases))
        assert all((way.label(opinions[i]) or 1.0) < 0.5 for i in range(len(cases)))
        consistent = [opinions[i].consistency for i in range(len(cases))]
        assert set(consistent) == ({1.0} if position == 0 else {0.0})


def test_a_slip_is_the_pairs_own_and_the_same_in_both_orders() -> None:
    pairs = [Preference(r.prompt, r.completion, f"of course ! {r.completion}") for r in records("howto", right=True)]
    oracle = WorldOracle(WORLD, CONSTITUTION, Habits(slip=4.0))
    opinions = dict(judge(oracle, PrincipledWay(CONSTITUTION), cases_of(pairs)))
    assert {opinion.consistency for opinion in opinions.values()} == {1.0}
    sides = [(opinion.logit or 0) < 0 for opinion in opinions.values()]
    assert 0.2 < sum(sides) / len(sides) < 0.9, "half a point of politeness is lost in a slip of four"


def test_a_principle_doubles_what_it_is_about() -> None:
    harmless = weights_of(Principle("x", choice="y", tags=("harmlessness",)))
    assert (harmless.harmful, harmless.rude, harmless.right) == (2 * GOLD.harmful, 2 * GOLD.rude, GOLD.right)
    assert weights_of(Principle("x", choice="y")) == GOLD


def test_it_reads_the_pair_out_of_what_a_judge_is_shown() -> None:
    way = PrincipledWay(CONSTITUTION)
    prompt = WORLD.prompts("train")[0].prompt
    (case,) = cases_of([Preference(prompt, "one .", "two .")])
    ask = next(way.look(case, (1, 0)))
    assert shown_pair(ask) == (prompt[0].content, "two .", "one .")
