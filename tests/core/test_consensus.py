from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heedful.core.consensus import METHODS, agreement_weights, by_dawid_skene, by_mace, consensus, weighted
from heedful.core.crowd import Judgments, judgments, length_difference
from heedful.core.crowd_models import dawid_skene, labels, mace


def three(seed: int = 0, items: int = 40) -> Judgments:
    """Five raters, the last one a contrarian, three of them on each item."""
    random = np.random.default_rng(seed)
    truth = random.choice([-1.0, 1.0], items)
    rows = [(i, r) for i in range(items) for r in random.choice(5, 3, replace=False)]
    item, rater = np.array(rows).T
    right = random.random(len(rows)) < np.where(rater == 4, 0.2, 0.85)
    vote = np.where(random.random(len(rows)) < 0.1, 0.0, truth[item] * np.where(right, 1, -1))
    return judgments(item, rater, vote, order=random.choice([-1.0, 1.0], len(rows)))


class TestJudgments:
    def test_columns(self) -> None:
        data = judgments(["x", "x", "y"], ["bo", "al", "bo"], ["a", "tie", "b"], gold={"y": -1, "unjudged": 1})
        assert data.vote.tolist() == [1, 0, -1]
        assert data.item_ids.tolist() == ["x", "y"]
        assert data.raters_of().tolist() == [2, 1]
        assert np.isnan(data.gold[0])
        assert data.gold[1] == -1
        assert data.anchored

    @pytest.mark.parametrize(
        ("columns", "said"),
        [
            ({"vote": ["a", "c"]}, "'c' is no vote"),
            ({"vote": [1, 2]}, "vote must be finite and lie in -1 to 1"),
            ({"order": [1, 0.5]}, "order is one of"),
            ({"length": [0, np.nan]}, "length must be finite"),
            ({"weight": [1, 0]}, "weight must"),
            ({"order": [1]}, "there are 2 judgments"),
            ({"gold": {0: 2}}, "the truth of 0 is 2"),
        ],
    )
    def test_what_is_wrong_is_said(self, columns: dict[str, object], said: str) -> None:
        with pytest.raises(ValueError, match=said):
            judgments(**({"item": [0, 1], "rater": [0, 0], "vote": ["a", "b"]} | columns))  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="no judgments"):
            judgments([], [], [])

    def test_length_difference(self) -> None:
        # differences 30 and -40: root mean square sqrt(1250)
        found = length_difference([130, 60], [100, 100])
        assert found == pytest.approx([math.tanh(30 / math.sqrt(1250)), -math.tanh(40 / math.sqrt(1250))])
        assert length_difference([5], [5]).tolist() == [0]


@pytest.mark.parametrize("method", METHODS)
class TestEveryMethod:
    def test_an_exact_tie_stays_at_one_half(self, method: str) -> None:
        # pair 0: nothing but ties; pair 1: both said by each of two raters alike in all; the rest: as a and b have it
        item = [0, 0, 1, 1, 2, 2, 3, 3]
        rater = [0, 1, 0, 1, 0, 1, 0, 1]
        vote = ["tie", "tie", "a", "b", "a", "a", "b", "b"]
        found = consensus(judgments(item, rater, vote), method)
        assert found.probability[:2].tolist() == [0.5, 0.5]
        assert found.probability[2] > 0.5 > found.probability[3]
        if found.posterior is not None:
            assert found.posterior[:2].tolist() == [0.5, 0.5]

    def test_a_and_b_change_places(self, method: str) -> None:
        data = three()
        turned = judgments(data.item, data.rater, -data.vote, order=-data.order)
        one, other = consensus(data, method), consensus(turned, method)
        assert other.probability == pytest.approx(1 - one.probability, abs=2e-3)

    def test_names_of_raters_and_items_do_not_matter(self, method: str) -> None:
        data = three(1)
        turned = judgments(99 - data.item, 7 - data.rater, data.vote, order=data.order)
        one, other = consensus(data, method), consensus(turned, method)
        assert other.probability[::-1] == pytest.approx(one.probability, abs=2e-3)
        assert other.raters[::-1].tolist() == one.raters.tolist()

    def test_a_single_rater_is_believed(self, method: str) -> None:
        found = consensus(judgments([0, 1, 2], ["me"] * 3, ["a", "b", "tie"]), method)
        assert found.probability[0] > 0.5 > found.probability[1]
        assert found.raters.tolist() == [1, 1, 1]
        assert method in ("share", "majority") or "no-overlap" in [one.code for one in found.caveats]


def test_an_unknown_method() -> None:
    with pytest.raises(ValueError, match="no method 'vote': share"):
        consensus(three(), "vote")


def test_share_and_majority() -> None:
    data = judgments([0, 0, 0, 1, 1], [0, 1, 2, 0, 1], ["a", "a", "b", "b", "tie"])
    assert consensus(data, "share").probability == pytest.approx([2 / 3, 0.25])
    assert consensus(data, "majority").probability.tolist() == [1, 0]
    graded = judgments([0, 0], [0, 1], [1 / 3, -1.0])
    assert consensus(graded, "share").probability.tolist() == [0.5]  # strength is no vote


class TestWeighted:
    def test_weights_by_hand(self) -> None:
        data = judgments([0, 0, 0], [0, 1, 2], ["a", "b", "b"])
        assert weighted(data, [3, 1, 1]).probability == pytest.approx([3 / 5])
        assert weighted(data, [0, 0, 0]).probability.tolist() == [0.5]
        with pytest.raises(ValueError, match="one for each of the 3"):
            weighted(data, [1, -1, 1])

    def test_what_one_says_twice_does_not_agree_with_itself(self) -> None:
        """An AI judge says each pair in two orders, half a judgment each; nobody else is there to agree with."""
        alone = judgments([0, 0], ["ai", "ai"], ["a", "a"], weight=[0.5, 0.5])
        assert agreement_weights(alone).tolist() == pytest.approx([np.log(2)])
        beside = judgments([0, 0, 0], ["ai", "ai", "x"], ["a", "a", "a"], weight=[0.5, 0.5, 1])
        assert agreement_weights(beside).tolist() == pytest.approx([np.log(3 / 0.5), np.log(2 / 0.5)])

    def test_gold_counts_before_the_others(self) -> None:
        data = judgments([0] * 3 + [1] * 3, [0, 1, 2] * 2, ["a", "b", "b"] * 2, gold={0: 1})
        # rater 0: right on gold, against the others once; 1 and 2: wrong on gold, with each other against 0 a draw
        assert agreement_weights(data) == pytest.approx([math.log(2 / 1.5), 0, 0])


class TestDawidSkene:
    def test_an_expectation_and_a_maximisation_by_hand(self) -> None:
        # One rater of two calls, three items; the share starts at certainty and stays there
        found = dawid_skene(labels([0, 1, 2], [0, 0, 0], [0, 0, 1]))
        assert found.prior == pytest.approx([2 / 3, 1 / 3])
        assert found.confusion[0] == pytest.approx(np.eye(2))

    def test_it_is_a_maximum_of_the_likelihood(self) -> None:
        data = three(2)
        votes = labels(data.item, data.rater, (data.vote > 0).astype(int))
        found = dawid_skene(votes, tolerance=1e-9)
        assert found.converged
        best = _mixture(votes.item, votes.rater, votes.label, found.prior, found.confusion)
        assert best == pytest.approx(found.log_likelihood, abs=1e-6)
        random = np.random.default_rng(0)
        for _ in range(30):
            prior = found.prior * np.exp(0.02 * random.normal(size=2))
            confusion = found.confusion * np.exp(0.02 * random.normal(size=found.confusion.shape))
            near = _mixture(
                votes.item, votes.rater, votes.label, prior / prior.sum(), confusion / confusion.sum(2, keepdims=True)
            )
            assert near < best + 1e-6

    def test_it_turns_a_contrarian_round(self) -> None:
        found = by_dawid_skene(three(3, items=200)).model
        # of the classes b, tie, a: says b where a is true
        assert found.confusion[4, 2, 0] > 0.6
        assert min(found.confusion[r, 2, 2] for r in range(4)) > 0.6

    def test_gold_is_believed(self) -> None:
        item, rater = [0, 0, 1, 1], [0, 1, 0, 1]
        data = judgments(item, rater, ["a", "b", "a", "b"], gold={0: 1})
        found = by_dawid_skene(data).consensus
        assert found.posterior is not None
        assert found.posterior[0] == 1
        assert found.posterior[1] > 0.6
        assert by_mace(data).consensus.posterior[1] > 0.6  # type: ignore[index]


def test_mace_finds_the_guesser() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 2, 200)
    item, rater = (one.ravel() for one in np.meshgrid(np.arange(200), np.arange(4), indexing="ij"))
    label = np.where(rater == 3, random.random(800) < 0.5, truth[item]).astype(int)
    found = mace(labels(item, rater, label))
    assert found.competence is not None
    assert found.competence[:3].min() > 0.97
    assert found.competence[3] < 0.15
    assert found.classes.argmax(1).tolist() == truth.tolist()


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 3), st.integers(-1, 1)), min_size=1, max_size=30))
@settings(max_examples=30, deadline=None)
def test_whatever_is_judged_probabilities_are_some(rows: list[tuple[int, int, int]]) -> None:
    item, rater, vote = zip(*rows, strict=True)
    data = judgments(item, rater, vote)
    for method in METHODS:
        found = consensus(data, method)
        assert ((found.probability >= 0) & (found.probability <= 1)).all()
        assert len(found.probability) == len(set(item))


def _mixture(item: np.ndarray, rater: np.ndarray, label: np.ndarray, prior: np.ndarray, confusion: np.ndarray) -> float:
    """Log-likelihood by going through items and classes."""
    total = 0.0
    for one in range(item.max() + 1):
        mine = item == one
        total += math.log(
            sum(
                prior[k] * math.prod(confusion[r, k, v] for r, v in zip(rater[mine], label[mine], strict=True))
                for k, _ in itertools.product(range(len(prior)), [0])
            )
        )
    return total
