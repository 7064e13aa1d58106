from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
from crowd_study import CROWDS, simulate
from scipy.integrate import quad

from heedful.core.crowd import Judgments, judgments
from heedful.core.rater_aware import _layout, rater_aware
from heedful.core.rater_fit import STEP
from heedful.core.rater_items import ITEM_PRIORS, _Model, contests, rater_aware_items
from heedful.core.rater_likelihood import Cells, Likelihood, grid
from heedful.core.rater_terms import Layout, Penalty, Priors, Votes


def mixed_crowd(strengths: bool = False) -> Judgments:
    """A small one of which everything is fitted: ties, positions, lengths, gold that anchors, and strengths."""
    random = np.random.default_rng(0)
    item = np.concatenate([np.repeat(np.arange(60), 3), np.repeat(np.arange(60, 70), 5)])
    rater = random.integers(0, 6, len(item))
    length = np.round(np.tanh(random.normal(size=70)), 1)
    vote = random.choice([-1.0, 0.0, 1.0], len(item), p=[0.35, 0.2, 0.45])
    if strengths:
        vote *= random.choice([1 / 3, 1.0], len(item))
    gold = {60: 1, 61: -1, 62: 1, 63: 0, 64: 0, 65: 0, 66: 0}
    weight = random.choice([0.5, 1.0], len(item))
    order = random.choice([-1.0, 0.0, 1.0], len(item))
    return judgments(item, rater, vote, order=order, length=length[item], weight=weight, gold=gold)


def likelihood_of(data: Judgments) -> Likelihood:
    votes, layout, _ = _layout(data)
    cells = Cells.of(data, votes, ordered="position" in layout.kinds, lengthy="length" in layout.kinds)
    return Likelihood(cells, votes, layout, grid(5))


def numeric(function: object, x: np.ndarray, step: float) -> np.ndarray:
    """Central differences of a function's value or of its gradient."""
    rows = [(function(x + step * e) - function(x - step * e)) / (2 * step) for e in np.eye(len(x))]  # type: ignore[operator]
    return np.array(rows)


class TestVotes:
    def test_two_votes_are_bradley_terry(self) -> None:
        found = np.exp(Votes.of(np.array([1.0, -1.0])).log_probability(np.array([0.8]), np.zeros(1), np.zeros(0)))
        assert found[:, 0] == pytest.approx([1 / (1 + math.exp(0.8)), 1 / (1 + math.exp(-0.8))])

    def test_ties_are_davidson_s(self) -> None:
        votes = Votes.of(np.array([1.0, 0.0]))
        found = np.exp(votes.log_probability(np.array([math.log(4)]), np.array([math.log(0.5)]), np.zeros(0)))
        # strengths 4 and 1: 4, 0.5 sqrt(4) and 1, over their sum
        assert found[:, 0] == pytest.approx([1 / 6, 1 / 6, 4 / 6])

    def test_neighbouring_strengths_have_a_constant_odds_ratio(self) -> None:
        votes = Votes.of(np.array([1.0, 1 / 3]))
        assert votes.values == pytest.approx([-1, -1 / 3, 1 / 3, 1])
        one, other = (votes.log_probability(np.array([eta]), np.zeros(1), np.array([0.3]))[:, 0] for eta in (0.0, 3.0))
        assert np.diff(other) - np.diff(one) == pytest.approx([1, 1, 1])


class TestLikelihood:
    def test_one_pair_against_an_integral(self) -> None:
        data = judgments([0, 0, 0], [0, 1, 2], ["a", "a", "b"])
        slopes = np.array([2.0, 0.5, -1.0])
        found, _ = likelihood_of(data).value_and_gradient(np.append(slopes, 1.5))

        def chance(z: float) -> float:
            right = 1 / (1 + np.exp(-slopes * z))
            return float(right[0] * right[1] * (1 - right[2]) * math.exp(-z * z / 2) / math.sqrt(2 * math.pi))

        assert math.exp(found) == pytest.approx(quad(chance, -8, 8)[0], rel=1e-4)

    def test_all_answers_of_three_raters_sum_to_one(self) -> None:
        total = 0.0
        for votes in itertools.product([-1.0, 0.0, 1.0], repeat=3):
            # a second pair holds the votes that occur; what it adds is divided out
            data = judgments([0] * 3 + [1] * 3, [0, 1, 2] * 2, [*votes, 1, 0, -1], order=[1, -1, 1] * 2)
            alone = judgments([1] * 3, [0, 1, 2], [1, 0, -1], order=[1, -1, 1])
            x = np.random.default_rng(0).normal(size=likelihood_of(data).layout.size)
            both, one = (likelihood_of(part).value_and_gradient(x)[0] for part in (data, alone))
            total += math.exp(both - one)
        assert total == pytest.approx(1)

    @pytest.mark.parametrize("strengths", [False, True])
    def test_derivatives_against_differences(self, strengths: bool) -> None:
        likelihood = likelihood_of(mixed_crowd(strengths))
        assert likelihood.layout.kinds == ("slope", "tie", "position", "length")
        assert likelihood.layout.cuts == int(strengths)
        x = np.random.default_rng(1).normal(size=likelihood.layout.size) * 0.7
        gradient = likelihood.value_and_gradient(x)[1]
        assert gradient == pytest.approx(numeric(lambda y: likelihood.value_and_gradient(y)[0], x, 1e-5), abs=1e-5)
        hessian = numeric(lambda y: likelihood.value_and_gradient(y)[1], x, 1e-4)
        assert likelihood.information(x, exact=True) == pytest.approx(-hessian, abs=1e-5)

    def test_scores_sum_to_the_gradient(self) -> None:
        likelihood = likelihood_of(mixed_crowd(True))
        x = np.random.default_rng(2).normal(size=likelihood.layout.size) * 0.5
        scores = likelihood._scores(x, likelihood.posterior(x))
        assert np.asarray(scores.sum(0)).ravel() == pytest.approx(likelihood.value_and_gradient(x)[1], abs=1e-8)
        assert likelihood.information(x, exact=False) == pytest.approx((scores.T @ scores).toarray())

    def test_hundreds_of_judgments_of_one_pair_do_not_overflow(self) -> None:
        likelihood = likelihood_of(judgments([0] * 3000, np.arange(3000) % 3, [1.0] * 2000 + [-1.0] * 1000))
        value, gradient = likelihood.value_and_gradient(np.array([9.0, 9.0, 9.0, 1.5]))
        assert np.isfinite(value)
        assert np.isfinite(gradient).all()


def test_the_priors_penalty() -> None:
    layout = Layout(2, 0, ("slope", "position"), ("slope",), True)
    penalty = Penalty.of(layout, Priors())
    x = np.array([2.5, 0.5, 1.0, -2.0, 1.0, 0.6])
    # slopes 2.5 and 0.5 around 1, which lies 0.5 below 1.5; positions around 0 with spread 0.5; taste over 0.3
    assert penalty.value_and_gradient(x)[0] == pytest.approx((1.5**2 + 0.5**2 + 0.5**2 + 2**2 + 4**2 + 2**2) / 2)
    slope = numeric(lambda y: penalty.value_and_gradient(y)[0], x, 1e-5)
    assert penalty.value_and_gradient(x)[1] == pytest.approx(slope, abs=1e-6)


class TestFit:
    def test_two_who_toss_coins_among_eight_who_care(self) -> None:
        for seed in range(3):
            random = np.random.default_rng(seed)
            item = np.repeat(np.arange(200), 5)
            rater = np.concatenate([random.choice(10, 5, replace=False) for _ in range(200)])
            score = 1.5 * random.normal(size=200)
            chance = 1 / (1 + np.exp(-np.where(rater < 8, 1.5, 0.0) * score[item]))
            found = rater_aware(judgments(item, rater, np.where(random.random(1000) < chance, 1.0, -1.0)))
            assert found.consensus.converged
            assert found.gradient <= STEP
            assert found.accuracy[:8].min() > 0.7
            assert found.accuracy[8:].max() < 0.62
            assert found.slope.value[:8].min() > 2 * found.slope.value[8:].max()

    def test_one_judgment_a_pair_tells_nothing_of_raters_but_gold_does(self) -> None:
        random = np.random.default_rng(0)
        item, rater = np.arange(600), np.arange(600) % 6
        score = random.normal(size=600)
        chance = 1 / (1 + np.exp(-np.where(rater == 5, -2.0, 2.0) * score))
        vote = np.where(random.random(600) < chance, 1.0, -1.0)
        found = rater_aware(judgments(item, rater, vote))
        assert not found.slope.identified.any()
        assert found.slope.value.tolist() == [1.5] * 6
        assert "no-overlap" in {caveat.code for caveat in found.consensus.caveats}
        anchored = rater_aware(judgments(item, rater, vote, gold={i: float(np.sign(score[i])) for i in range(300)}))
        assert anchored.slope.identified.all()
        assert anchored.slope.interval(5)[1] < -0.5
        assert min(anchored.slope.interval(r)[0] for r in range(5)) > 0
        told, untold = anchored.consensus.posterior, found.consensus.posterior
        assert told is not None
        assert untold is not None
        right = [np.mean((one[300:] > 0.5) == (score[300:] > 0)) for one in (told, untold)]
        assert right[0] > right[1] + 0.05  # a sixth of the votes is turned round

    def test_gold_is_believed(self) -> None:
        data = judgments([0, 0, 1, 1], [0, 1, 0, 1], ["b", "b", "a", "a"], gold={0: 1, 1: 0})
        assert rater_aware(data).consensus.posterior == pytest.approx([1, 0.5])

    def test_three_labels_make_no_expert(self) -> None:
        item, rater = np.array([(i, r) for i in range(60) for r in range(4)]).T
        vote = np.where(np.arange(240) % 7 == 0, -1.0, 1.0)
        data = judgments(np.append(item, [0, 1, 2]), np.append(rater, [4] * 3), np.append(vote, [1.0] * 3))
        found = rater_aware(data)
        crowd = found.slope.value[:4].mean()
        assert abs(found.slope.value[4] - crowd) < 0.5
        assert not found.slope.identified[4]
        assert found.slope.error[4] > 1.4 * found.slope.error[:4].max()

    def test_a_length_bias_that_all_share_is_taste_without_gold(self) -> None:
        data, _ = simulate(CROWDS["all length-biased"], 5, 0, pairs=200)
        found = rater_aware(data)
        assert "shared-length" in {caveat.code for caveat in found.consensus.caveats}
        assert math.isnan(found.shared_length)
        assert found.taste > 0.2
        assert np.abs(found.length.value).max() < 0.5
        with pytest.raises(ValueError, match="is taste"):
            rater_aware(data, keep_length=False)
        data, _ = simulate(CROWDS["all length-biased, gold"], 5, 0, pairs=200)
        found = rater_aware(data)
        assert found.shared_length == pytest.approx(1, abs=0.35)
        kept, removed = found.consensus.probability, rater_aware(data, keep_length=False).consensus.probability
        length = data.length[np.unique(data.item, return_index=True)[1]]
        assert np.corrcoef(kept - removed, length)[0, 1] > 0.9

    def test_position_needs_both_orders(self) -> None:
        data, _ = simulate(CROWDS["8 position-biased"], 3, 0, pairs=100)
        assert math.isnan(rater_aware(replace(data, order=np.ones(len(data.item)))).shared_position)
        found = rater_aware(replace(data, order=np.ones(len(data.item)))).consensus
        assert "one-order" in {caveat.code for caveat in found.caveats}

    def test_the_population_is_what_one_says(self) -> None:
        data, truth = simulate(CROWDS["5 adversaries"], 9, 0, pairs=150)
        careful = rater_aware(data, population=(truth.slope > 0).astype(float)).consensus.probability
        hostile = rater_aware(data, population=(truth.slope < 0).astype(float)).consensus.probability
        assert np.corrcoef(careful, hostile)[0, 1] < -0.95
        with pytest.raises(ValueError, match="each of the 24"):
            rater_aware(data, population=[1.0])

    def test_a_search_cut_off_says_so(self) -> None:
        found = rater_aware(mixed_crowd(), rounds=1)
        assert not found.consensus.converged
        assert found.gradient > STEP
        assert "not-converged" in {caveat.code for caveat in found.consensus.caveats}

    def test_outer_products_come_near_the_observed_information_at_the_truth(self) -> None:
        random = np.random.default_rng(0)
        slopes = np.array([1.5, 1.0, 0.5, -1.0, 1.2, 0.8])
        item = np.repeat(np.arange(8000), 3)
        rater = np.concatenate([random.choice(6, 3, replace=False) for _ in range(8000)])
        chance = 1 / (1 + np.exp(-slopes[rater] * random.normal(size=8000)[item]))
        likelihood = likelihood_of(judgments(item, rater, np.where(random.random(24000) < chance, 1.0, -1.0)))
        exact, outer = (likelihood.information(np.append(slopes, 1.5), exact=way)[:6, :6] for way in (True, False))
        assert np.diag(outer) == pytest.approx(np.diag(exact), rel=0.3)

    def test_the_spreads_are_those_of_the_crowd(self) -> None:
        alike, _ = simulate(CROWDS["experts"], 9, 0, pairs=200)
        unlike, _ = simulate(CROWDS["5 adversaries"], 9, 0, pairs=200)
        assert rater_aware(alike).priors.slope_spread < 0.9 < 1.2 < rater_aware(unlike).priors.slope_spread
        assert rater_aware(alike).errors_by == "observed information"


class TestItems:
    @staticmethod
    def arena(seed: int, n: int = 2000, ties: float = 0.0) -> tuple[np.ndarray, object]:
        random = np.random.default_rng(seed)
        score = 1.5 * random.normal(size=20)
        a = random.integers(0, 20, n)
        b = (a + random.integers(1, 20, n)) % 20
        rater = random.integers(0, 10, n)
        chance = 1 / (1 + np.exp(-np.where(rater < 8, score[a] - score[b], 0.0)))
        vote = np.where(random.random(n) < ties, 0.0, np.where(random.random(n) < chance, 1.0, -1.0))
        order = random.choice([-1.0, 1.0], n)
        return score, contests(a, b, rater, vote, order=order, length=random.uniform(-1, 1, n))

    @pytest.mark.parametrize("seed", range(3))
    def test_the_case_that_crowd_kit_s_noisy_bradley_terry_fails(self, seed: int) -> None:
        # eight good raters and two who toss a coin: there 0.50 to 0.73 against 0.55 to 0.64
        score, data = self.arena(seed)
        found = rater_aware_items(data)  # type: ignore[arg-type]
        assert found.converged
        assert found.slope.value[:8].min() > 0.8
        assert np.abs(found.slope.value[8:]).max() < 0.25
        assert all(found.slope.interval(r)[0] > 0.25 for r in range(8))
        assert all(found.slope.interval(r)[0] < 0 < found.slope.interval(r)[1] for r in (8, 9))
        assert np.corrcoef(found.score, score)[0, 1] > 0.95

    @pytest.mark.parametrize("ties", [0.0, 0.2])
    def test_derivatives_against_differences(self, ties: float) -> None:
        _, data = self.arena(0, 300, ties)
        model = _Model.of(data, ITEM_PRIORS, 3.0)  # type: ignore[arg-type]
        x = np.random.default_rng(0).normal(size=model.size) * 0.5
        gradient = model.value_and_gradient(x)[1]
        assert gradient == pytest.approx(numeric(lambda y: model.value_and_gradient(y)[0], x, 1e-5), abs=1e-5)
        hessian = numeric(lambda y: model.value_and_gradient(y)[1], x, 1e-4)
        information = (model.information(x, gradient=True) - model.penalty.precision).toarray()
        assert information == pytest.approx(-hessian, abs=1e-5)

    def test_one_rater_is_bradley_terry(self) -> None:
        wins = {(0, 1): 30, (1, 0): 10, (1, 2): 25, (2, 1): 15, (0, 2): 33, (2, 0): 7}
        a, b = np.array([pair for pair, n in wins.items() for _ in range(n)]).T
        fixed = Priors(slope=(1.0, 1e-4), slope_spread=1e-4)
        found = rater_aware_items(contests(a, b, np.zeros(120, int), ["a"] * 120), priors=fixed, spread=1e3)
        from heedful.core.choice_models import bradley_terry

        table = np.zeros((3, 3))
        for (i, j), n in wins.items():
            table[i, j] = n
        plain = bradley_terry(table)
        assert found.score == pytest.approx(plain.score, abs=3e-3)
        assert found.error == pytest.approx(plain.error, rel=1e-2)
        assert found.posterior(0, 2) == pytest.approx(plain.posterior(0, 2), abs=1e-3)
        assert found.probability(0, 1) + found.probability(1, 0) == pytest.approx(1)
        with pytest.raises(ValueError, match="with itself"):
            contests([1], [1], [0], ["a"])
