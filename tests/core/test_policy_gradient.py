from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.policy_gradient import clipped_policy_loss, clipped_value_loss

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
