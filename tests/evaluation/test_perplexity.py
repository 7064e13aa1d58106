"""Perplexity: against the model's own logits, in windows, after prompts, and the tax over a baseline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from heedful.data.chat import render_completion
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.evaluation.perplexity import Document, Predicted, perplexity, predict, read_documents, tax
from heedful.models.policy import Policy, new_policy


@pytest.fixture(scope="module")
def policy() -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=0)


def by_hand(policy: Policy, ids: list[int], first: int) -> tuple[float, int]:
    """Summed nats of the tokens from `first` on that the policy may say, and how many they are."""
    with torch.no_grad():
        logits = policy.model(torch.tensor([ids])).logits[0].double()
    logits[:, list(policy.banned)] = -math.inf
    logs = logits.log_softmax(-1)
    asked = [t for t in range(first, len(ids)) if ids[t] not in policy.banned]
    return -sum(float(logs[t - 1, ids[t]]) for t in asked), len(asked)


def test_running_text_in_windows_and_answers_after_prompts(policy: Policy) -> None:
    text, prompt = "the sea is blue and the red bird sings to me", (Message("user", "hello"),)
    documents = [Document(None, text), Document(prompt, "good night"), Document(None, "why")]
    found = predict(policy, documents[:1], window=5)
    ids = list(policy.tokenizer(text)["input_ids"])
    parts = [by_hand(policy, ids[i : i + 5], 1) for i in range(0, len(ids), 5)]
    assert found.nats[0] == pytest.approx(sum(nats for nats, _ in parts), rel=1e-4)
    assert found.tokens[0] == sum(count for _, count in parts)
    whole = predict(policy, documents, batch=2)
    made = render_completion(policy.tokenizer, prompt, "good night")
    nats, count = by_hand(policy, made.tokens, made.mask.index(True))
    assert (whole.nats[1], whole.tokens[1]) == (pytest.approx(nats, rel=1e-4), count)
    assert whole.bytes.tolist() == [len(text), 10, 3]


def test_a_policy_that_knows_nothing_has_the_perplexity_of_its_vocabulary() -> None:
    policy = new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=0)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            parameter.zero_()
    sayable = policy.model.config.vocab_size - len(policy.banned)
    figures = perplexity(predict(policy, [Document(None, "the sea is blue"), Document(None, "hello")]))
    assert figures.perplexity.mean == pytest.approx(sayable, rel=1e-4)
    assert (figures.perplexity.low, figures.perplexity.high) == pytest.approx((sayable, sayable), rel=1e-4)


def predicted(nats: list[float], tokens: list[float], sizes: list[float]) -> Predicted:
    return Predicted(np.array(nats), np.array(tokens), np.array(sizes), 2)


def test_figures_by_hand() -> None:
    found = perplexity(predicted([10.0, 20.0], [5.0, 10.0], [30.0, 60.0]))
    assert found.perplexity.mean == pytest.approx(math.exp(2))
    assert found.bits_per_byte.mean == pytest.approx(1 / 3 / math.log(2))
    assert found.perplexity.low == pytest.approx(found.perplexity.high)
    assert (found.documents, found.tokens, found.skipped) == (2, 15, 2)
    worse = predicted([13.0, 20.0], [5.0, 10.0], [30.0, 60.0])
    cost = tax(worse, predicted([10.0, 20.0], [4.0, 9.0], [30.0, 60.0]))
    assert cost.mean == pytest.approx(3 / 90 / math.log(2))
    assert (cost.low, cost.high) == pytest.approx((0.0, 3 / 30 / math.log(2)))
    with pytest.raises(ValueError, match="other documents"):
        tax(worse, predicted([1.0], [1.0], [1.0]))
    with pytest.raises(HeedfulError, match="no token"):
        perplexity(predicted([0.0], [0.0], [3.0]))


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_text_and_answers_are_read(tmp_path: Path, policy: Policy) -> None:
    texts = write(tmp_path / "texts.jsonl", [{"text": "one two"}, {"text": " "}, {"text": "three"}])
    assert read_documents(texts) == [Document(None, "one two"), Document(None, "three")]
    assert read_documents(texts, limit=1) == [Document(None, "one two")]
    pairs = write(tmp_path / "pairs.jsonl", [{"prompt": "hi", "completion": "you"}])
    assert read_documents(pairs) == [Document((Message("user", "hi"),), "you")]
    with pytest.raises(HeedfulError, match="'text' is 3"):
        read_documents(write(tmp_path / "bad.jsonl", [{"text": "x"}, {"text": 3}]))
    with pytest.raises(HeedfulError, match="no text to predict"):
        predict(policy, [])
