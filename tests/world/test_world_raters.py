"""Simulated raters: measured agreement, planted biases found, controls that control."""

from __future__ import annotations

import numpy as np
import pytest

from heedful.errors import HeedfulError
from heedful.world.language import Dice, pick, reply
from heedful.world.raters import (
    CROWD,
    NOISE,
    PANELS,
    Adversary,
    Pair,
    Rater,
    inverted_labels,
    judge,
    judge_pairs,
    panel,
    shuffled_labels,
)
from heedful.world.web import AUTHORS, DEMONSTRATOR_SHARES
from heedful.world.world import World


@pytest.fixture(scope="module")
def pairs(world: World) -> list[Pair]:
    """Pairs of replies in the demonstrators' manners, right two times in three, as an SFT model's samples are."""
    dice, topics = Dice([5]), {topic.name: topic for topic in world.topics}
    found = []
    for number in range(2500):
        prompt = world.prompts("train")[number % len(world.prompts("train"))]
        a, b = (
            " ".join(reply(dice, topics[prompt.topic], world.topics, author, dice.chance(0.67)))
            for author in (AUTHORS[pick(dice, DEMONSTRATOR_SHARES)] for _ in range(2))
        )
        found.append((prompt.prompt, a, b))
    return found


def gaps(world: World, pairs: list[Pair]) -> np.ndarray:
    return np.array([world.gold(p, a) - world.gold(p, b) for p, a, b in pairs])


def test_two_raters_agree_as_people_do(world: World, pairs: list[Pair]) -> None:
    for_a = judge(world, pairs, panel(), votes=2, seed=1).for_a
    assert 0.63 < np.mean(for_a[:, 0] == for_a[:, 1]) < 0.73


def test_voting_helps_and_noise_hurts(world: World, pairs: list[Pair]) -> None:
    gap = gaps(world, pairs)
    told = gap != 0

    def right(votes: int, noise: float) -> float:
        labels = judge_pairs(world, pairs, panel(noise=noise), votes=votes, seed=2)
        return float(np.mean([(r.probability > 0.5) == (g > 0) for r, g in zip(labels, gap, strict=True) if g != 0]))

    assert told.mean() > 0.9
    assert right(1, NOISE) < right(3, NOISE) < right(15, NOISE)
    assert right(1, 0.0) == 1.0
    assert right(1, 1e6) == pytest.approx(0.5, abs=0.03)


def test_votes_follow_the_bradley_terry_model(world: World) -> None:
    prompt = world.prompts("train")[0].prompt
    topic = world.topic_of(prompt)
    right, wrong = " ".join(topic.right[0]), " ".join(topic.wrong[0][0])
    assert world.gold(prompt, right) - world.gold(prompt, wrong) == pytest.approx(6.0)
    raters = [Rater(noise=6.0)]
    for_a = judge(world, [(prompt, right, wrong)] * 4000, raters, votes=1, seed=3).for_a
    assert for_a.mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.025)  # 6 points at noise 6
    equal = judge(world, [(prompt, right, right)] * 4000, raters, votes=1, seed=3).for_a
    assert equal.mean() == pytest.approx(0.5, abs=0.025)


def test_position_bias_is_averaged_out_by_the_random_order(world: World, pairs: list[Pair]) -> None:
    prompt = world.prompts("train")[0].prompt
    text = " ".join(world.topic_of(prompt).right[0])
    biased = Rater(position_bias=1.5)
    assert biased.prefers_first(np.zeros(1), np.zeros(1))[0] == pytest.approx(1 / (1 + np.exp(-1.5 / NOISE)))
    for_a = judge(world, [(prompt, text, text)] * 4000, panel("position"), votes=1, seed=4).for_a
    assert for_a.mean() == pytest.approx(0.5, abs=0.025)
    gap = gaps(world, pairs)

    def right(rater: Rater) -> float:
        votes = judge(world, pairs, [rater], votes=1, seed=1).for_a
        return float(np.mean((votes[:, 0] == (gap > 0))[gap != 0]))

    assert right(Rater(position_bias=4.0)) < right(Rater()) - 0.03


def test_the_order_shown_tells_whom_a_position_bias_favoured(world: World) -> None:
    prompt = world.prompts("train")[0].prompt
    text = " ".join(world.topic_of(prompt).right[0])
    said = judge(world, [(prompt, text, text)] * 2000, [Rater(position_bias=1e6)], votes=1, seed=4)
    assert (said.for_a == said.a_first).all()
    assert said.a_first.mean() == pytest.approx(0.5, abs=0.04)


def test_the_crowd_has_careful_ones_coin_tossers_and_adversaries(world: World, pairs: list[Pair]) -> None:
    gap = gaps(world, pairs)

    def right(name: str) -> float:
        rater = next(one for one in CROWD if one.name == name)
        votes = judge(world, pairs, [rater], votes=1, seed=2).for_a
        return float(np.mean((votes[:, 0] == (gap > 0))[gap != 0]))

    assert right("honest 1") > 0.75
    assert right("spammer 1") == pytest.approx(0.5, abs=0.06)
    assert right("adversary 1") < 0.4
    worse, better = Adversary(), Rater()
    ones = np.ones(1)
    assert worse.prefers_first(ones, 0 * ones) == pytest.approx(1 - better.prefers_first(ones, 0 * ones))


def test_length_and_confidence_biases_show(world: World, pairs: list[Pair]) -> None:
    fair = judge(world, pairs, panel(), votes=1, seed=5).for_a
    long = judge(world, pairs, panel("length"), votes=1, seed=5).for_a
    bold = judge(world, pairs, panel("confidence"), votes=1, seed=5).for_a
    longer = np.array([len(a.split()) - len(b.split()) for _, a, b in pairs])
    for_longer = [float(np.mean(v[longer > 0, 0])) for v in (fair, long)]
    assert for_longer[1] > for_longer[0] + 0.05
    read = [(world.attributes(p, a), world.attributes(p, b)) for p, a, b in pairs]
    bolder = np.array([(a.certain - a.hedges) - (b.certain - b.hedges) for a, b in read])
    assert np.mean(bold[bolder > 0, 0]) > np.mean(fair[bolder > 0, 0]) + 0.1


def test_groups_differ_in_taste(world: World) -> None:
    prompt = world.prompts("train")[0].prompt
    said = " ".join(world.topic_of(prompt).right[0])
    polite = f"of course ! it is what it is . {said} all the best !"
    warm, brisk = PANELS["groups"][0], PANELS["groups"][-1]
    votes = [judge(world, [(prompt, polite, said)] * 500, [r], votes=1, seed=6)[0].mean() for r in (warm, brisk)]
    assert votes[0] > 0.65 > 0.35 > votes[1]


def test_raters_of_a_pair_are_distinct_and_the_seed_fixes_all(world: World, pairs: list[Pair]) -> None:
    few = pairs[:200]
    for_a, who, shown = judge(world, few, panel(), votes=3, seed=8)
    assert all(len(set(row)) == 3 for row in who.tolist())
    again = judge(world, few, panel(), votes=3, seed=8)
    assert (for_a == again.for_a).all()
    assert (shown == again.a_first).all()
    assert (for_a != judge(world, few, panel(), votes=3, seed=9)[0]).any()
    labels = judge_pairs(world, few, panel(), votes=3, seed=8)
    assert [label.probability for label in labels] == for_a.mean(1).tolist()
    assert {label.votes for label in labels} == {3}


def test_controls(world: World, pairs: list[Pair]) -> None:
    labels = judge_pairs(world, pairs, panel(), votes=3, seed=8)
    gap = gaps(world, pairs)

    def correlation(records: list) -> float:  # type: ignore[type-arg]
        return float(np.corrcoef(gap, [r.probability for r in records])[0, 1])

    assert correlation(labels) > 0.4
    assert correlation(inverted_labels(labels)) == pytest.approx(-correlation(labels))
    assert abs(correlation(shuffled_labels(labels, seed=1))) < 0.08
    assert {(r.a, r.b) for r in shuffled_labels(labels, seed=1)} == {(r.a, r.b) for r in labels}


def test_mistakes_are_named(world: World) -> None:
    with pytest.raises(HeedfulError, match="unbiased"):
        panel("unbiassed")
    with pytest.raises(ValueError, match="needs raters and votes"):
        judge_pairs(world, [], [], votes=3, seed=0)
    with pytest.raises(ValueError, match="noise"):
        Rater(noise=-1.0)
