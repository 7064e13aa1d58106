"""Many logistic regressions at once: against a general minimiser, and where data alone have no maximum."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from heedful.core.logistic import logistic_modes, sigmoid


def negative_log_posterior(beta, x, wins, trials, precision):
    eta = x @ beta
    return trials @ np.logaddexp(0, eta) - wins @ eta + precision @ beta**2 / 2


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 30), columns=st.integers(1, 4))
def test_the_mode_is_where_a_general_minimiser_ends(seed, rows, columns):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, columns))
    trials = rng.integers(0, 4, size=(3, rows)).astype(float)
    wins = trials * rng.random((3, rows))
    precision = rng.uniform(0.01, 2.0, size=columns)

    found, curvature = logistic_modes(x, wins, trials, precision)

    for beta, curve, won, of in zip(found, curvature, wins, trials, strict=True):
        best = minimize(negative_log_posterior, np.zeros(columns), (x, won, of, precision), method="BFGS", tol=1e-10)
        assert negative_log_posterior(beta, x, won, of, precision) <= best.fun + 1e-9
        np.testing.assert_allclose(beta, best.x, atol=2e-4)
        step = 1e-4 * np.eye(columns)

        def height(at, won=won, of=of):
            return negative_log_posterior(at, x, won, of, precision)

        second = [
            [(height(beta + a + b) - height(beta + a) - height(beta + b) + height(beta)) / 1e-8 for b in step]
            for a in step
        ]
        np.testing.assert_allclose(curve, second, rtol=1e-2, atol=1e-2)


def test_one_coefficient_by_hand():
    """Three wins of four and no prior: the logit is log 3, the information 4 x 3/4 x 1/4."""
    (beta,), (curve,) = logistic_modes(np.ones((1, 1)), np.array([[3.0]]), np.array([[4.0]]), 0.0)
    assert beta[0] == pytest.approx(np.log(3.0), abs=1e-12)
    assert curve[0, 0] == pytest.approx(0.75, abs=1e-12)


def test_a_prior_keeps_wins_without_a_loss_finite():
    (beta,), _ = logistic_modes(np.ones((5, 1)), np.ones((1, 5)), np.ones((1, 5)), 0.01)
    assert 5 / (1 + np.exp(beta[0])) == pytest.approx(0.01 * beta[0], rel=1e-9)


def test_it_does_not_matter_where_it_begins():
    rng = np.random.default_rng(3)
    x, trials = rng.normal(size=(20, 2)), np.ones((2, 20))
    wins = (rng.random((2, 20)) < 0.5).astype(float)
    cold, _ = logistic_modes(x, wins, trials, 0.1)
    far, _ = logistic_modes(x, wins, trials, 0.1, np.array([[30.0, -30.0], [-8.0, 9.0]]))
    np.testing.assert_allclose(far, cold, atol=1e-8)


def test_shapes_that_do_not_go_together():
    with pytest.raises(ValueError, match="do not go together"):
        logistic_modes(np.ones((3, 2)), np.ones((1, 4)), np.ones((1, 4)), 0.1)


def test_the_sigmoid_does_not_overflow():
    np.testing.assert_allclose(sigmoid([-1e9, 0.0, 1e9]), [0.0, 0.5, 1.0])
