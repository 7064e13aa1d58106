from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.losses import bradley_terry_loss, dpo_loss


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The inputs of the golden values: policy -10 and -12, reference -11 and -11.5, so D = 1.5; beta 0.1.
GOLDEN = {"policy_a": t(-10), "policy_b": t(-12), "reference_a": t(-11), "reference_b": t(-11.5)}


def golden_dpo(**more: object) -> Tensor:
    return dpo_loss(*(GOLDEN[name] for name in ("policy_a", "policy_b", "reference_a", "reference_b")), **more)


class TestDPO:
    def test_golden_value(self) -> None:
        assert golden_dpo(beta=0.1).item() == pytest.approx(0.6209570478, abs=1e-10)

    def test_golden_value_with_soft_label(self) -> None:
        assert golden_dpo(beta=0.1, probability=t(0.9)).item() == pytest.approx(0.6359570478, abs=1e-10)

    def test_log_two_where_policy_is_reference(self) -> None:
        same = t(-3, -50)
        assert dpo_loss(same, same - 7, same, same - 7, beta=0.3).tolist() == pytest.approx([0.6931471806] * 2)

    def test_gradients(self) -> None:
        inputs = [GOLDEN[name].clone().requires_grad_() for name in GOLDEN]
        dpo_loss(*inputs, beta=0.1).sum().backward()
        # -beta sigmoid(-0.15), and signs that tell the four arguments apart
        slopes = [x.grad.item() for x in inputs]
        assert slopes == pytest.approx([-0.0462570155, 0.0462570155, 0.0462570155, -0.0462570155], abs=1e-10)

    def test_gradient_with_soft_label(self) -> None:
        policy_a = t(-10).requires_grad_()
        dpo_loss(policy_a, t(-12), t(-11), t(-11.5), beta=0.1, probability=t(0.9)).sum().backward()
        assert policy_a.grad.item() == pytest.approx(0.1 * (0.5374298453 - 0.9), abs=1e-10)

    def test_soft_label_has_its_optimum_at_the_log_odds(self) -> None:
        logit = t(math.log(0.8 / 0.2)).requires_grad_()
        dpo_loss(logit / 0.5, t(0), t(0), t(0), beta=0.5, probability=t(0.8)).sum().backward()
        assert logit.grad.item() == pytest.approx(0, abs=1e-12)

    def test_finite_far_out(self) -> None:
        assert dpo_loss(t(-1e6), t(0), t(0), t(0), beta=1.0).item() == pytest.approx(1e6)

    @pytest.mark.parametrize("beta", [0.0, -0.1])
    def test_refuses_beta(self, beta: float) -> None:
        with pytest.raises(ValueError, match="beta"):
            golden_dpo(beta=beta)

    def test_refuses_to_broadcast(self) -> None:
        with pytest.raises(ValueError, match=r"\[N\]"):
            dpo_loss(t(1, 2), t(1, 2), t(1, 2), t(1, 2)[:, None], beta=0.1)


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

    def test_centering_adds_the_squared_sum(self) -> None:
        centred = bradley_terry_loss(t(3, -2), t(1, 2), centering=0.01) - bradley_terry_loss(t(3, -2), t(1, 2))
        assert centred.tolist() == pytest.approx([0.16, 0.0])

    def test_gradients(self) -> None:
        a, b = t(1.2).requires_grad_(), t(1.0).requires_grad_()
        bradley_terry_loss(a, b, centering=0.5).sum().backward()
        assert a.grad.item() == pytest.approx(-0.4501660027 + 2.2, abs=1e-9)
        assert b.grad.item() == pytest.approx(0.4501660027 + 2.2, abs=1e-9)

    def test_recovers_true_scores_from_exact_labels(self) -> None:
        truth = t(0.0, 0.7, -1.1)
        left, right = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        scores = torch.zeros(3, dtype=torch.float64, requires_grad=True)
        optimiser = torch.optim.LBFGS([scores], lr=0.5, max_iter=200, tolerance_grad=1e-12, tolerance_change=1e-15)

        def closure() -> Tensor:
            optimiser.zero_grad()
            labels = torch.sigmoid(truth[left] - truth[right])
            loss = bradley_terry_loss(scores[left], scores[right], probability=labels, centering=0.0).mean()
            loss.backward()
            return loss

        optimiser.step(closure)
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
        one = bradley_terry_loss(t(a), t(b), probability=t(p), centering=0.1)
        other = bradley_terry_loss(t(b), t(a), probability=t(1 - p), centering=0.1)
        assert one.item() == pytest.approx(other.item(), rel=1e-9, abs=1e-9)
