from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.advantages import (
    explained_variance,
    flat_groups,
    gae,
    group_advantages,
    leave_one_out,
    masked_mean,
    overlong_penalty,
    returns_to_go,
    shape_rewards,
    whiten,
)


def table(*rows: list[float]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def mask_of(*rows: str) -> Tensor:
    return torch.tensor([[letter == "x" for letter in row] for row in rows])


class TestShapeRewards:
    def test_score_goes_to_the_last_real_token(self) -> None:
        penalty = table([0.1, 0.2, 0.3, 9.0], [9.0, 0.4, 9.0, 0.5])
        rewards = shape_rewards(torch.tensor([1.0, -2.0], dtype=torch.float64), penalty, mask_of("xxx.", ".x.x"))
        assert rewards.flatten().tolist() == pytest.approx([-0.1, -0.2, 0.7, 0.0, 0.0, -0.4, 0.0, -2.5])

    def test_ignores_what_stands_outside_the_mask(self) -> None:
        rewards = shape_rewards(torch.ones(1), torch.tensor([[math.nan, 0.5, math.inf]]), mask_of(".x."))
        assert rewards.tolist() == [[0.0, 0.5, 0.0]]

    def test_leaves_its_input_alone(self) -> None:
        penalty = table([0.0, 0.0])
        shape_rewards(torch.ones(1, dtype=torch.float64), penalty, mask_of("xx"))
        assert penalty.tolist() == [[0.0, 0.0]]

    def test_refuses_an_empty_row_by_name(self) -> None:
        with pytest.raises(ValueError, match=r"rows \[1\]"):
            shape_rewards(torch.ones(2), torch.zeros(2, 3), mask_of("xx.", "..."))

    def test_refuses_scores_that_would_broadcast(self) -> None:
        with pytest.raises(ValueError, match="scores"):
            shape_rewards(torch.ones(2, 1), torch.zeros(2, 3), mask_of("xx.", "xxx"))


class TestGAE:
    values = ([0.1, 0.2, 0.3, 0.4],)

    def test_golden_values(self) -> None:
        mask = mask_of("xxxx")
        rewards = shape_rewards(torch.ones(1, dtype=torch.float64), torch.zeros(1, 4), mask)
        advantages, returns = gae(rewards.double(), table(*self.values), mask, gamma=1.0, lam=0.95)
        assert advantages[0].tolist() == pytest.approx([0.7997, 0.7365, 0.67, 0.6], abs=5e-5)
        assert returns[0].tolist() == pytest.approx([0.8997, 0.9365, 0.97, 1.0], abs=5e-5)

    def test_the_score_one_slot_late_gives_other_advantages(self) -> None:
        """The golden values of TRL's placement: our GAE agrees once the score is put there."""
        late = gae(table([0, 0, 0, 0, 1.0]), table([0.1, 0.2, 0.3, 0.4, 0.5]), mask_of("xxxxx"), gamma=1, lam=0.95)
        assert late[0][0, :4].tolist() == pytest.approx([0.7782, 0.7139, 0.6462, 0.575], abs=5e-5)

    def test_discount_by_hand(self) -> None:
        # d = [1 + .5*2 - 1, 3 - 2] = [1, 1]; A0 = 1 + .5 * .8 * 1
        advantages, _ = gae(table([1.0, 3.0]), table([1.0, 2.0]), mask_of("xx"), gamma=0.5, lam=0.8)
        assert advantages.tolist() == [pytest.approx([1.4, 1.0])]

    def test_holes_are_skipped(self) -> None:
        dense = gae(table([1.0, 2.0, 3.0]), table([0.5, 0.1, 0.9]), mask_of("xxx"), gamma=0.9, lam=0.7)
        nan = math.nan
        rewards = table([nan, 1.0, nan, nan, 2.0, 3.0, nan])
        values = table([nan, 0.5, nan, nan, 0.1, 0.9, nan])
        holed = gae(rewards, values, mask_of(".x..xx."), gamma=0.9, lam=0.7)
        for full, sparse in zip(dense, holed, strict=True):
            assert sparse[0, [1, 4, 5]].tolist() == pytest.approx(full[0].tolist())
            assert sparse[0, [0, 2, 3, 6]].tolist() == [0.0] * 4

    @settings(deadline=None, max_examples=40)
    @given(
        gamma=st.floats(0, 1),
        lam=st.floats(0, 1),
        seed=st.integers(0, 2**16),
        length=st.integers(1, 6),
    )
    def test_is_the_weighted_mean_of_n_step_advantages(self, gamma: float, lam: float, seed: int, length: int) -> None:
        """The definition (equation 16): (1 - lam) sum_n lam^(n-1) A^(n), the rest of the weight on the last."""
        make = torch.Generator().manual_seed(seed)
        rewards, values = (torch.randn(1, length, dtype=torch.float64, generator=make) for _ in range(2))
        advantages, _ = gae(rewards, values, torch.ones(1, length, dtype=torch.bool), gamma=gamma, lam=lam)
        r, v = rewards[0].tolist(), [*values[0].tolist(), 0.0]
        for start in range(length):
            steps = length - start
            n_step = [
                sum(gamma**k * r[start + k] for k in range(n)) + gamma**n * v[start + n] - v[start]
                for n in range(1, steps + 1)
            ]
            expected = (1 - lam) * sum(lam ** (n - 1) * n_step[n - 1] for n in range(1, steps))
            expected += lam ** (steps - 1) * n_step[-1]
            assert advantages[0, start].item() == pytest.approx(expected, abs=1e-9)

    def test_carries_no_gradient(self) -> None:
        values = table([1.0, 2.0]).requires_grad_()
        advantages, returns = gae(table([1.0, 1.0]), values, mask_of("xx"), gamma=1, lam=1)
        assert not advantages.requires_grad
        assert not returns.requires_grad

    @pytest.mark.parametrize(("gamma", "lam"), [(1.1, 0.9), (-0.1, 0.9), (1.0, 1.5)])
    def test_refuses_factors(self, gamma: float, lam: float) -> None:
        with pytest.raises(ValueError, match="gamma and lam"):
            gae(torch.zeros(1, 2), torch.zeros(1, 2), mask_of("xx"), gamma=gamma, lam=lam)

    def test_refuses_a_mask_of_numbers(self) -> None:
        with pytest.raises(ValueError, match="bool"):
            gae(torch.zeros(1, 2), torch.zeros(1, 2), torch.ones(1, 2), gamma=1, lam=1)

    def test_refuses_other_shapes(self) -> None:
        with pytest.raises(ValueError, match="values"):
            gae(torch.zeros(1, 2), torch.zeros(1, 3), mask_of("xx"), gamma=1, lam=1)


class TestWhiten:
    def test_literal(self) -> None:
        # 1, 2, 6 have mean 3 and variance (4 + 1 + 9) / 2 = 7
        white = whiten(table([1, 2, 99], [6, math.nan, 99]), mask_of("xx.", "x.."), shift_mean=True)
        root = math.sqrt(7)
        assert white.flatten().tolist() == pytest.approx([-2 / root, -1 / root, 0, 3 / root, 0, 0])

    def test_can_put_the_mean_back(self) -> None:
        white = whiten(table([1, 2, 6, 50]), mask_of("xxx."), shift_mean=False)
        root = math.sqrt(7)
        assert white[0].tolist() == pytest.approx([3 - 2 / root, 3 - 1 / root, 3 + 3 / root, 0])

    def test_equal_values_stay_finite(self) -> None:
        assert whiten(table([2, 2, 2]), mask_of("xxx"), shift_mean=True).tolist() == [[0.0, 0.0, 0.0]]

    def test_epsilon_stands_inside_the_root(self) -> None:
        # variance 2e-8: inside gives 1e-4 / sqrt(3e-8); outside it would give 0.7071
        white = whiten(table([1e-4, -1e-4]), mask_of("xx"), shift_mean=True)
        assert white[0, 0].item() == pytest.approx(0.5773502692, rel=1e-6)

    def test_refuses_a_single_value(self) -> None:
        with pytest.raises(ValueError, match="two"):
            whiten(table([1.0, 2.0]), mask_of("x."), shift_mean=True)


class TestMaskedMean:
    def test_counts_tokens_not_rows(self) -> None:
        values = table([1, 2, 3, 4], [10, math.nan, math.inf, 7])
        assert masked_mean(values, mask_of("xxxx", "x...")).item() == pytest.approx(4.0)

    def test_gradient_is_one_over_the_count(self) -> None:
        values = table([1, 2, math.nan]).requires_grad_()
        masked_mean(values, mask_of("xx.")).backward()
        assert values.grad.tolist() == [[0.5, 0.5, 0.0]]

    def test_refuses_an_empty_mask(self) -> None:
        with pytest.raises(ValueError, match="empty"):
            masked_mean(table([1.0]), mask_of("."))


class TestExplainedVariance:
    def test_literal(self) -> None:
        # returns 1, 2, 3 (variance 2/3); errors 0, 0, 1 (variance 2/9)
        left = explained_variance(table([1, 2, 2, 50]), table([1, 2, 3, -50]), mask_of("xxx."))
        assert left.item() == pytest.approx(2 / 3)

    def test_a_constant_offset_costs_nothing_and_a_mirror_image_is_worse_than_nothing(self) -> None:
        returns, mask = table([1, 2, 3]), mask_of("xxx")
        assert explained_variance(returns + 5, returns, mask).item() == pytest.approx(1.0)
        assert explained_variance(-returns, returns, mask).item() == pytest.approx(-3.0)

    def test_has_no_answer_for_equal_returns(self) -> None:
        assert math.isnan(explained_variance(table([1, 2]), table([3, 3]), mask_of("xx")).item())


class TestReturnsToGo:
    def test_by_hand_with_a_hole_and_a_row_of_one(self) -> None:
        rewards = table([1.0, 7.0, -2.0, 4.0], [3.0, 9.0, 9.0, 9.0])
        found = returns_to_go(rewards, mask_of("x.xx", "x..."), gamma=0.5)
        # 4; -2 + 2 = 0; 1 + 0: the hole takes no time
        assert found.tolist() == [[1.0, 0.0, 0.0, 4.0], [3.0, 0.0, 0.0, 0.0]]

    def test_without_a_discount_the_first_token_earns_all(self) -> None:
        assert returns_to_go(table([0.1, 0.2, 0.3]), mask_of("xxx"), gamma=1.0)[0, 0].item() == pytest.approx(0.6)


class TestGroups:
    rewards = table([1.0, 2.0, 6.0], [5.0, 5.0, 5.0])

    def test_leave_one_out_by_hand(self) -> None:
        # 1 - (2 + 6) / 2, 2 - (1 + 6) / 2, 6 - (1 + 2) / 2
        assert leave_one_out(self.rewards)[0].tolist() == pytest.approx([-3.0, -1.5, 4.5])
        assert leave_one_out(self.rewards)[1].tolist() == [0.0, 0.0, 0.0]
        assert leave_one_out(table([2.0, 3.0])).tolist() == [[-1.0, 1.0]]

    def test_group_by_hand(self) -> None:
        # mean 3, deviations -2 -1 3, unbiased variance (4 + 1 + 9) / 2 = 7
        expected = [-2 / 2.6458513111, -1 / 2.6458513111, 3 / 2.6458513111]
        assert group_advantages(self.rewards, scale=True)[0].tolist() == pytest.approx(expected, abs=1e-9)
        assert group_advantages(self.rewards, scale=False)[0].tolist() == pytest.approx([-2.0, -1.0, 3.0])

    @pytest.mark.parametrize("scale", [True, False])
    def test_a_group_without_spread_teaches_nothing(self, scale: bool) -> None:
        rewards = torch.tensor([[0.1, 0.1, 0.1], [1e6, 1e6, 1e6], [0.7, 0.7, 0.7 + 6e-8]])
        assert group_advantages(rewards, scale=scale).tolist() == [[0.0] * 3] * 3
        assert flat_groups(rewards).tolist() == [True, True, True]
        assert flat_groups(torch.tensor([[0.0, 1e-3], [1e6, 1e6 + 10]])).tolist() == [False, False]

    def test_one_completion_has_no_group(self) -> None:
        for compute in (leave_one_out, lambda rewards: group_advantages(rewards, scale=True)):
            with pytest.raises(ValueError, match="K at least 2"):
                compute(table([1.0], [2.0]))
            with pytest.raises(ValueError, match="K at least 2"):
                compute(torch.tensor([1.0, 2.0]))

    @settings(deadline=None)
    @given(
        rewards=st.lists(st.floats(-10, 10), min_size=2, max_size=6), shift=st.floats(-5, 5), factor=st.floats(0.5, 4)
    )
    def test_a_shift_changes_nothing_and_a_factor_is_divided_out(
        self, rewards: list[float], shift: float, factor: float
    ) -> None:
        first = leave_one_out(table(rewards))
        assert first.sum().item() == pytest.approx(0.0, abs=1e-8)
        assert torch.allclose(leave_one_out(table(rewards) + shift), first, atol=1e-9)
        assert torch.allclose(leave_one_out(table(rewards) * factor), first * factor, atol=1e-9)
        if table(rewards).std() > 1:
            scaled = group_advantages(table(rewards) * factor, scale=True)
            assert torch.allclose(scaled, group_advantages(table(rewards), scale=True), atol=1e-3)


class TestOverlong:
    def test_is_free_and_then_grows_to_one(self) -> None:
        lengths = torch.tensor([1, 15, 16, 18, 20])
        assert overlong_penalty(lengths, 20, 5).tolist() == pytest.approx([0.0, 0.0, 0.2, 0.6, 1.0])

    def test_refuses_a_buffer_that_is_no_part(self) -> None:
        for buffer in (0, 21):
            with pytest.raises(ValueError, match=r"1\.\.20"):
                overlong_penalty(torch.tensor([1]), 20, buffer)
