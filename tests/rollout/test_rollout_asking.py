"""A policy as an asker: its replies are its own, and so are the log-probabilities."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import render_prompt
from heedful.data.records import Message
from heedful.feedback.ai.asks import Failure, Reply, ask_of
from heedful.feedback.ai.ledger import Ledger
from heedful.models.policy import Policy, new_policy
from heedful.rollout.asking import PolicyAsker


@pytest.fixture(scope="module", params=["llama", "gemma3"])
def policy(request: pytest.FixtureRequest) -> Policy:
    return new_policy(tiny_architectures()[request.param] | {"initializer_range": 0.3}, tiny_tokenizer(), seed=3)


def test_first_token_logprobs_are_the_models_own(policy: Policy) -> None:
    asks = [ask_of([("user", words)], 1, top_logprobs=64) for words in ("what", "red please what", "no")]
    found = dict(PolicyAsker(policy, "tiny", batch=2).ask(asks))
    for number, words in enumerate(("what", "red please what", "no")):
        reply = found[number]
        assert isinstance(reply, Reply)
        tokens = render_prompt(policy.tokenizer, (Message("user", words),))
        with torch.no_grad():
            logits = policy.model(torch.tensor([tokens])).logits[0, -1].double()
        logits[list(policy.banned)] = -math.inf
        own = logits.log_softmax(-1)
        if not reply.tokens:  # it ended its turn at once
            assert int(own.argmax()) in policy.eos
            continue
        assert sum(math.exp(value) for value in reply.logprobs[0].values()) == pytest.approx(1, abs=1e-5)
        for token, value in reply.logprobs[0].items():
            assert value == pytest.approx(float(own[policy.tokenizer.convert_tokens_to_ids(token)]), abs=1e-4)
        assert reply.tokens[0] == max(reply.logprobs[0], key=lambda token: reply.logprobs[0][token])


def test_alternatives_agree_with_the_log_probability_of_what_is_said(policy: Policy) -> None:
    tokens = torch.tensor([[1, 5, 6, 7, 8], [1, 9, 10, 0, 0]])
    attention = tokens > 0
    mask = attention.clone()
    mask[:, :2] = False
    values, ids = policy.alternatives(tokens, attention, mask, 64)
    with torch.no_grad():
        said, _ = policy.token_logprobs(tokens, attention, mask)
    assert values.shape == (4, 64)
    for row, (token, value) in enumerate(zip(tokens[mask].tolist(), said[mask].tolist(), strict=True)):
        assert float(values[row][ids[row] == token]) == pytest.approx(value, abs=1e-5)


def test_a_ledger_spares_the_second_run_and_draws_differ(policy: Policy, tmp_path: Path) -> None:
    asks = [ask_of([("user", "what")], 8, temperature=1.0, draw=draw) for draw in range(6)]
    ledger = Ledger(tmp_path / "l")
    first = dict(PolicyAsker(policy, "tiny", ledger=ledger).ask(asks))
    again = dict(PolicyAsker(policy, "tiny", ledger=ledger).ask(asks))
    assert [again[n].text for n in range(6)] == [first[n].text for n in range(6)]  # type: ignore[union-attr]
    assert all(reply.cached for reply in again.values() if isinstance(reply, Reply))
    assert len({reply.text for reply in first.values() if isinstance(reply, Reply)}) > 1
    other = dict(PolicyAsker(policy, "retrained", ledger=ledger).ask(asks[:1]))
    assert not other[0].cached  # type: ignore[union-attr]
    ledger.close()


def test_what_the_window_does_not_hold_is_a_failure(policy: Policy) -> None:
    asks = [ask_of([("user", "what " * 500)], 8), ask_of([("user", "what")], 8)]
    found = dict(PolicyAsker(policy, "tiny").ask(asks))
    assert isinstance(found[0], Failure)
    assert "window" in found[0].detail
    assert isinstance(found[1], Reply)
