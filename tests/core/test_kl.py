from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from heedful.core.kl import AdaptiveKL, FixedKL, estimate, full_kl, k1, k2, k3


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


class TestEstimators:
    # pi twice as likely, as likely, half as likely as the reference
    logprobs, reference = t(math.log(0.4), -1.0, math.log(0.2)), t(math.log(0.2), -1.0, math.log(0.4))

    def test_literal_values(self) -> None:
        assert k1(self.logprobs, self.reference).tolist() == pytest.approx([0.6931471806, 0, -0.6931471806])
        assert k2(self.logprobs, self.reference).tolist() == pytest.approx([0.2402265070, 0, 0.2402265070])
        # ref/pi - 1 - log(ref/pi): 1/2 - 1 + log 2 and 2 - 1 - log 2
        assert k3(self.logprobs, self.reference).tolist() == pytest.approx([0.1931471806, 0, 0.3068528194])

    def test_k3_keeps_its_digits_near_zero(self) -> None:
        # x = 1e-3: x^2 / 2 - x^3 / 6; exp(-x) - 1 + x in float32 is off by a tenth
        tiny = k3(torch.tensor([1e-3]), torch.zeros(1))
        assert tiny.item() == pytest.approx(4.998334e-7, rel=1e-3)


class TestEstimate:
    # log-ratios log 2 and log 2 of a row with a hole, log 1/2 of a row of one token
    ratios = torch.tensor([[math.log(2), math.nan, math.log(2)], [math.inf, math.log(0.5), 0.0]], dtype=torch.float64)
    mask = torch.tensor([[True, False, True], [False, True, False]])

    @pytest.mark.parametrize(
        ("estimator", "level", "expected"),
        [
            ("k1", "token", [0.6931471806, 0, 0.6931471806, 0, -0.6931471806, 0]),
            ("k1", "sequence", [0, 0, 1.3862943611, 0, -0.6931471806, 0]),
            ("k2", "token", [0.2402265070, 0, 0.2402265070, 0, 0.2402265070, 0]),
            ("k2", "sequence", [0, 0, 0.9609060278, 0, 0.2402265070, 0]),  # (2 log 2)^2 / 2
            ("k3", "token", [0.1931471806, 0, 0.1931471806, 0, 0.3068528194, 0]),
            ("k3", "sequence", [0, 0, 0.6362943611, 0, 0.3068528194, 0]),  # 1/4 - 1 + 2 log 2
        ],
    )
    def test_literal(self, estimator: str, level: str, expected: list[float]) -> None:
        found = estimate(self.ratios, torch.zeros(2, 3, dtype=torch.float64), self.mask, estimator, level)
        assert found.flatten().tolist() == pytest.approx(expected)

    @pytest.mark.parametrize("level", ["token", "sequence"])
    @pytest.mark.parametrize("estimator", ["k1", "k2", "k3"])
    def test_its_gradient_is_that_of_finite_differences(self, estimator: str, level: str) -> None:
        reference = torch.tensor([[-1.0, -2.0, -0.5], [-0.1, -3.0, -1.0]], dtype=torch.float64)
        logprobs = torch.tensor([[-1.5, -0.3, -2.0], [-0.4, -1.0, -1.2]], dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda x: estimate(x, reference, self.mask, estimator, level), (logprobs,))


class TestFullKL:
    def test_literal(self) -> None:
        # 0.5 log(0.5/0.25) + 0.5 log(0.5/0.75)
        kl = full_kl(t(0.0, 0.0), t(math.log(1.0), math.log(3.0)))
        assert kl.item() == pytest.approx(0.1438410362, abs=1e-9)

    def test_is_not_symmetric(self) -> None:
        # 0.25 log(0.25/0.5) + 0.75 log(0.75/0.5)
        kl = full_kl(t(math.log(1.0), math.log(3.0)), t(0.0, 0.0))
        assert kl.item() == pytest.approx(0.1308120360, abs=1e-9)

    def test_tokens_banned_by_both_add_nothing_and_take_no_gradient(self) -> None:
        p = t(0.0, -math.inf, 0.0).requires_grad_()
        kl = full_kl(p, t(math.log(1.0), -math.inf, math.log(3.0)))
        kl.backward()
        assert kl.item() == pytest.approx(0.1438410362, abs=1e-9)
        # p_v (log p_v/q_v - KL)
        expected = [0.5 * (math.log(2) - 0.1438410362), 0.0, 0.5 * (math.log(2 / 3) - 0.1438410362)]
        assert p.grad.tolist() == pytest.approx(expected, abs=1e-9)

    def test_what_only_q_says_is_fine_and_what_only_p_says_is_infinite(self) -> None:
        half, all_three = t(0.0, 0.0, -math.inf), t(0.0, 0.0, 0.0)
        assert full_kl(half, all_three).item() == pytest.approx(math.log(1.5))
        assert full_kl(all_three, half).item() == math.inf

    def test_runs_in_float32_at_least(self) -> None:
        low = torch.randn(3, 50).bfloat16()
        kl = full_kl(low, low)
        assert kl.dtype == torch.float32
        assert kl.tolist() == [0.0, 0.0, 0.0]

    @settings(deadline=None, max_examples=50)
    @given(seed=st.integers(0, 2**20), spread=st.floats(0.01, 20))
    def test_is_never_negative(self, seed: int, spread: float) -> None:
        make = torch.Generator().manual_seed(seed)
        p, q = torch.randn(2, 4, 7, dtype=torch.float64, generator=make) * spread
        assert (full_kl(p, q) >= -1e-12).all()


class TestControllers:
    def test_published_step(self) -> None:
        after = AdaptiveKL(1.0, target=6.0).updated(kl=12.0, episodes=256)
        assert after.coefficient == pytest.approx(1.00512, abs=1e-12)

    def test_small_errors_are_not_clipped(self) -> None:
        # KL 5.4 against 6: e = -0.1
        after = AdaptiveKL(0.2, target=6.0, horizon=1000).updated(kl=5.4, episodes=100)
        assert after.coefficient == pytest.approx(0.2 * 0.99)

    def test_falls_at_most_as_fast_as_it_rises(self) -> None:
        after = AdaptiveKL(1.0, target=6.0).updated(kl=-3.0, episodes=256)
        assert after.coefficient == pytest.approx(0.99488)

    def test_keeps_its_settings_and_leaves_the_old_one_alone(self) -> None:
        before = AdaptiveKL(0.1, target=3.0, horizon=500)
        after = before.updated(kl=6.0, episodes=50)
        assert (after.target, after.horizon) == (3.0, 500)
        assert before.coefficient == 0.1

    def test_steers_a_simple_policy_to_the_target(self) -> None:
        """A policy whose KL is 1 / coefficient^2: the loop must settle where that is the target."""
        controller = AdaptiveKL(1.0, target=4.0, horizon=1000)
        for _ in range(2000):
            controller = controller.updated(kl=controller.coefficient**-2, episodes=64)
        assert controller.coefficient == pytest.approx(0.5, rel=1e-6)

    def test_fixed_stays(self) -> None:
        assert FixedKL(0.05).updated(kl=100.0, episodes=10_000) == FixedKL(0.05)

    @pytest.mark.parametrize(
        "make",
        [
            lambda: FixedKL(-0.1),
            lambda: FixedKL(math.nan),
            lambda: AdaptiveKL(0.1, target=0.0),
            lambda: AdaptiveKL(0.1, target=6.0, horizon=0),
            lambda: AdaptiveKL(0.1, target=6.0).updated(kl=math.nan, episodes=1),
            lambda: AdaptiveKL(0.1, target=6.0, horizon=10).updated(kl=0.0, episodes=50),
            lambda: AdaptiveKL(0.1, target=6.0).updated(kl=0.0, episodes=-1),
        ],
    )
    def test_refuses_what_has_no_meaning(self, make: object) -> None:
        with pytest.raises(ValueError):
            make()
