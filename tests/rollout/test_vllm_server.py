"""The client of a vLLM server against `fake_vllm`: what it asks, takes, and refuses with which words."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from fake_vllm import FakeVLLM, serving
from heedful.errors import HeedfulError
from heedful.models.policy import Policy
from heedful.rollout.types import RolloutParams
from heedful.rollout.vllm_server import Sampled, VLLMServer

PARAMS = RolloutParams(6, temperature=0.7, seed=11)


@pytest.fixture
def fake(make_policy: Callable[..., Policy]) -> Iterator[FakeVLLM]:
    with serving(make_policy()) as server:
        yield server


def ask(fake: FakeVLLM, prompts: list[list[int]], **over: Any) -> list[list[Sampled]]:
    given: dict[str, Any] = {
        "samples": 3,
        "at_once": None,
        "first": 0,
        "eos": fake.policy.eos,
        "banned": fake.policy.banned,
        "version": "default",
    }
    params = over.pop("params", PARAMS)
    model = over.pop("model", "served")
    return VLLMServer(fake.url, 20.0).sample(model, prompts, params, **given | over)


def test_it_reads_what_the_server_is(fake: FakeVLLM) -> None:
    facts = VLLMServer(fake.url + "/", 20.0).facts()
    assert (facts.model, facts.window, facts.backend, facts.workers) == ("served", 512, "nccl", 1)


def test_completions_bear_the_policys_own_log_probabilities(fake: FakeVLLM, prompts: list[list[int]]) -> None:
    found = ask(fake, prompts)
    assert [len(samples) for samples in found] == [3] * len(prompts)
    for prompt, samples in zip(prompts, found, strict=True):
        for one in samples:
            row = torch.tensor([[*prompt, *one.tokens]])
            mask = torch.zeros_like(row, dtype=torch.bool)
            mask[0, len(prompt) :] = True
            whole = torch.ones_like(mask)
            own, _ = fake.policy.token_logprobs(row, whole, mask, temperature=0.7)
            assert torch.allclose(own[mask], torch.tensor(one.logprobs), atol=1e-4)
            assert one.finished == (one.tokens[-1] in fake.policy.eos)
    assert len({tuple(one.tokens) for samples in found for one in samples}) > 12  # not all rows draw alike


def test_samples_follow_from_the_seed_and_the_row(fake: FakeVLLM, prompts: list[list[int]]) -> None:
    prompts = prompts[:3]
    whole = ask(fake, prompts)
    assert ask(fake, prompts, at_once=1) == whole
    assert ask(fake, prompts[2:], first=2) == whole[2:]  # a worker's share
    assert ask(fake, prompts[:1], params=RolloutParams(6, temperature=0.7, seed=12)) != whole[:1]
    alike = ask(fake, [prompts[0]] * 4)
    assert len({tuple(tuple(one.tokens) for one in samples) for samples in alike}) > 1


def test_a_notebook_whose_loop_runs_already_may_ask(fake: FakeVLLM, prompts: list[list[int]]) -> None:
    async def cell() -> Any:
        return ask(fake, prompts[:1])

    with ThreadPoolExecutor() as pool:  # in this thread the loop of a browser's tests may run
        assert pool.submit(asyncio.run, cell()).result() == ask(fake, prompts[:1])


def spoil(change: Callable[[dict[str, Any]], None]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def wrong(answer: dict[str, Any]) -> dict[str, Any]:
        change(answer["choices"][0])
        return answer

    return wrong


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: c.update(weight_versions=None), "'none' where 'default'"),
        (lambda c: c["weight_versions"].append({"version": "other", "start": 1, "end": 2}), "'default, other'"),
        (lambda c: c.update(token_ids=None), "no tokens with their log-probabilities"),
        (lambda c: c["logprobs"]["token_logprobs"].pop(), "no tokens with their log-probabilities"),
        (lambda c: c.update(finish_reason="abort"), "'abort'"),
        (lambda c: c.update(finish_reason="length", token_ids=[9], logprobs={"token_logprobs": [-1.0]}), "1 of 6"),
        (lambda c: c.update(token_ids=[0], logprobs={"token_logprobs": [-1.0]}, finish_reason="stop"), "tokens"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_is_refused(change: Any, words: str, fake: FakeVLLM) -> None:
    fake.wrong = spoil(change)
    assert 0 in fake.policy.banned
    with pytest.raises(HeedfulError, match=words):
        ask(fake, [[9, 10]])


def test_a_number_of_completions_that_was_not_asked_for_is_refused(fake: FakeVLLM) -> None:
    fake.wrong = lambda answer: answer | {"choices": answer["choices"][:2]}
    with pytest.raises(HeedfulError, match="3 completions were asked for, and 2"):
        ask(fake, [[9, 10]])


def test_what_the_server_says_of_a_refusal_is_handed_on(fake: FakeVLLM) -> None:
    with pytest.raises(HeedfulError, match=r"answered 404: The model `other` does not exist"):
        ask(fake, [[9, 10]], model="other")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"model_config": {"logprobs_mode": "raw_logprobs"}}, "logprobs_mode is raw_logprobs"),
        ({"weight_transfer_config": None}, "not started to take weights"),
    ],
)
def test_a_server_that_was_started_otherwise_is_refused(settings: dict[str, Any], words: str, fake: FakeVLLM) -> None:
    fake.settings |= settings
    with pytest.raises(HeedfulError, match=words) as caught:
        VLLMServer(fake.url, 20.0).facts()
    assert "vllm serve" in str(caught.value)


def test_a_server_without_the_routes_is_refused(fake: FakeVLLM) -> None:
    fake.missing = {"/server_info"}
    with pytest.raises(HeedfulError, match="VLLM_SERVER_DEV_MODE=1"):
        VLLMServer(fake.url, 20.0).facts()


def test_no_server_and_a_silent_one(fake: FakeVLLM) -> None:
    with pytest.raises(HeedfulError, match="there is no vLLM server"):
        VLLMServer("http://127.0.0.1:9", 20.0).facts()
    fake.free = 0
    server = VLLMServer(fake.url, 0.2)
    with pytest.raises(HeedfulError, match=r"did not answer within 0\.2 seconds"):
        server.sample(
            "served",
            [[9, 10]] * 4,
            PARAMS,
            samples=1,
            at_once=None,
            first=0,
            eos=fake.policy.eos,
            banned=fake.policy.banned,
            version="default",
        )
