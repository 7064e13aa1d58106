"""Rollouts from a server, against `fake_vllm`: weights before samples, a batch ahead, and whose samples they are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from fake_vllm import FakeVLLM, connecting, serving
from heedful.data.records import Message, Prompt
from heedful.errors import HeedfulError
from heedful.models.policy import Policy, new_policy, reference_of
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import GRPOConfig
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.config.server import VLLMConfig
from heedful.training.config.updates import GRPOUpdateConfig
from heedful.training.experience import logprobs_of
from heedful.training.grpo import grpo, grpo_state
from heedful.training.rollouts import OnlineModels, Questions, sample
from heedful.training.served import RolloutServer
from heedful.training.state import TrainState
from heedful.training.workers import Workers, working

PROMPTS = [Prompt((Message("user", word),)) for word in ("red", "blue", "green", "what", "please")]


@pytest.fixture
def fake() -> Iterator[FakeVLLM]:
    """A server that was started with other weights than the run's."""
    with serving(new(seed=9)) as server:
        yield server


def new(seed: int = 1) -> Policy:
    return new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=seed)


def settings(fake: FakeVLLM, **vllm: Any) -> GRPOConfig:
    given = VLLMConfig(url=fake.url, **({"patience": 20.0} | vllm))
    return GRPOConfig(
        model="",
        reward="",
        data="",
        out=Path(),
        steps=4,
        optimiser=OptimiserConfig(learning_rate=3e-3, schedule="constant", warmup=0.0),
        rollout=RolloutConfig(2, 3, max_new_tokens=5, engine="vllm", vllm=given),
    )


def parts(fake: FakeVLLM, config: GRPOConfig, step: int = 0) -> tuple[TrainState, OnlineModels]:
    policy = new()
    server = RolloutServer(config.rollout.vllm, policy, config.steps, connecting(fake))
    models = OnlineModels(policy, reference_of(policy), lambda a, t: [float(len(x)) for x in t], server=server)
    state = grpo_state(models, config)
    state.step = step
    return state, models


def order(fake: FakeVLLM, run: str) -> list[str]:
    """What came to the server: W3 the weights of step 3, S3 a request for samples of them."""
    told = []
    for call in fake.calls:
        if call == "/finish_weight_update":
            told.append(f"W{len([one for one in told if one[0] == 'W'])}")
        if call.startswith("sample"):
            name = call.removeprefix(f"sample {run}-")
            told.append(f"S{name}")
    return told


def test_each_step_samples_with_its_own_weights(fake: FakeVLLM) -> None:
    config = settings(fake)
    state, models = parts(fake, config)
    steps = [step.metrics for step in grpo(state, models, PROMPTS, config)]
    assert models.server is not None
    assert order(fake, models.server.run) == ["W0", "S0", "S0", "W1", "S1", "S1", "W2", "S2", "S2", "W3", "S3", "S3"]
    for told in steps:
        assert told["sampler_lag"] == 0
        assert 0 <= told["sampler_kl"] < 1e-6
        assert told["sampler_ratio"] == pytest.approx(1, abs=1e-4)
        assert told["logprob_mismatch"] < 1e-3
        assert told["first_ratio"] == pytest.approx(1, abs=1e-5)
        assert told["sync_seconds"] > 0
        assert told["rollout_seconds"] > 0
    served, start, end = (one.model.lm_head.weight for one in (fake.policy, models.reference, models.policy))
    assert not torch.equal(served, start)  # the server's weights moved with the policy's
    assert not torch.equal(served, end)  # which learnt once more
    fake.calls.clear()
    models.server.close()
    assert fake.calls == ["/shutdown_weight_transfer_engine"]


def test_a_batch_ahead_is_of_the_weights_of_one_step_before(fake: FakeVLLM) -> None:
    config = settings(fake, overlap=True)
    state, models = parts(fake, config)
    assert models.server is not None
    snapshots: list[Policy] = []
    questions = Questions(models.policy, PROMPTS)
    for step in range(3):
        snapshots.append(reference_of(models.policy))
        batch = sample(state, models, questions, config.rollout, ScoreConfig())
        made_by = snapshots[max(0, step - 1)]
        own = logprobs_of(made_by, batch.rollout, 1.0, 512)
        assert torch.allclose(own, batch.rollout.logprobs, atol=1e-4)
        told = models.server.figures(batch.rollout, logprobs_of(models.policy, batch.rollout, 1.0, 512))
        assert told["sampler_lag"] == min(step, 1)
        assert (told["sampler_kl"] > 1e-4) == (step > 0)
        with torch.no_grad():
            for weight in models.policy.model.parameters():
                weight.mul_(1.05)
        state.step += 1


def test_the_order_with_a_batch_ahead_and_nothing_beyond_the_last_step(fake: FakeVLLM) -> None:
    config = settings(fake, overlap=True)
    state, models = parts(fake, config)
    steps = [step.metrics for step in grpo(state, models, PROMPTS, config)]
    assert models.server is not None
    assert order(fake, models.server.run) == [
        *("W0", "S0", "S0", "S0", "S0"),  # the first batch, and the second by the same weights
        *("W1", "S1", "S1"),  # the third, while the second is learnt from
        *("W2", "S2", "S2"),
        "W3",  # what might be drawn anew in the last step
    ]
    assert [told["sampler_lag"] for told in steps] == [0, 1, 1, 1]
    assert steps[1]["sampler_kl"] > 1e-7


def test_sampling_goes_on_while_the_trainer_learns(fake: FakeVLLM) -> None:
    """The server holds the second batch back: the first step ends all the same, and the second waits for it."""
    config = settings(fake, overlap=True)
    state, models = parts(fake, config)
    fake.free = config.rollout.prompts_per_step
    steps = grpo(state, models, PROMPTS, config)
    assert next(steps).number == 1
    assert models.server is not None
    (begun,) = models.server._ahead.values()
    assert not begun.done()
    threading.Timer(0.2, fake.gate.set).start()
    assert next(steps).metrics["sampler_lag"] == 1
    assert begun.done()


def test_a_run_that_goes_on_sends_its_weights_first(fake: FakeVLLM) -> None:
    for overlap in (False, True):
        fake.calls.clear()
        config = settings(fake, overlap=overlap)
        state, models = parts(fake, config, step=3)
        (told,) = [step.metrics for step in grpo(state, models, PROMPTS, config)]
        assert models.server is not None
        assert order(fake, models.server.run) == ["W0", "S3", "S3"]
        assert told["sampler_lag"] == 0  # of its own weights, also where a run that was not stopped is a step off


@pytest.mark.slow
def test_resampled_prompts_are_of_the_weights_as_they_stand(fake: FakeVLLM) -> None:
    config = replace(settings(fake, overlap=True), update=GRPOUpdateConfig(form="dapo", resample_rounds=1), steps=2)
    state, models = parts(fake, config)
    models = replace(models, reward=lambda asked, texts: [0.0] * len(texts))  # all alike, so that all are replaced
    steps = [step.metrics for step in grpo(state, models, PROMPTS, config)]
    assert [told["resampled_groups"] for told in steps] == [2, 2]
    assert models.server is not None
    assert sorted(order(fake, models.server.run)) == ["S0"] * 6 + ["S1"] * 2 + ["W0", "W1"]


def test_a_server_that_was_started_anew_is_told_of(fake: FakeVLLM) -> None:
    config = settings(fake)
    state, models = parts(fake, config)
    steps = grpo(state, models, PROMPTS, config)
    next(steps)
    finish = fake.answer

    def forget(how: str, path: str, body: dict[str, Any]) -> Any:
        told = finish(how, path, body)
        if path == "/resume":
            fake.version = "default"
        return told

    fake.answer = forget  # type: ignore[method-assign]
    with pytest.raises(HeedfulError, match=r"weights 'default' where '[0-9a-f]+-1' were sent: it was started anew"):
        next(steps)


@pytest.mark.parametrize("overlap", [False, True])
def test_a_server_that_dies_is_told_of(overlap: bool, fake: FakeVLLM) -> None:
    config = settings(fake, overlap=overlap)
    state, models = parts(fake, config)
    steps = grpo(state, models, PROMPTS, config)
    next(steps)
    assert models.server is not None
    if overlap:
        next(iter(models.server._ahead.values())).result(20)
    fake.shutdown()
    fake.server_close()
    with pytest.raises(HeedfulError, match="there is no vLLM server") as caught:
        for _ in steps:
            pass
    assert "goes on from the last checkpoint" in str(caught.value)


def test_a_server_with_another_distribution_ends_the_run(fake: FakeVLLM) -> None:
    fake.shift = 2.0
    config = settings(fake)
    state, models = parts(fake, config)
    with pytest.raises(HeedfulError, match=r"nats per token off the policy.*more than 0\.5"):
        next(grpo(state, models, PROMPTS, config))
    assert state.scalars["updates"] == 0


def test_a_prompt_that_the_server_has_no_room_for(fake: FakeVLLM) -> None:
    fake.window = 6
    config = settings(fake)
    state, models = parts(fake, config)
    with pytest.raises(HeedfulError, match=r"started for 6.*--max-model-len"):
        next(grpo(state, models, PROMPTS, config))


def test_weights_correct_what_the_sampler_says(fake: FakeVLLM) -> None:
    """A sampler that says e^-0.5 as much of every token: each weight is e^0.5, and so is the loss's share of them."""
    fake.shift = -0.5
    told = {}
    for cap in (0.0, 5.0, 1.25):
        config = replace(settings(fake, cap=cap), kl=replace(settings(fake).kl, coefficient=0.0), steps=1)
        state, models = parts(fake, config)
        (told[cap],) = [step.metrics for step in grpo(state, models, PROMPTS, config)]
    plain, whole, cut = (told[cap]["policy_gradient_norm"] for cap in (0.0, 5.0, 1.25))
    assert plain > 0
    assert whole == pytest.approx(plain * 1.6487, rel=1e-3)
    assert cut == pytest.approx(plain * 1.25, rel=1e-3)
    assert (told[0.0]["sampler_capped"], told[5.0]["sampler_capped"], told[1.25]["sampler_capped"]) == (0, 0, 1)
    assert told[5.0]["sampler_ratio"] == pytest.approx(1.6487, rel=1e-3)


class Team(Workers):
    """One of two workers, alone: what the leader did is handed to the other as it was."""

    def __init__(self, rank: int, done: list[Any]) -> None:
        super().__init__(rank, 2, group=None)
        self.done = done

    def led(self, work: Any) -> Any:
        if self.leads:
            self.done.append(work())
            return self.done[-1]
        return self.done.pop(0)

    def gathered(self, value: Any) -> list[Any]:
        return [value]


def test_workers_ask_for_their_own_shares_and_the_leader_alone_sends_weights(fake: FakeVLLM) -> None:
    """The shares of two are the batch of one, with the same random numbers, by the weights that the leader sent."""
    config = settings(fake, overlap=True)
    config = replace(config, rollout=replace(config.rollout, prompts_per_step=3), steps=2)
    parted: list[list[Any]] = []
    done: list[Any] = []
    for rank in (0, 1):
        fake.calls.clear()
        with working(Team(rank, done)):
            state, models = parts(fake, config)
            questions = Questions(models.policy, PROMPTS)
            batches = []
            for step in range(2):
                state.step = step
                batches.append(sample(state, models, questions, config.rollout, ScoreConfig()).texts)
            assert models.server is not None
            assert fake.calls.count("/finish_weight_update") == (2 if rank == 0 else 0)
            shares = {0: 1, 1: 2}[rank]  # of three prompts
            assert len([call for call in fake.calls if call.startswith("sample")]) == 2 * shares
        fake.version = models.server.version(0)  # of equal weights, as nothing is learnt here
        parted.append(batches)
    state, models = parts(fake, config)
    questions = Questions(models.policy, PROMPTS)
    whole = [sample(state, models, questions, config.rollout, ScoreConfig()).texts]
    assert parted[0][0] + parted[1][0] == whole[0]


def test_settings_of_a_server_without_one() -> None:
    with pytest.raises(HeedfulError, match="samples where the policy learns"):
        RolloutConfig(vllm=VLLMConfig(overlap=True))
    with pytest.raises(HeedfulError, match="built-in engine samples"):
        RolloutConfig(vllm=VLLMConfig(cap=3.0))
    for wrong in ({"cap": -1.0}, {"max_kl": 0.0}, {"patience": 0.0}, {"url": "localhost:8000"}):
        with pytest.raises(HeedfulError, match=r"rollout\.vllm\."):
            VLLMConfig(**wrong)
