"""Losses of reward models: literal numbers, enumeration, gradients by differences, parameters recovered."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.reward_losses import (
    LARGEST_TIE,
    all_pairs_loss,
    bradley_terry_loss,
    centering_penalty,
    davidson_log_probabilities,
    davidson_loss,
    length_penalty,
    ordinal_log_probabilities,
    ordinal_loss,
    orthogonality_penalty,
    pearson,
    plackett_luce_loss,
    ranking_pairs,
    rao_kupper_log_probabilities,
    rao_kupper_loss,
)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def scalar(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def fitted(loss: Callable[..., Tensor], *start: Tensor) -> list[Tensor]:
    """The parameters that minimise a smooth loss."""
    parameters = [value.clone().requires_grad_() for value in start]
    optimiser = torch.optim.LBFGS(
        parameters, max_iter=300, tolerance_grad=1e-11, tolerance_change=1e-15, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimiser.zero_grad()
        value = loss(*parameters)
        value.backward()
        return value

    optimiser.step(closure)
    return [parameter.detach() for parameter in parameters]


class TestBradleyTerry:
    def test_literal_values(self) -> None:
        losses = bradley_terry_loss(t(1.2, 0, -1), t(1.0, 0, 1))
        assert losses.tolist() == pytest.approx([0.5981388694, 0.6931471806, 2.126928011], abs=1e-9)

    def test_margin_makes_it_harder(self) -> None:
        loss = bradley_terry_loss(t(0), t(1), margin=t(1))
        assert loss.item() == pytest.approx(2.126928011, abs=1e-9)

    def test_soft_label(self) -> None:
        # 0.75 * 0.5981388694 + 0.25 * 0.7981388694
        loss = bradley_terry_loss(t(0.2), t(0), probability=t(0.75))
        assert loss.item() == pytest.approx(0.6481388694, abs=1e-9)

    def test_centering_is_the_squared_sum(self) -> None:
        assert centering_penalty(t(3, -2), t(1, 2)).tolist() == [16.0, 0.0]

    def test_gradients(self) -> None:
        a, b = t(1.2).requires_grad_(), t(1.0).requires_grad_()
        (bradley_terry_loss(a, b) + 0.5 * centering_penalty(a, b)).sum().backward()
        assert a.grad.item() == pytest.approx(-0.4501660027 + 2.2, abs=1e-9)
        assert b.grad.item() == pytest.approx(0.4501660027 + 2.2, abs=1e-9)

    def test_recovers_true_scores_from_exact_labels(self) -> None:
        truth = t(0.0, 0.7, -1.1)
        left, right = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        labels = torch.sigmoid(truth[left] - truth[right])

        def loss(scores: Tensor) -> Tensor:
            return bradley_terry_loss(scores[left], scores[right], probability=labels).mean()

        (scores,) = fitted(loss, torch.zeros(3, dtype=torch.float64))
        assert (scores - scores[0]).tolist() == pytest.approx([0.0, 0.7, -1.1], abs=1e-5)

    def test_margin_and_probability_exclude_each_other(self) -> None:
        with pytest.raises(ValueError, match="exclude"):
            bradley_terry_loss(t(1), t(0), probability=t(0.5), margin=t(1))

    @pytest.mark.parametrize("bad", [-0.1, 1.1, math.nan])
    def test_refuses_what_is_no_probability(self, bad: float) -> None:
        with pytest.raises(ValueError, match=r"0\.\.1"):
            bradley_terry_loss(t(1), t(0), probability=t(bad))

    def test_refuses_to_broadcast(self) -> None:
        with pytest.raises(ValueError, match=r"\[N\]"):
            bradley_terry_loss(t(1, 2), t(1))

    @given(a=st.floats(-30, 30), b=st.floats(-30, 30), p=st.floats(0, 1))
    def test_swapping_sides_and_label_changes_nothing(self, a: float, b: float, p: float) -> None:
        one = bradley_terry_loss(t(a), t(b), probability=t(p))
        other = bradley_terry_loss(t(b), t(a), probability=t(1 - p))
        assert one.item() == pytest.approx(other.item(), rel=1e-9, abs=1e-9)


FAR = t(-40.0, -3.0, -0.5, 0.0, 0.25, 2.0, 40.0)


class TestTies:
    def test_rao_kupper_by_hand(self) -> None:
        # strengths e^1 and 1, theta = e^0.5: P(a) = e / (e + e^0.5), P(b) = 1 / (1 + e^1.5)
        a, tie, b = (float(x.exp()) for x in rao_kupper_log_probabilities(t(1.0), scalar(0.5)))
        assert a == pytest.approx(0.6224593312, abs=1e-10)
        assert b == pytest.approx(0.1824255238, abs=1e-10)
        assert tie == pytest.approx(0.1951151450, abs=1e-10)

    def test_davidson_by_hand(self) -> None:
        # strengths e^2 and 1, nu = 0.5: e : 0.5 : 1/e, which sum to 3.5861612696
        a, tie, b = (float(x.exp()) for x in davidson_log_probabilities(t(2.0), scalar(math.log(0.5))))
        assert a == pytest.approx(2.7182818285 / 3.5861612696, abs=1e-9)
        assert tie == pytest.approx(0.5 / 3.5861612696, abs=1e-9)
        assert b == pytest.approx(0.3678794412 / 3.5861612696, abs=1e-9)

    @pytest.mark.parametrize("parameter", [1e-3, 0.4, 3.0])
    def test_probabilities_sum_to_one_and_turn_with_the_sides(self, parameter: float) -> None:
        for model in (rao_kupper_log_probabilities, davidson_log_probabilities):
            a, tie, b = model(FAR, scalar(parameter))
            torch.testing.assert_close(a.exp() + tie.exp() + b.exp(), torch.ones_like(FAR), atol=1e-12, rtol=0)
            back = model(-FAR, scalar(parameter))
            torch.testing.assert_close(torch.stack(back), torch.stack([b, tie, a]), atol=1e-12, rtol=1e-12)

    def test_without_ties_it_is_bradley_terry(self) -> None:
        scores, p = (t(1.2, -0.7), t(0.2, 0.4)), t(1.0, 0.25)
        plain = bradley_terry_loss(*scores, probability=p)
        kupper = rao_kupper_loss(*scores, probability=p, threshold=scalar(1e-13))
        davidson = davidson_loss(*scores, probability=p, log_tie=scalar(-40.0))
        torch.testing.assert_close(kupper, plain, atol=1e-10, rtol=0)
        torch.testing.assert_close(davidson, plain, atol=1e-10, rtol=0)

    def test_exactly_one_half_is_a_tie_and_other_shares_are_wins_and_losses(self) -> None:
        a, tie, b = rao_kupper_log_probabilities(t(0.3), scalar(0.5))
        scores = t(0.3, 0.3, 0.3, 0.3), t(0.0, 0.0, 0.0, 0.0)
        losses = rao_kupper_loss(*scores, probability=t(1, 0.5, 0, 2 / 3), threshold=scalar(0.5))
        third = -(2 * a + b) / 3
        torch.testing.assert_close(losses, torch.cat([-a, -tie, -b, third]))

    def test_a_threshold_that_is_not_above_nought_is_refused(self) -> None:
        with pytest.raises(ValueError, match="above 0"):
            rao_kupper_log_probabilities(t(0), scalar(0.0))

    @pytest.mark.parametrize("bad", [-0.1, math.nan])
    def test_what_is_no_probability_is_refused(self, bad: float) -> None:
        with pytest.raises(ValueError, match=r"0\.\.1"):
            davidson_loss(t(1), t(0), probability=t(bad), log_tie=scalar(0))

    def test_the_tie_parameters_are_recovered_from_exact_shares(self) -> None:
        truth = t(0.0, 0.8, -1.3)
        i, j = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        gap = truth[i] - truth[j]
        shares = [x.exp() for x in rao_kupper_log_probabilities(gap, scalar(0.35))]

        def kupper(scores: Tensor, raw: Tensor) -> Tensor:
            logs = rao_kupper_log_probabilities(scores[i] - scores[j], torch.nn.functional.softplus(raw))
            return -sum((share * log).sum() for share, log in zip(shares, logs, strict=True))

        scores, raw = fitted(kupper, torch.zeros(3, dtype=torch.float64), scalar(0.0))
        assert (scores - scores[0]).tolist() == pytest.approx(truth.tolist(), abs=1e-5)
        assert float(torch.nn.functional.softplus(raw)) == pytest.approx(0.35, abs=1e-5)
        shares = [x.exp() for x in davidson_log_probabilities(gap, scalar(-0.6))]

        def davidson(scores: Tensor, log_tie: Tensor) -> Tensor:
            logs = davidson_log_probabilities(scores[i] - scores[j], log_tie)
            return -sum((share * log).sum() for share, log in zip(shares, logs, strict=True))

        scores, log_tie = fitted(davidson, torch.zeros(3, dtype=torch.float64), scalar(0.0))
        assert (scores - scores[0]).tolist() == pytest.approx(truth.tolist(), abs=1e-5)
        assert float(log_tie) == pytest.approx(-0.6, abs=1e-5)


THRESHOLDS = t(0.5, 1.5, 2.5)


class TestOrdinal:
    def test_by_hand(self) -> None:
        # d = 1: sigmoid(c - 1) at c = -2.5 -1.5 -0.5 0.5 1.5 2.5, differences of neighbours
        found = ordinal_log_probabilities(t(1.0), THRESHOLDS).exp()[0]
        below = [0.0293122308, 0.0758581800, 0.1824255238, 0.3775406688, 0.6224593312, 0.8175744762, 1.0]
        wanted = [high - low for low, high in itertools.pairwise([0.0, *below])]
        assert found.tolist() == pytest.approx(wanted, abs=1e-9)

    def test_probabilities_sum_to_one_and_turn_with_the_sides(self) -> None:
        found = ordinal_log_probabilities(FAR, THRESHOLDS)
        torch.testing.assert_close(found.exp().sum(1), torch.ones_like(FAR), atol=1e-12, rtol=0)
        torch.testing.assert_close(ordinal_log_probabilities(-FAR, THRESHOLDS).flip(1), found, atol=1e-12, rtol=1e-12)
        assert bool(torch.isfinite(found).all())

    def test_with_one_threshold_it_is_rao_kupper(self) -> None:
        b, tie, a = ordinal_log_probabilities(FAR, t(0.7)).T
        torch.testing.assert_close((a, tie, b), rao_kupper_log_probabilities(FAR, scalar(0.7)))

    def test_a_mean_strength_is_a_mixture_of_its_neighbours(self) -> None:
        def loss(strength: float) -> float:
            return float(ordinal_loss(t(0.4), t(0.0), strength=t(strength), thresholds=THRESHOLDS))

        assert loss(1.25) == pytest.approx(0.75 * loss(1) + 0.25 * loss(2))
        assert loss(-0.5) == pytest.approx((loss(-1) + loss(0)) / 2)
        assert loss(3) < loss(-3)

    @pytest.mark.parametrize("bad", [3.5, -4.0, math.nan])
    def test_a_strength_out_of_range_is_refused(self, bad: float) -> None:
        with pytest.raises(ValueError, match=r"-3\.\.3"):
            ordinal_loss(t(1), t(0), strength=t(bad), thresholds=THRESHOLDS)

    @pytest.mark.parametrize("bad", [t(0.5, 0.5), t(2.0, 1.0), t(0.0, 1.0), t(-1.0, 1.0)])
    def test_thresholds_that_do_not_ascend_are_refused(self, bad: Tensor) -> None:
        with pytest.raises(ValueError, match="ascend"):
            ordinal_log_probabilities(t(0), bad)

    def test_scores_and_thresholds_are_recovered_from_exact_shares(self) -> None:
        truth = t(0.0, 0.9, -1.1, 2.0)
        i, j = torch.tensor(list(itertools.combinations(range(4), 2))).T
        shares = ordinal_log_probabilities(truth[i] - truth[j], t(0.4, 1.0, 2.2)).exp()

        def loss(scores: Tensor, raw: Tensor) -> Tensor:
            thresholds = torch.nn.functional.softplus(raw).cumsum(0)
            return -(shares * ordinal_log_probabilities(scores[i] - scores[j], thresholds)).sum()

        scores, raw = fitted(loss, torch.zeros(4, dtype=torch.float64), torch.zeros(3, dtype=torch.float64))
        assert (scores - scores[0]).tolist() == pytest.approx(truth.tolist(), abs=1e-5)
        found = torch.nn.functional.softplus(raw).cumsum(0)
        assert found.tolist() == pytest.approx([0.4, 1.0, 2.2], abs=1e-5)


SCORES = t(0.3, -1.0, 2.0, 0.5)


class TestRankings:
    def test_plackett_luce_by_hand(self) -> None:
        # strengths 1, e^2 and e^0.5, picked second, third, first: e^2 / 10.0377773702 * e^0.5 / 2.6487212707
        loss = float(plackett_luce_loss(t(0.0, 2.0, 0.5), [3, 1, 2]))
        assert loss == pytest.approx(0.3063557122 + 0.4740769842, abs=1e-9)

    def test_the_probabilities_of_all_orders_sum_to_one(self) -> None:
        total = 0.0
        for order in itertools.permutations(range(1, 5)):
            total += math.exp(-float(plackett_luce_loss(SCORES, order)))
        assert total == pytest.approx(1.0, abs=1e-12)

    @pytest.mark.parametrize(("ranks", "p"), [((1, 2), 1.0), ((2, 1), 0.0), ((1, 1), 0.5)])
    def test_two_answers_are_bradley_terry_ties_included(self, ranks: tuple[float, ...], p: float) -> None:
        plain = float(bradley_terry_loss(t(0.7), t(-0.2), probability=t(p)))
        for loss in (plackett_luce_loss, all_pairs_loss):
            assert float(loss(t(0.7, -0.2), ranks)) == pytest.approx(plain, abs=1e-12)

    @pytest.mark.parametrize("ranks", [(1, 1, 1, 4), (2, 1, 2, 4), (1, 1, 3, 3), (1, 1, 1, 1), (5.0, -1.0, 5.0, 5.0)])
    def test_a_tie_is_the_mean_over_the_orders_that_it_leaves_open(self, ranks: tuple[float, ...]) -> None:
        consistent = []
        for order in itertools.permutations(range(4)):
            place = [order.index(i) for i in range(4)]
            if all(place[i] < place[j] for i in range(4) for j in range(4) if ranks[i] < ranks[j]):
                consistent.append(float(plackett_luce_loss(SCORES, place)))
        assert float(plackett_luce_loss(SCORES, ranks)) == pytest.approx(sum(consistent) / len(consistent), abs=1e-12)

    def test_all_pairs_is_the_weighted_sum_of_its_pairs(self) -> None:
        ranks = [2, 4, 1, 2]
        pairs = [(0, 1, 1.0), (0, 2, 0.0), (0, 3, 0.5), (1, 2, 0.0), (1, 3, 0.0), (2, 3, 1.0)]
        assert ranking_pairs(ranks) == pairs
        total = sum(
            float(bradley_terry_loss(SCORES[i : i + 1], SCORES[j : j + 1], probability=t(p))) / 6 for i, j, p in pairs
        )
        assert float(all_pairs_loss(SCORES, ranks)) == pytest.approx(total, abs=1e-12)

    def test_only_the_order_of_ranks_matters(self) -> None:
        for loss in (plackett_luce_loss, all_pairs_loss):
            assert float(loss(SCORES, [1, 2, 2, 4])) == float(loss(SCORES, [0.1, 7, 7, 9]))

    @pytest.mark.parametrize("bad", [[1], [1, 2, 3], [1, math.nan], [1, math.inf]])
    def test_what_is_no_ranking_is_refused(self, bad: list[float]) -> None:
        for loss in (plackett_luce_loss, all_pairs_loss):
            with pytest.raises(ValueError, match=r"ranking|ranks"):
                loss(t(0.0, 1.0), bad)
            with pytest.raises(ValueError, match="ranking"):
                loss(t(0.0), [1])

    def test_the_largest_tie_is_taken_and_a_larger_one_refused(self) -> None:
        loss = plackett_luce_loss(torch.zeros(LARGEST_TIE, dtype=torch.float64), [1] * LARGEST_TIE)
        assert float(loss) == pytest.approx(math.log(math.factorial(LARGEST_TIE)), abs=1e-9)
        with pytest.raises(ValueError, match="11 answers are tied"):
            plackett_luce_loss(torch.zeros(11), [1] * 11)

    def test_scores_are_recovered_from_simulated_rankings(self) -> None:
        truth = np.array([0.0, 1.0, -0.5, 2.0])
        noise = np.random.default_rng(3).gumbel(size=(6000, 4))
        order = (-(truth + noise)).argsort(1)
        counts: dict[tuple[int, ...], int] = {}
        for row in order.argsort(1).tolist():
            counts[tuple(row)] = counts.get(tuple(row), 0) + 1

        def loss(scores: Tensor) -> Tensor:
            return sum(count * plackett_luce_loss(scores, ranks) for ranks, count in counts.items()) / 6000  # type: ignore[return-value]

        (scores,) = fitted(loss, torch.zeros(4, dtype=torch.float64))
        assert (scores - scores[0]).tolist() == pytest.approx(truth.tolist(), abs=0.08)


class TestLength:
    def test_correlation_by_hand(self) -> None:
        assert float(pearson(t(1, 2, 3), t(2, 2, 5))) == pytest.approx(0.8660254038, abs=1e-9)
        assert float(pearson(t(1, 2, 3), t(4, 4, 4))) == 0.0

    def test_quality_is_to_know_nothing_of_length_and_the_other_head_all(self) -> None:
        lengths = t(1, 2, 3, 4)
        best = length_penalty(t(1, -1, -1, 1), lengths * 7, lengths)
        assert float(best) == pytest.approx(-1.0)
        assert float(length_penalty(-lengths, -lengths, lengths)) == pytest.approx(2.0)

    def test_an_angle_is_one_for_parallel_heads_and_nought_for_perpendicular_ones(self) -> None:
        assert float(orthogonality_penalty(t(1, 2), t(-3, -6))) == pytest.approx(1.0)
        assert float(orthogonality_penalty(t(1, 2)[None], t(2, -1)[None])) == pytest.approx(0.0)


RANKS = [2, 1, 2, 4]
GRADIENTS: dict[str, Callable[[Tensor], Tensor]] = {
    "bradley-terry": lambda s: bradley_terry_loss(s[:2], s[2:4], probability=t(0.3, 1.0)).sum(),
    "centering": lambda s: centering_penalty(s[:2], s[2:4]).sum(),
    "rao-kupper": lambda s: rao_kupper_loss(s[:2], s[2:4], probability=t(0.5, 0.8), threshold=s[4].exp()).sum(),
    "davidson": lambda s: davidson_loss(s[:2], s[2:4], probability=t(0.5, 0.8), log_tie=s[4]).sum(),
    "ordinal": lambda s: ordinal_loss(
        s[:2], s[2:4], strength=t(-3.0, 1.3), thresholds=torch.stack([s[4].exp(), s[4].exp() + 1, s[4].exp() + 2.5])
    ).sum(),
    "all-pairs": lambda s: all_pairs_loss(s[:4], RANKS),
    "plackett-luce": lambda s: plackett_luce_loss(s[:4], RANKS),
    "length": lambda s: length_penalty(s[:3], s[2:5], t(5, 1, 3)),
    "orthogonality": lambda s: orthogonality_penalty(s[:2], s[2:4]),
}


@pytest.mark.parametrize("name", sorted(GRADIENTS))
def test_gradients_are_the_finite_differences(name: str) -> None:
    at = t(0.4, -1.2, 0.9, 0.1, -0.3).requires_grad_()
    assert torch.autograd.gradcheck(GRADIENTS[name], (at,), eps=1e-6, atol=1e-8, rtol=1e-6)
