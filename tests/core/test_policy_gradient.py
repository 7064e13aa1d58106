from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.policy_gradient import Whole, aggregate, clipped_policy_loss, clipped_value_loss

LOG = math.log
ALL = torch.ones(1, 4, dtype=torch.bool)


def row(*values: float) -> Tensor:
    return torch.tensor([values], dtype=torch.float64)


class TestPolicy:
    # ratios 1.5 and 0.5, with either sign of the advantage, at clip 0.2
    logprobs = row(LOG(1.5), LOG(1.5), LOG(0.5), LOG(0.5))
    advantages = row(2.0, -2.0, 2.0, -2.0)

    def test_the_four_corners(self) -> None:
        loss = clipped_policy_loss(self.logprobs, row(0, 0, 0, 0), self.advantages, ALL, clip=0.2)
        assert loss.per_token[0].tolist() == pytest.approx([-2.4, 3.0, -1.0, 1.6])
        assert loss.clipped[0].tolist() == [True, False, False, True]
        assert loss.ratio[0].tolist() == pytest.approx([1.5, 1.5, 0.5, 0.5])

    def test_gradient_stops_exactly_where_clipped(self) -> None:
        logprobs = self.logprobs.clone().requires_grad_()
        clipped_policy_loss(logprobs, row(0, 0, 0, 0), self.advantages, ALL, clip=0.2).per_token.sum().backward()
        assert logprobs.grad[0].tolist() == pytest.approx([0.0, 3.0, -1.0, 0.0])

    def test_at_the_start_it_is_the_policy_gradient(self) -> None:
        logprobs = row(-1.0, -2.0, -3.0, -0.5).requires_grad_()
        loss = clipped_policy_loss(logprobs, logprobs.detach(), self.advantages, ALL, clip=0.1)
        loss.per_token.sum().backward()
        assert logprobs.grad[0].tolist() == pytest.approx([-2.0, 2.0, -2.0, 2.0])
        assert not loss.clipped.any()

    def test_nothing_outside_the_mask_is_read(self) -> None:
        nan = math.nan
        logprobs = row(LOG(1.1), nan, -math.inf, 0.0).requires_grad_()
        mask = torch.tensor([[True, False, False, False]])
        loss = clipped_policy_loss(logprobs, row(0, nan, -math.inf, 50), row(1, nan, 1, 1), mask, clip=0.2)
        loss.per_token.sum().backward()
        assert loss.per_token[0].tolist() == pytest.approx([-1.1, 0, 0, 0])
        assert loss.ratio[0].tolist() == pytest.approx([1.1, 1, 1, 1])
        assert loss.clipped[0].tolist() == [False] * 4
        assert logprobs.grad[0].tolist() == pytest.approx([-1.1, 0, 0, 0])

    @settings(deadline=None)
    @given(ratio=st.floats(0.01, 10), advantage=st.floats(-5, 5), clip=st.floats(0.01, 0.9))
    def test_never_promises_more_than_the_unclipped_objective(
        self, ratio: float, advantage: float, clip: float
    ) -> None:
        mask = torch.ones(1, 1, dtype=torch.bool)
        loss = clipped_policy_loss(row(LOG(ratio)), row(0), row(advantage), mask, clip=clip)
        assert loss.per_token.item() >= -advantage * ratio - 1e-9
        assert bool(loss.clipped.item()) == (loss.per_token.item() > -advantage * loss.ratio.item())

    def test_refuses_clip_and_shapes(self) -> None:
        with pytest.raises(ValueError, match="clip"):
            clipped_policy_loss(row(0), row(0), row(0), torch.ones(1, 1, dtype=torch.bool), clip=0.0)
        with pytest.raises(ValueError, match="advantages"):
            clipped_policy_loss(row(0), row(0), row(0, 1), torch.ones(1, 1, dtype=torch.bool), clip=0.2)


class TestValue:
    def test_takes_the_worse_of_the_two(self) -> None:
        # V 1.0 from 0.0 may move to 0.2: to R=2 that is farther (0.5*1.8^2), to R=0 nearer (0.5*1^2 counts);
        # V 0.1 lies within the clip; V -1.0 is held at -0.2: R=-3 is then 2.8 away
        loss = clipped_value_loss(row(1.0, 1.0, 0.1, -1.0), row(0, 0, 0, 0), row(2, 0, 1, -3), ALL, clip=0.2)
        assert loss[0].tolist() == pytest.approx([1.62, 0.5, 0.405, 3.92])

    def test_gradient_stops_once_the_value_has_moved_far_enough(self) -> None:
        values = row(1.0, 1.0, 0.1, -1.0).requires_grad_()
        clipped_value_loss(values, row(0, 0, 0, 0), row(2, 0, 1, -3), ALL, clip=0.2).sum().backward()
        assert values.grad[0].tolist() == pytest.approx([0.0, 1.0, -0.9, 0.0])

    def test_without_clip_it_is_half_the_square(self) -> None:
        loss = clipped_value_loss(row(1.0, 1.0, 0.1, -1.0), row(0, 0, 0, 0), row(2, 0, 1, -3), ALL, clip=None)
        assert loss[0].tolist() == pytest.approx([0.5, 0.5, 0.405, 2.0])

    def test_nothing_outside_the_mask_is_read(self) -> None:
        nan = math.nan
        values = row(1.0, nan, 5.0, 0.0).requires_grad_()
        mask = torch.tensor([[True, False, False, False]])
        loss = clipped_value_loss(values, row(1.0, 0, nan, 0), row(3.0, 0, 0, nan), mask, clip=0.5)
        loss.sum().backward()
        assert loss[0].tolist() == pytest.approx([2.0, 0, 0, 0])
        assert values.grad[0].tolist() == pytest.approx([-2.0, 0, 0, 0])

    def test_refuses_a_clip_of_zero(self) -> None:
        with pytest.raises(ValueError, match="clip"):
            clipped_value_loss(row(0, 0, 0, 0), row(0, 0, 0, 0), row(0, 0, 0, 0), ALL, clip=0.0)


class TestRatioOfACompletion:
    # ratios 2 and 1.125 in the first row (one hole), 0.5 in the second, which has one token
    mask = torch.tensor([[True, False, True], [False, True, False]])
    logprobs = torch.tensor([[LOG(2.0), 5.0, LOG(1.125)], [9.0, LOG(0.5), 9.0]], dtype=torch.float64)
    old = torch.tensor([[0.0, math.nan, 0.0], [0.0, 0.0, math.nan]], dtype=torch.float64)
    gain = torch.tensor([[3.0, 9.0, 3.0], [9.0, -1.0, 9.0]], dtype=torch.float64)

    def test_product_and_geometric_mean(self) -> None:
        whole = clipped_policy_loss(self.logprobs, self.old, self.gain, self.mask, clip=0.9, level="sequence")
        assert whole.ratio.flatten().tolist() == pytest.approx([2.25, 0.5])
        assert whole.per_token.flatten().tolist() == pytest.approx([-3 * 1.9, 0.5])
        mean = clipped_policy_loss(self.logprobs, self.old, self.gain, self.mask, clip=0.9, level="sequence_mean")
        assert mean.ratio.flatten().tolist() == pytest.approx([1.5, 0.5])
        assert mean.per_token.flatten().tolist() == pytest.approx([-4.5, 0.5])
        assert mean.mask.tolist() == [[True], [True]]

    def test_gradient_of_the_geometric_mean_is_shared_by_its_tokens(self) -> None:
        logprobs = self.logprobs.clone().requires_grad_()
        loss = clipped_policy_loss(logprobs, self.old, self.gain, self.mask, clip=0.9, level="sequence_mean")
        loss.per_token.sum().backward()
        # -A s / |y| at each token: -3 * 1.5 / 2 and 1 * 0.5 / 1
        assert logprobs.grad.flatten().tolist() == pytest.approx([-2.25, 0, -2.25, 0, 0.5, 0])

    def test_a_row_without_a_token_counts_nothing(self) -> None:
        empty = torch.zeros_like(self.mask)
        for level in ("token", "sequence", "sequence_mean"):
            loss = clipped_policy_loss(self.logprobs, self.old, self.gain, empty, clip=0.2, level=level)
            assert loss.per_token.abs().sum().item() == 0
            assert not loss.mask.any()

    def test_the_upper_clip_stands_apart(self) -> None:
        ratios = row(LOG(1.25), LOG(1.25), LOG(0.75), LOG(0.75))
        loss = clipped_policy_loss(ratios, row(0, 0, 0, 0), row(1, -1, 1, -1), ALL, clip=0.2, clip_high=0.28)
        assert loss.per_token[0].tolist() == pytest.approx([-1.25, 1.25, -0.75, 0.8])
        assert loss.clipped[0].tolist() == [False, False, False, True]
        with pytest.raises(ValueError, match="clip_high must be above 0"):
            clipped_policy_loss(ratios, row(0, 0, 0, 0), row(1, -1, 1, -1), ALL, clip=0.2, clip_high=0.0)


class TestAggregate:
    # a completion of three tokens and one of one; the longest may have five
    values = torch.tensor([[1.0, 2.0, 3.0], [8.0, 0.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, True, True], [True, False, False]])

    @pytest.mark.parametrize(
        ("how", "mean"), [("token", 14 / 4), ("sequence", 5.0), ("constant", 1.4), ("completion", 7.0)]
    )
    def test_by_hand(self, how: str, mean: float) -> None:
        whole = Whole(rows=2, tokens=4, longest=5)
        assert aggregate(self.values, self.mask, how, whole).item() == pytest.approx(mean)
        parts = [aggregate(self.values[i : i + 1], self.mask[i : i + 1], how, whole).item() for i in range(2)]
        assert sum(parts) == pytest.approx(mean)
