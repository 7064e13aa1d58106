"""Against TRL 1.12, the last TRL with PPO: HEEDFUL_ORACLE_PYTHON names an interpreter that has it.

python -m venv oracle && oracle/bin/pip install trl==1.12.0
HEEDFUL_ORACLE_PYTHON=oracle/bin/python pytest -m oracle
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heedful.core.advantages import gae, masked_mean, shape_rewards, whiten
from heedful.core.kl import k1
from heedful.core.logprob import linear_logprob
from heedful.core.losses import bradley_terry_loss, dpo_loss
from heedful.core.policy_gradient import clipped_policy_loss, clipped_value_loss

ORACLE = os.environ.get("HEEDFUL_ORACLE_PYTHON", "")
pytestmark = [
    pytest.mark.oracle,
    pytest.mark.skipif(not ORACLE, reason="HEEDFUL_ORACLE_PYTHON names no interpreter with trl==1.12.0"),
]


class Oracle:
    """One process of TRL's interpreter for all tests: importing TRL takes longer than all its answers."""

    def __init__(self) -> None:
        script = str(Path(__file__).with_name("oracle_trl.py"))
        self.process = subprocess.Popen([ORACLE, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, what: str, **given: Any) -> dict[str, Any]:
        plain = {name: x.tolist() if isinstance(x, Tensor) else x for name, x in given.items()}
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(json.dumps({"what": what, "given": plain}), file=self.process.stdin, flush=True)
        for line in self.process.stdout:
            if line.startswith("answer "):
                return json.loads(line.removeprefix("answer "))
        raise AssertionError("the oracle died; its last words stand on standard error")


@pytest.fixture(scope="module")
def ask() -> Iterator[Oracle]:
    oracle = Oracle()
    yield oracle
    oracle.process.communicate()


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(ours: Tensor, theirs: Any) -> bool:
    return torch.allclose(ours.detach(), torch.tensor(theirs, dtype=torch.float64), rtol=1e-9, atol=1e-12)


def test_dpo_from_logits_to_gradient(ask: Oracle) -> None:
    pairs, length, vocabulary = 3, 6, 5
    logits, reference = (draw(2 * pairs, length, vocabulary, seed=s) for s in (0, 1))
    tokens = torch.randint(vocabulary, (2 * pairs, length), generator=torch.Generator().manual_seed(2))
    prompt, ends = torch.tensor([1, 2, 3, 1, 2, 3]), torch.tensor([6, 4, 5, 3, 6, 4])
    place = torch.arange(length)
    mask = (place >= prompt[:, None]) & (place < ends[:, None])

    def sums(all_logits: Tensor) -> tuple[Tensor, Tensor]:
        flat = mask[:, 1:]
        hidden = all_logits[:, :-1][flat]
        logprobs, entropy = linear_logprob(
            hidden, torch.eye(vocabulary, dtype=torch.float64), tokens[:, 1:][flat], chunk=4
        )
        rows = torch.zeros(flat.shape, dtype=torch.float64).masked_scatter(flat, logprobs)
        return rows.sum(1), entropy

    logits.requires_grad_()
    (policy, entropy), (base, _) = sums(logits), sums(reference)
    loss = dpo_loss(*policy.chunk(2), *base.chunk(2), beta=0.3).mean()
    loss.backward()
    theirs = ask("dpo", logits=logits, reference_logits=reference, tokens=tokens, mask=mask, beta=0.3)
    assert close(loss, theirs["loss"])
    assert close(logits.grad, theirs["gradient"])
    assert close(entropy.mean(), theirs["entropy"])


@pytest.mark.parametrize(("margin", "centering"), [(False, 0.0), (True, 0.0), (False, 0.01), (True, 0.5)])
def test_reward_loss(margin: bool, centering: float, ask: Oracle) -> None:
    scores, gap = draw(8, seed=3).requires_grad_(), draw(4, seed=4).abs() if margin else None
    loss = bradley_terry_loss(*scores.chunk(2), margin=gap, centering=centering).mean()
    loss.backward()
    theirs = ask("reward", scores=scores, margin=gap, centering=centering or None)
    assert close(loss, theirs["loss"])
    assert close(scores.grad, theirs["gradient"])


@pytest.mark.parametrize("whiten_rewards", [False, True])
def test_ppo_rewards_advantages_and_returns(whiten_rewards: bool, ask: Oracle) -> None:
    """TRL puts the score one slot after the last token unless the window is full; so do we for this test."""
    logprobs, reference, values = (draw(4, 6, seed=s) for s in (5, 6, 7))
    scores, last = draw(4, seed=8), torch.tensor([5, 3, 1, 4])
    place = torch.arange(6)
    mask, longer = place <= last[:, None], place <= last[:, None] + 1
    penalty = torch.where(mask, 0.07 * k1(logprobs, reference), 0.0)
    rewards = shape_rewards(scores, penalty, longer)
    if whiten_rewards:
        rewards = whiten(rewards, longer, shift_mean=False)
    advantages, returns = gae(rewards, values, longer, gamma=0.97, lam=0.9)
    theirs = ask(
        "ppo_advantages",
        logprobs=logprobs,
        ref_logprobs=reference,
        values=values,
        scores=scores,
        last=last,
        coefficient=0.07,
        gamma=0.97,
        lam=0.9,
        whiten_rewards=whiten_rewards,
    )
    assert close(rewards, theirs["rewards"])
    assert close(whiten(advantages, mask, shift_mean=True), theirs["advantages"])
    assert close(returns, theirs["returns"])


def test_ppo_losses(ask: Oracle) -> None:
    old, advantages, old_values, returns = (draw(4, 6, seed=s) for s in (9, 10, 11, 12))
    logprobs = (old + 0.4 * draw(4, 6, seed=13)).requires_grad_()
    values = (old_values + 0.4 * draw(4, 6, seed=14)).requires_grad_()
    mask = torch.arange(6) < torch.tensor([6, 3, 1, 5])[:, None]
    policy = clipped_policy_loss(logprobs, old, advantages, mask, clip=0.2)
    policy_loss = masked_mean(policy.per_token, mask)
    value_loss = masked_mean(clipped_value_loss(values, old_values, returns, mask, clip=0.2), mask)
    (policy_loss + value_loss).backward()
    theirs = ask(
        "ppo_losses",
        logprobs=logprobs,
        values=values,
        old_logprobs=old,
        old_values=old_values,
        returns=returns,
        advantages=advantages,
        mask=mask,
        clip=0.2,
    )
    assert 0 < policy.clipped.sum() < mask.sum()
    assert policy.clipped.tolist() == theirs["clipped"]
    assert close(policy_loss, theirs["policy"])
    assert close(value_loss, theirs["value"])
    assert close(logprobs.grad, theirs["policy_gradient"])
    assert close(values.grad, theirs["value_gradient"])
