"""The strongest test: on a policy small enough to enumerate, every offline loss reaches the optimum that theory names.

All pairs of six completions are compared, with exact labels p(i, j) = sigmoid(r_i - r_j) unless a loss says otherwise.
Goals come from formulas, never from a run. With u = log pi/ref, v = u per token, m = log pi per token, and
w_i the mean over j of p(i, j):

| loss | goal | known |
|---|---|---|
| sigmoid, EXO (e -> 0) | beta u = r | up to a constant |
| cDPO | the same, where smoothing its labels p gives the exact ones | up to a constant |
| robust DPO | the same, from labels of which a share e was flipped | up to a constant |
| R-DPO | beta u = r - alpha length | up to a constant |
| IPO | u_i = mean over j, i included, of (2 p(i, j) - 1) / (2 beta) (Azar et al. 2023, thm. 1) | up to a constant |
| length-normalised DPO | beta v = r | up to a constant |
| IPO, token mean | v_i as IPO's u_i | up to a constant |
| CPO, alpha = 0 | beta log pi = r | up to a constant |
| SPPO | u_i = (w_i - 1/2) / beta | wholly |
| NCA | beta u_i = log(2 w_i) | wholly |
| BCO | beta u_i = log(w_i / (1 - w_i)) + shift | up to a constant |
| SFT | pi_i in proportion to w_i / length | wholly |
| hinge | beta D = 1 for p > 1/2 | on pairs apart |
| SimPO | beta (m_a - m_b) = log t, (1 - p) t^2 + (1 - 2 p) e^gamma t - p = 0 | on pairs apart |
| DiscoPOP | the first minimum downhill from D = 0, its slope there (1 - log 2) / (4 tau) - 3/4 | hard labels |
| ORPO, CPO with alpha | none in closed form | order |
| APO-zero, APO-down, KTO, AOT, unpaired AOT | none that is finite | order |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from enumerable import BETA, PROMPT, completions, sequence_logprobs, tiny_policy, total_variation, true_reward
from heedful.data.records import Message, Preference
from heedful.models.policy import Policy
from heedful.training.answer_logprobs import known_logprobs
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.pairs import make_pairs, mismatched
from heedful.training.preference import Objective, PreferenceData, dpo, preference_state
from heedful.training.preference_losses import read_mixture
from heedful.training.state import Step

TEXTS = ("", "red", "blue", "green", "red blue", "red red")
PLACES = [[" ".join(words) for words in completions()].index(text) for text in TEXTS]
LENGTHS = torch.tensor([len(text.split()) + 1.0 for text in TEXTS], dtype=torch.float64)
REWARDS = torch.tensor([true_reward(text) for text in TEXTS], dtype=torch.float64)
LABELS = torch.sigmoid(REWARDS[:, None] - REWARDS[None, :])  # [i, j] that i is preferred to j; 1/2 on the diagonal
WINS = (LABELS.sum(1) - 0.5) / (len(TEXTS) - 1)  # [i] against the others


def logprobs(policy: Policy) -> Tensor:
    """[6] float64 log-probability of every completion, its end of turn included."""
    return sequence_logprobs(policy, ended=True)[PLACES]


def train(
    loss: str, labels: dict[tuple[int, int], float], *, steps: int = 80, rate: float = 6e-3, **settings: float
) -> tuple[Tensor, Tensor]:
    """[6] log-probabilities before and after training on labelled pairs of completions, all of them in every step."""
    policy = tiny_policy()
    before = logprobs(policy)
    records = [Preference(PROMPT, TEXTS[i], TEXTS[j], probability=p) for (i, j), p in labels.items()]
    pairs = make_pairs(records, policy.tokenizer, "soft", 64)
    data = PreferenceData(pairs, known=known_logprobs(policy, pairs, 8192))
    for _ in optimise(policy, loss, data, steps, rate, **settings):
        pass
    return before, logprobs(policy)


def optimise(
    policy: Policy, loss: str, data: PreferenceData, steps: int, rate: float, **settings: float
) -> Iterator[Step]:
    """All records in every step."""
    config = DPOConfig(
        model="",
        data="",
        out=Path(),
        epochs=steps,
        batch_size=len(data.records),
        optimiser=OptimiserConfig(learning_rate=rate, schedule="linear", final_share=0.0, warmup=0.0),
    )
    objective = Objective(read_mixture(loss, settings), 8192)
    return dpo(preference_state(policy, config.optimiser, steps, 0), policy, objective, data, config)


def every_pair(labels: Tensor = LABELS) -> dict[tuple[int, int], float]:
    return {(i, j): float(labels[i, j]) for i, j in combinations(range(len(TEXTS)), 2)}


def ipo(beta: float) -> Tensor:
    return (2 * LABELS - 1).sum(1) / len(TEXTS) / (2 * beta)


EPSILON, ALPHA = 0.1, 0.3
LOG_RATIOS: dict[str, tuple[dict[str, float], Tensor, Tensor]] = {
    # loss: (settings, labels, goal of u up to a constant)
    "sigmoid": ({"beta": BETA}, LABELS, REWARDS / BETA),
    "exo": ({"beta": BETA, "epsilon": 1e-9}, LABELS, REWARDS / BETA),
    "cdpo": ({"beta": BETA, "epsilon": EPSILON}, (LABELS - EPSILON) / (1 - 2 * EPSILON), REWARDS / BETA),
    "robust": (
        {"beta": BETA, "epsilon": EPSILON},
        LABELS * (1 - EPSILON) + (1 - LABELS) * EPSILON,
        REWARDS / BETA,
    ),
    "r-dpo": ({"beta": BETA, "alpha": ALPHA}, LABELS, (REWARDS - ALPHA * LENGTHS) / BETA),
    "ipo": ({"beta": BETA}, LABELS, ipo(BETA)),
    "dpo-norm": ({"beta": 2.0}, LABELS, REWARDS / 2.0),
    "ipo-mean": ({"beta": 1.0}, LABELS, ipo(1.0)),
    "sppo-hard": ({"beta": BETA}, LABELS, (WINS - 0.5) / BETA),
    "nca": ({"beta": BETA}, LABELS, (2 * WINS).log() / BETA),
    "bco": ({"beta": BETA}, LABELS, (WINS / (1 - WINS)).log() / BETA),
}


@pytest.mark.parametrize("loss", LOG_RATIOS)
def test_the_policy_reaches_the_distribution_that_theory_names(loss: str) -> None:
    settings, labels, goal = LOG_RATIOS[loss]
    before, after = train(loss, every_pair(labels), **settings)
    ratio = (after - before) / LENGTHS if loss in ("dpo-norm", "ipo-mean") else after - before
    if loss in ("sppo-hard", "nca"):
        assert ratio.tolist() == pytest.approx(goal.tolist(), abs=0.01)
    else:
        assert (ratio - ratio.mean()).tolist() == pytest.approx((goal - goal.mean()).tolist(), abs=0.01)
        assert total_variation(torch.softmax(ratio, 0), torch.softmax(goal, 0)) < 0.002
    assert total_variation(torch.softmax(before, 0), torch.softmax(before + goal, 0)) > 0.05


def test_cpo_without_its_likelihood_is_dpo_without_a_reference() -> None:
    _, after = train("cpo", every_pair(), beta=BETA, alpha=0.0)
    assert (after - after.mean()).tolist() == pytest.approx(((REWARDS - REWARDS.mean()) / BETA).tolist(), abs=0.02)


def test_sft_reaches_the_shares_of_wins_per_token() -> None:
    before, after = train("sft", every_pair(), steps=160)
    goal = WINS / LENGTHS
    goal = goal / goal.sum()
    assert after.exp().sum().item() == pytest.approx(1.0, abs=0.01)  # nothing is left for other completions
    assert total_variation(after.exp(), goal) < 0.01
    assert total_variation(before.exp() / before.exp().sum(), goal) > 0.1


APART = {(0, 1): 0.8, (2, 3): 0.35, (4, 5): 0.6}


def differences(values: Tensor) -> list[float]:
    return [float(values[i] - values[j]) for i, j in APART]


def test_the_hinge_ends_at_its_corner() -> None:
    before, after = train("hinge", APART, beta=BETA)
    assert [BETA * d for d in differences(after - before)] == pytest.approx([1.0, -1.0, 1.0], abs=0.02)


def test_simpo_reaches_the_root_of_its_quadratic() -> None:
    beta, gamma = 2.0, 0.7
    _, after = train("simpo", APART, beta=beta, gamma=gamma)
    goals = []
    for p in APART.values():
        b = (1 - 2 * p) * math.exp(gamma)
        goals.append(math.log((-b + math.sqrt(b * b + 4 * (1 - p) * p)) / (2 * (1 - p))))
    assert [beta * d for d in differences(after / LENGTHS)] == pytest.approx(goals, abs=0.01)


def test_discopop_slides_into_the_dip_beside_its_start() -> None:
    tau = 0.05
    z = np.linspace(-1.5, 0.0, 150_001)
    share = 1 / (1 + np.exp(-z / tau))
    published = (1 - share) * np.log1p(np.exp(-z)) + share * np.exp(-z)
    slope_at_zero = (published[-1] - published[-2]) / (z[-1] - z[-2])
    assert slope_at_zero == pytest.approx((1 - math.log(2)) / (4 * tau) - 0.75, abs=1e-3)
    falls = np.flatnonzero(np.diff(published) < 0)
    dip = z[falls[-1] + 1]  # walking down from 0, where it first rises again
    assert -1.0 < dip < 0.0
    before, after = train("discopop", dict.fromkeys(APART, 1.0), rate=3e-4, beta=BETA, tau=tau)
    assert [BETA * d for d in differences(after - before)] == pytest.approx([dip] * 3, abs=0.01)


def test_kto_takes_from_what_loses_more_often_than_not_and_gives_to_what_wins() -> None:
    """With x = beta (u - z), an answer costs w (1 - s(x)) + (1 - w) s(x) = w + (1 - 2 w) s(x).

    That falls with x where w > 1/2 and rises where w < 1/2, whatever z: so losers fall without end. Winners share what
    they leave, and since s is flat far out, a narrow winner may fall as well: nothing is said of each of them.
    """
    policy = tiny_policy()
    before = logprobs(policy)
    other = (Message("user", "who"),)
    texts = [Preference(PROMPT, TEXTS[i], TEXTS[j], probability=p) for (i, j), p in every_pair().items()]
    texts.append(Preference(other, "red", "blue", probability=0.5))
    pairs = make_pairs(texts, policy.tokenizer, "soft", 64)
    moved = mismatched(pairs, pairs, 0, 64)
    data = PreferenceData(pairs, moved, *(known_logprobs(policy, some, 8192) for some in (pairs, moved)))
    for _ in optimise(policy, "kto", data, 40, 6e-3):
        pass
    moved_by = logprobs(policy) - before
    wins = WINS > 0.5
    assert bool((moved_by[~wins] < 0).all())
    assert logprobs(policy)[wins].exp().sum() > before[wins].exp().sum() + 0.1
    assert float(moved_by[WINS.argmax()]) > 0.5


@pytest.mark.parametrize("loss", ["orpo", "cpo", "apo-zero", "aot", "aot-unpaired"])
def test_losses_without_a_finite_optimum_put_the_pairs_in_order(loss: str) -> None:
    before, after = train(loss, {(0, 1): 1.0, (2, 3): 0.0, (4, 5): 1.0}, steps=40)
    moved = [float((after - before)[i] - (after - before)[j]) for i, j in APART]
    assert moved[0] > 0.5
    assert moved[1] < -0.5
    assert moved[2] > 0.5


def test_apo_down_lowers_both_and_the_worse_one_further() -> None:
    before, after = train("apo-down", {(0, 1): 1.0, (2, 3): 0.0, (4, 5): 1.0}, steps=40, beta=BETA)
    moved = after - before
    assert bool((moved[:4] < 0).all())
    assert moved[0] > moved[1]
    assert moved[3] > moved[2]
    assert moved[4] > moved[5]
