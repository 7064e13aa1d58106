"""Preference losses: literal values, gradients by finite differences, and what each of them is meant to do."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from heedful.core import answer_losses, pair_losses
from heedful.core.answers import Anchored, Answers, expected

LOG2 = math.log(2)


def t(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# The inputs of the golden values: log pi -10 and -12, log ref -11 and -11.5 (so c = 1, r = -0.5), 5 and 8 tokens.
A = Anchored(t(-10), t(5), t(-11))
B = Anchored(t(-12), t(8), t(-11.5))
ZERO = torch.tensor(0.0, dtype=torch.float64)

PAIRS: dict[str, Callable[..., Tensor]] = {
    name: function for name, function in vars(pair_losses).items() if inspect.isfunction(function) and name[0] != "_"
}
PAIRS = {name: f for name, f in PAIRS.items() if list(inspect.signature(f).parameters)[:2] == ["a", "b"]}
ANSWERS = {"kto": answer_losses.kto, "bco": answer_losses.bco, "sft": answer_losses.sft}
GIVEN: dict[str, Any] = {"exo": {"probability": t(1.0)}, "kto": {"kl": ZERO}, "bco": {"shift": ZERO}}


def test_every_loss_of_the_issue_is_here() -> None:
    assert set(PAIRS) == {
        *("sigmoid", "cdpo", "robust", "ipo", "ipo_mean", "hinge", "dpo_norm", "r_dpo", "orpo", "simpo", "cpo", "exo"),
        *("nca", "apo_zero", "apo_down", "sppo_hard", "aot", "aot_unpaired", "discopop"),
    }


@pytest.mark.parametrize(
    ("name", "settings", "value"),
    [
        ("sigmoid", {"beta": 0.1}, 0.6209570478),
        ("cdpo", {"beta": 0.1, "epsilon": 0.1}, 0.6359570478),
        ("robust", {"beta": 0.1, "epsilon": 0.1}, 0.6022070478),
        ("hinge", {"beta": 0.1}, 0.85),
        ("ipo", {"beta": 0.1}, 12.25),
        ("ipo_mean", {"beta": 0.1}, 22.44390625),
        ("exo", {"beta": 0.1, "epsilon": 0.001}, 2.5055165555),
        ("nca", {"beta": 0.1}, 1.3508248141),
        ("apo_zero", {"beta": 0.1}, 0.962523416),
        ("apo_down", {"beta": 0.1}, 0.9875493421),
        ("sppo_hard", {"beta": 0.1}, 36.25),
        ("dpo_norm", {"beta": 5.0}, 0.2383445081),
        ("r_dpo", {"beta": 0.1, "alpha": 0.01}, 0.6349461016),
        ("simpo", {"beta": 2.0, "gamma": 1.0}, 2.126928011),
        ("cpo", {"beta": 0.1, "alpha": 0.0}, 0.5981388694),
        ("cpo", {"beta": 0.1, "alpha": 1.0}, 2.5981388694),  # and -log pi(a) per token is 2
        ("orpo", {"weight": 1.0}, 3.0420578079),  # 2 + the golden odds-ratio term
        ("orpo", {"weight": 0.25}, 2.26051445198),
        # z = 0.15: s = sigmoid(3) = 0.9525741268, (1 - s) log(1 + e^-z) + s e^-z
        ("discopop", {"beta": 0.1, "tau": 0.05}, 0.8493375793),
        # one pair: nothing to sort, so DPO's own value, and with the marginals beta (c - r) too
        ("aot", {"beta": 0.1}, 0.6209570478),
        ("aot_unpaired", {"beta": 0.1}, 0.6209570478),
    ],
)
def test_golden_values(name: str, settings: dict[str, float], value: float) -> None:
    assert PAIRS[name](A, B, **GIVEN.get(name, {}), **settings).item() == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize(
    ("loss", "value"),
    [
        (lambda: answer_losses.kto(A, True, kl=ZERO, beta=0.1), 0.4750208125),
        (lambda: answer_losses.kto(B, False, kl=ZERO, beta=0.1), 0.4875026035),
        (lambda: answer_losses.kto(B, False, kl=ZERO, beta=0.1, undesirable=3.0), 1.4625078105),
        # z = 2: 1 - sigmoid(0.1 (1 - 2)) = sigmoid(0.1), and a negative KL counts as 0
        (lambda: answer_losses.kto(A, True, kl=ZERO + 2, beta=0.1), 0.5249791875),
        (lambda: answer_losses.kto(A, True, kl=ZERO - 2, beta=0.1), 0.4750208125),
        (
            lambda: (
                answer_losses.bco(A, True, shift=ZERO, beta=0.1) + answer_losses.bco(B, False, shift=ZERO, beta=0.1)
            ),
            1.3128563081,
        ),
        # log(1 + e^-(0.1 - 0.3)) and log(1 + e^(-0.05 - 0.3))
        (lambda: answer_losses.bco(A, True, shift=ZERO + 0.3, beta=0.1), 0.7981388694),
        (lambda: answer_losses.bco(B, False, shift=ZERO + 0.3, beta=0.1), 0.5333821554),
        (lambda: answer_losses.sft(A, True), 2.0),
        (lambda: answer_losses.sft(A, False), 0.0),
    ],
)
def test_values_of_answer_losses(loss: Callable[[], Tensor], value: float) -> None:
    assert loss().item() == pytest.approx(value, abs=1e-9)


def test_margins_are_taken_off_the_logit() -> None:
    # 0.15 - 0.15 = 0, so log 2; hinge 1 - (0.15 - 0.05); length-normalised 1.3125 - 1.3125
    assert pair_losses.sigmoid(A, B, beta=0.1, margin=t(0.15)).item() == pytest.approx(LOG2)
    assert pair_losses.hinge(A, B, beta=0.1, margin=t(0.05)).item() == pytest.approx(0.9)
    assert pair_losses.dpo_norm(A, B, beta=5.0, margin=t(1.3125)).item() == pytest.approx(LOG2)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((name, LOG2) for name in ("sigmoid", "cdpo", "robust", "dpo_norm", "aot", "aot_unpaired")),
        ("hinge", 1.0),
        ("nca", 2 * LOG2),
        ("apo_zero", 1.0),
        ("apo_down", 1.0),
        ("ipo", 25.0),
        ("ipo_mean", 25.0),
        ("sppo_hard", 50.0),
        ("discopop", 0.5 * LOG2 + 0.5),
    ],
)
def test_where_policy_and_reference_agree(name: str, value: float) -> None:
    start_a, start_b = Anchored(t(-3, -9), t(2, 4), t(-3, -9)), Anchored(t(-1, -70), t(1, 30), t(-1, -70))
    assert PAIRS[name](start_a, start_b).tolist() == pytest.approx([value, value])


def gradient_check(loss: Callable[..., Tensor]) -> bool:
    """Against finite differences in double precision, unequal lengths, and a pair whose order the policy has wrong."""
    policy_a, policy_b = t(-4.2, -0.7, -31.0).requires_grad_(), t(-3.1, -6.4, -8.5).requires_grad_()

    def value(log_a: Tensor, log_b: Tensor) -> Tensor:
        a = Anchored(log_a, t(3, 1, 20), t(-4.0, -0.9, -29.5))
        return loss(a, Anchored(log_b, t(2, 5, 7), t(-3.3, -6.0, -9.0)))

    return torch.autograd.gradcheck(value, (policy_a, policy_b), eps=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_are_those_of_the_values(name: str) -> None:
    more = {"probability": t(1.0, 0.5, 0.2)} if name == "exo" else {}
    assert gradient_check(lambda a, b: PAIRS[name](a, b, **more))


@pytest.mark.parametrize("good", [True, False])
@pytest.mark.parametrize("name", ANSWERS)
def test_gradients_of_answer_losses(name: str, good: bool) -> None:
    assert gradient_check(lambda a, b: ANSWERS[name](a, good, **GIVEN.get(name, {})) + 0 * b.logprob)


@pytest.mark.parametrize("name", ["kl", "shift"])
def test_what_is_measured_gets_no_gradient(name: str) -> None:
    measured = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    policy = t(-10).requires_grad_()
    answer = Anchored(policy, t(5), t(-11))
    loss = (
        answer_losses.kto(answer, True, kl=measured)
        if name == "kl"
        else answer_losses.bco(answer, True, shift=measured)
    )
    loss.sum().backward()
    assert measured.grad is None
    assert policy.grad is not None


def slopes(name: str) -> tuple[float, float]:
    """d loss / d log pi of a and of b, at the golden inputs."""
    policy_a, policy_b = t(-10).requires_grad_(), t(-12).requires_grad_()
    a, b = Anchored(policy_a, t(5), t(-11)), Anchored(policy_b, t(8), t(-11.5))
    PAIRS[name](a, b, **GIVEN.get(name, {})).sum().backward()
    assert policy_a.grad is not None
    assert policy_b.grad is not None
    return policy_a.grad.item(), policy_b.grad.item()


@pytest.mark.parametrize("name", sorted(set(PAIRS) - {"apo_down"}))
def test_every_loss_lifts_the_preferred_answer_and_lowers_the_other(name: str) -> None:
    up, down = slopes(name)
    assert up < 0 < down


def test_apo_down_lowers_both() -> None:
    up, down = slopes("apo_down")
    # beta (s(c)(1 - s(c)) - s(D)(1 - s(D))): with c = 1 and D = 1.5 a little above 0; b by s(D)(1 - s(D)) beta
    assert up == pytest.approx(0.1 * (0.24937604 - 0.24859901), abs=1e-8)
    assert down == pytest.approx(0.1 * 0.24859901, abs=1e-8)


def optimum(loss: Callable[[Tensor], Tensor]) -> float:
    """Where the gradient in D is zero, by bisection."""
    low, high = -200.0, 200.0
    for _ in range(100):
        middle = t((low + high) / 2).requires_grad_()
        loss(middle).sum().backward()
        assert middle.grad is not None
        low, high = ((low + high) / 2, high) if middle.grad.item() < 0 else (low, (low + high) / 2)
    return (low + high) / 2


@pytest.mark.parametrize("p", [0.2, 0.5, 0.85])
@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("sigmoid", lambda p: math.log(p / (1 - p)) / 0.1),
        ("ipo", lambda p: (2 * p - 1) / 0.2),
        ("robust", lambda p: math.log((p - 0.1) / (0.9 - p)) / 0.1),
        ("cdpo", lambda p: math.log((0.8 * p + 0.1) / (0.9 - 0.8 * p)) / 0.1),
        ("exo", lambda p: math.log((p * 0.999 + (1 - p) * 0.001) / ((1 - p) * 0.999 + p * 0.001)) / 0.1),
    ],
)
def test_soft_labels_have_the_optimum_that_theory_names(name: str, where: Callable[[float], float], p: float) -> None:
    one, label, nothing = t(1), t(p), t(0)

    def loss(difference: Tensor) -> Tensor:
        a, b = Anchored(difference, one, nothing), Anchored(nothing, one, nothing)
        if name == "exo":
            return pair_losses.exo(a, b, probability=label)
        return expected(PAIRS[name](a, b), PAIRS[name](b, a), label)

    assert optimum(loss) == pytest.approx(where(p), abs=1e-6)


def test_robust_dpo_undoes_the_flips() -> None:
    """Over labels that are flipped one time in ten, its mean is DPO on the true ones."""
    flipped = 0.9 * pair_losses.robust(A, B, epsilon=0.1) + 0.1 * pair_losses.robust(B, A, epsilon=0.1)
    assert flipped.item() == pytest.approx(pair_losses.sigmoid(A, B).item(), abs=1e-12)


def test_sppo_with_soft_labels_has_the_gradient_of_the_papers_targets() -> None:
    policy_a, policy_b = t(-10).requires_grad_(), t(-12).requires_grad_()
    a, b = Anchored(policy_a, t(5), t(-11)), Anchored(policy_b, t(8), t(-11.5))
    expected(pair_losses.sppo_hard(a, b), pair_losses.sppo_hard(b, a), t(0.7)).sum().backward()
    # targets (0.7 - 0.5) / 0.1 = 2 and -2: 2 (1 - 2) and 2 (-0.5 + 2)
    assert policy_a.grad.item() == pytest.approx(-2.0)
    assert policy_b.grad.item() == pytest.approx(3.0)


def test_nca_with_soft_labels_is_the_papers_with_those_weights() -> None:
    mixed = expected(pair_losses.nca(A, B), pair_losses.nca(B, A), t(0.7)).item()
    # 0.7 l(0.1) + 0.3 l(-0.05) + l(-0.1) / 2 + l(0.05) / 2, l(z) = log(1 + e^-z)
    logs = {z: math.log1p(math.exp(-z)) for z in (0.1, -0.05, -0.1, 0.05)}
    assert mixed == pytest.approx(0.7 * logs[0.1] + 0.3 * logs[-0.05] + logs[-0.1] / 2 + logs[0.05] / 2)


def test_aot_compares_sorted_margins() -> None:
    # policy margins 3, -1; reference margins 0, 1: sorted -1 - 0 and 3 - 1
    a, b = Anchored(t(3, -1), t(1, 1), t(0, 1)), Anchored(t(0, 0), t(1, 1), t(0, 0))
    assert pair_losses.aot(a, b, beta=1.0).tolist() == pytest.approx([1.3132616875, 0.1269280110])
    # c = 3, -2 and r = 0, 0: sorted -2 and 3
    assert pair_losses.aot_unpaired(a, b, beta=1.0).tolist() == pytest.approx([2.1269280110, 0.0485873516])


def test_unpaired_aot_does_not_mind_who_is_paired_with_whom() -> None:
    a = Anchored(t(-1, -4, -2), t(2, 3, 4), t(-2, -2, -2))
    b = Anchored(t(-3, -1, -9), t(5, 6, 7), t(-2, -3, -4))
    order = torch.tensor([2, 0, 1])
    other = Anchored(b.logprob[order], b.length[order], b.reference[order])
    assert pair_losses.aot_unpaired(a, other).sum().item() == pytest.approx(pair_losses.aot_unpaired(a, b).sum().item())
    assert pair_losses.aot(a, other).sum().item() != pytest.approx(pair_losses.aot(a, b).sum().item())


@pytest.mark.parametrize("name", sorted(set(PAIRS) - {"discopop"}))
def test_finite_far_out(name: str) -> None:
    """A one-token answer that is certain, and one that is hopeless."""
    far_a, far_b = Anchored(t(0, -1e5), t(1, 1000), t(-1e5, 0)), Anchored(t(-1e5, 0), t(1000, 1), t(0, -1e5))
    far_a.logprob.requires_grad_()
    loss = PAIRS[name](far_a, far_b, **({"probability": t(1, 0)} if name == "exo" else {}))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert far_a.logprob.grad is not None
    assert torch.isfinite(far_a.logprob.grad).all()


def test_log_odds_are_exact_near_both_ends() -> None:
    # p = e^-40 has log odds -40; p = 1 - 1e-5 has log(0.99999 / 0.00001)
    assert pair_losses._log_odds(t(-40)).item() == pytest.approx(-40, abs=1e-12)
    assert pair_losses._log_odds(t(math.log1p(-1e-5))).item() == pytest.approx(math.log(99999), abs=1e-9)


@given(st.floats(-30, 30), st.floats(0, 1))
def test_expected_loss_of_a_pair_does_not_depend_on_which_answer_is_called_a(c: float, p: float) -> None:
    a, b = Anchored(t(c), t(3), t(0.0)), Anchored(t(0.0), t(2), t(0.0))
    one = expected(pair_losses.ipo(a, b), pair_losses.ipo(b, a), t(p))
    other = expected(pair_losses.ipo(b, a), pair_losses.ipo(a, b), t(1 - p))
    assert one.item() == pytest.approx(other.item(), rel=1e-9)


def test_exo_is_a_kl_divergence() -> None:
    logit = math.log(0.9 * 0.999 + 0.1 * 0.001) - math.log(0.1 * 0.999 + 0.9 * 0.001)
    at = Anchored(t(logit / 0.1), t(1), t(0))
    assert pair_losses.exo(at, Anchored(t(0), t(1), t(0)), probability=t(0.9)).item() == pytest.approx(0, abs=1e-12)
    assert pair_losses.exo(A, B, probability=t(0.5)).item() > 0


class TestRefusals:
    def test_shapes_that_would_broadcast(self) -> None:
        with pytest.raises(ValueError, match=r"\[N\]"):
            Anchored(t(1, 2), t(1, 1), t(1, 2)[:, None])
        with pytest.raises(ValueError, match=r"\[N\]"):
            expected(t(1, 2), t(1, 2), t(0.5))
        with pytest.raises(ValueError, match=r"\[N\]"):
            pair_losses.sigmoid(A, B, margin=t(1, 2))

    def test_an_answer_without_a_token(self) -> None:
        with pytest.raises(ValueError, match="without a token"):
            Answers(t(0.0), t(0))

    @pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
    def test_a_label_outside_zero_to_one(self, p: float) -> None:
        with pytest.raises(ValueError, match=r"0\.\.1"):
            expected(t(1), t(1), t(p))

    @pytest.mark.parametrize("name", ["cdpo", "robust", "exo"])
    @pytest.mark.parametrize("epsilon", [0.0, 0.5, 0.7, math.nan])
    def test_a_flip_rate_that_says_nothing(self, name: str, epsilon: float) -> None:
        with pytest.raises(ValueError, match="epsilon"):
            PAIRS[name](A, B, **GIVEN.get(name, {}), epsilon=epsilon)
