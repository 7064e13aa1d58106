"""Which pair next: information against enumeration, beliefs against judgments, and the greedy choice by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.crowd import Floats, judgments
from heedful.core.rater_aware import RaterAware, rater_aware
from heedful.core.selection import (
    Chance,
    CrowdInformation,
    Disagreement,
    ModelInformation,
    Score,
    candidates,
    choose,
    information,
    successive,
)


def channels(seed: int, outcomes: int, states: int, rows: int = 2) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    belief = rng.dirichlet(np.ones(states), size=rows)
    return belief, np.moveaxis(rng.dirichlet(np.ones(outcomes), size=(rows, states)), 2, 0)


def by_enumeration(belief: Floats, channel: Floats, votes: int) -> float:
    """Information of a sequence of outcomes, from its joint distribution with the state."""
    total = 0.0
    for sequence in itertools.product(range(len(channel)), repeat=votes):
        joint = belief * np.prod([channel[v] for v in sequence], axis=0)
        total += sum(j * math.log(j / (b * joint.sum())) for j, b in zip(joint, belief, strict=True) if j > 0)
    return total


def test_a_binary_channel_is_known_in_closed_form() -> None:
    belief = np.array([[0.5, 0.5], [1.0, 0.0]])
    right = np.array([[0.9, 0.1], [0.9, 0.1]])
    assert information(belief, np.stack([right, 1 - right])) == pytest.approx([0.3680642, 0.0], abs=1e-7)
    half = np.full((2, 2), 0.5)
    assert information(belief, np.stack([half, half])) == pytest.approx([0.0, 0.0], abs=1e-12)
    sure = np.array([[1.0, 0.0], [1.0, 0.0]])
    assert information(belief, np.stack([sure, 1 - sure])) == pytest.approx([math.log(2), 0.0], abs=1e-12)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 4), st.integers(2, 4), st.integers(1, 4))
def test_further_votes_add_up_to_what_their_sequence_tells_and_fall(
    seed: int, outcomes: int, states: int, votes: int
) -> None:
    belief, channel = channels(seed, outcomes, states)
    found = successive(belief, channel, votes)
    assert found.shape == (2, votes)
    for row in range(2):
        for count in range(1, votes + 1):
            wanted = by_enumeration(belief[row], channel[:, row], count)
            assert found[row, :count].sum() == pytest.approx(wanted, abs=1e-10)
    assert (np.diff(found, axis=1) <= 1e-10).all()


def test_no_vote_is_refused() -> None:
    with pytest.raises(ValueError, match="0 votes"):
        successive(*channels(1, 2, 2), 0)


@pytest.fixture(scope="module")
def fit() -> RaterAware:
    """Fifty pairs by three careful raters and a coin-tosser; three more are settled, split, and seen once."""
    rng = np.random.default_rng(3)
    truth = np.where(rng.random(50) < 0.5, 1, -1)
    item, rater, vote = [], [], []
    for at, side in enumerate(truth):
        for who in ("ada", "ben", "cy"):
            item.append(f"pair {at}")
            rater.append(who)
            vote.append(side if rng.random() < 0.88 else -side)
        item.append(f"pair {at}")
        rater.append("coin")
        vote.append(1 if rng.random() < 0.5 else -1)
    for name, votes in (("settled", (1, 1, 1)), ("split", (1, -1)), ("once", (1,))):
        for who, said in zip(("ada", "ben", "cy"), votes, strict=False):
            item.append(name)
            rater.append(who)
            vote.append(said)
    return rater_aware(judgments(item, rater, vote))


def test_a_settled_pair_tells_least_and_a_new_one_most(fit: RaterAware) -> None:
    worth = CrowdInformation(fit).score(candidates(["new", "split", "once", "settled"]))
    assert worth[0] > worth[1] > worth[3] > 0
    assert worth[0] > worth[2] > worth[3]


def test_a_careful_raters_vote_tells_more_than_a_coin(fit: RaterAware) -> None:
    pairs = candidates(["new", "split"])
    careful, coin = (CrowdInformation(fit, rater=who).score(pairs) for who in ("ada", "coin"))
    assert (careful > 4 * coin).all()
    with pytest.raises(ValueError, match="no rater"):
        CrowdInformation(fit, rater="dora")


def test_beliefs_are_those_of_the_fit_and_the_prior_elsewhere(fit: RaterAware) -> None:
    found = CrowdInformation(fit).beliefs(candidates(["settled", "new"]))
    nodes = fit.likelihood.nodes
    at = fit.consensus.item_ids.tolist().index("settled")
    assert fit.consensus.posterior is not None
    above = found[0, nodes > 0].sum() + found[0, nodes == 0].sum() / 2
    assert above == pytest.approx(fit.consensus.posterior[at], abs=1e-9)
    assert found[1] @ nodes == pytest.approx(0, abs=1e-12)
    assert found[1] @ nodes**2 == pytest.approx(1, abs=0.01)


def test_information_of_a_crowd_is_that_of_its_own_votes(fit: RaterAware) -> None:
    """By hand from the belief: a vote of logit slope x difference."""
    score = CrowdInformation(fit)
    pairs = candidates(["split"])
    belief, nodes = score.beliefs(pairs)[0], fit.likelihood.nodes
    p = 1 / (1 + np.exp(-fit.reference * nodes))
    mean = float(belief @ p)

    def entropy(x: Floats) -> Floats:
        return -x * np.log(x) - (1 - x) * np.log(1 - x)

    wanted = float(entropy(np.array(mean)) - belief @ entropy(p))
    assert score.score(pairs) == pytest.approx([wanted], abs=1e-12)
    assert score.further(pairs, 3)[0, 0] == pytest.approx(wanted, abs=1e-12)


def test_position_bias_costs_information_whichever_side_it_favours() -> None:
    """Two crowds alike but for one that leans to what is shown first: a lean hides what raters see."""
    rng = np.random.default_rng(5)
    n, who = 150, 6
    z = rng.normal(size=n)
    told = []
    for lean in (0.0, 3.0):
        item = np.repeat(np.arange(n), who)
        order = np.where(rng.random(n * who) < 0.5, 1.0, -1.0)
        p = 1 / (1 + np.exp(-(2 * z[item] + lean * order)))
        vote = np.where(rng.random(n * who) < p, 1, -1)
        found = rater_aware(judgments(item, np.tile(np.arange(who), n), vote, order=order), errors=False)
        told.append(float(CrowdInformation(found).score(candidates([-1]))[0]))
    assert told[1] < 0.6 * told[0]


def test_models_that_agree_tell_nothing_however_close_the_pair() -> None:
    margins = np.array([[0.0, 4.0, 2.0, 7.0], [0.0, 4.0, -2.0, 3.0]])
    pairs = candidates(["close", "sure", "differ", "sure of one side"], margins=margins)
    told = ModelInformation().score(pairs)
    assert told[:2] == pytest.approx([0, 0], abs=1e-12)
    # p = 0.8808 and 0.1192 from the margins 2 and -2: log 2 less the entropy of 0.8808.
    assert told[2] == pytest.approx(0.327813, abs=1e-5)
    assert told[3] < 0.02
    assert Disagreement().score(pairs) == pytest.approx([0, 0, 8, 8])


@pytest.mark.parametrize("score", [Disagreement(), ModelInformation()])
def test_one_model_cannot_differ_from_itself(score: Score) -> None:
    for margins in (None, [[1.0]]):
        with pytest.raises(ValueError, match="two or more"):
            score.score(candidates(["x"], margins=margins))


def test_chance_is_the_same_by_its_seed_alone() -> None:
    pairs = candidates(np.arange(6), margins=np.zeros((2, 6)))
    assert Chance(1).score(pairs).tolist() == Chance(1).score(candidates(list("abcdef"))).tolist()
    assert Chance(1).score(pairs).tolist() != Chance(2).score(pairs).tolist()


def test_candidates_must_fit_together() -> None:
    with pytest.raises(ValueError, match="margins"):
        candidates(["a", "b"], margins=[[1.0]])
    with pytest.raises(ValueError, match="finite"):
        candidates(["a"], length=[np.nan])


def test_the_best_by_score_come_first_and_equal_ones_as_they_stand() -> None:
    assert choose([0.1, 0.9, 0.4, 0.9], 3).tolist() == [1, 3, 2]
    assert choose([0.1, 0.2], 5).tolist() == [1, 0]
    assert choose([], 5).tolist() == []
    assert choose([], 5, features=np.zeros((0, 3)), diversity=0.5).tolist() == []


def test_diversity_weighs_score_against_likeness() -> None:
    features = [[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]
    scores = [10.0, 9.0, 6.0, 0.0]
    assert choose(scores, 2, features=features, diversity=0.0).tolist() == [0, 1]
    # Second round at 0.5, scores over 0 to 1: 0.45 - 0.5, 0.3 - 0, 0 - 0.
    assert choose(scores, 4, features=features, diversity=0.5).tolist() == [0, 2, 3, 1]
    # At 0.2: 0.72 - 0.2, 0.48 - 0.
    assert choose(scores, 2, features=features, diversity=0.2).tolist() == [0, 1]
    assert choose(scores, 2, features=features, diversity=0.3).tolist() == [0, 2]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 8))
def test_at_full_diversity_each_is_the_farthest_from_those_taken(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(8, 3))
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    scores = rng.random(8)
    found = choose(scores, count, features=features, diversity=1.0).tolist()
    assert found[0] == int(scores.argmax())
    assert len(set(found)) == count
    for place in range(1, count):
        rest = [one for one in range(8) if one not in found[:place]]
        nearest = {one: max(features[one] @ features[other] for other in found[:place]) for one in rest}
        assert nearest[found[place]] == pytest.approx(min(nearest.values()))


def test_a_choice_that_makes_no_sense_is_refused() -> None:
    for wrong in (
        {"scores": [np.nan], "count": 1},
        {"scores": [1.0], "count": -1},
        {"scores": [1.0], "count": 1, "diversity": 1.5, "features": [[1.0]]},
        {"scores": [1.0], "count": 1, "diversity": 0.5},
        {"scores": [1.0], "count": 1, "diversity": 0.5, "features": [[1.0], [2.0]]},
    ):
        with pytest.raises(ValueError, match=r"choosing|features"):
            choose(**wrong)  # type: ignore[arg-type]
