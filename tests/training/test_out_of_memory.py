"""A device that runs out of memory in the middle of a step: the step begins again in halves, and nothing else differs.

There is no GPU here: the n-th pass through a trunk raises what torch raises, as long as it reads more than a limit.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import heedful.models.policy
import heedful.models.scalar
import heedful.models.shared_prefix
import heedful.training.answer_logprobs
from heedful.errors import HeedfulError
from heedful.training.folders import EVENTS
from heedful.training.state import LimitMicroBatch, TrainState, event_from_json, event_to_json
from stage_runs import config, run_stage, write_inputs, write_model

HOMES = (heedful.models.policy, heedful.models.scalar, heedful.training.answer_logprobs)
"""The modules that call `hidden_states`."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("oom")
    write_inputs(root / "inputs")
    write_model(root / "policy")
    write_model(root / "reward", kind="reward")
    return root


class Device:
    """Counts passes with gradient through the trunk; the n-th fails, and from then on all above `limit` tokens."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fail_at: int, limit: int) -> None:
        self.passes, self.failures = 0, 0
        for home in HOMES:
            monkeypatch.setattr(home, "hidden_states", self.guarded(home.hidden_states, fail_at, limit))
        for home in (heedful.models.policy, heedful.models.shared_prefix):
            together = self.guarded(home.continued_hidden_states, fail_at, limit)
            monkeypatch.setattr(home, "continued_hidden_states", together)

    def guarded(self, real: Callable[..., Any], fail_at: int, limit: int) -> Callable[..., Any]:
        def reading(model: Any, tokens: torch.Tensor, attention: torch.Tensor, *more: torch.Tensor) -> torch.Tensor:
            if torch.is_grad_enabled():
                self.passes += 1
                read = tokens.numel() + sum(answers.numel() for answers in more[:1])
                if self.passes >= fail_at and read > limit:
                    self.failures += 1
                    raise torch.OutOfMemoryError("CUDA out of memory (a test's)")
            return real(model, tokens, attention, *more)

        return reading


OFFLINE = ("sft", "reward", "dpo")


def settings(stage: str, made: Path, out: Path, tokens: int = 128, **over: Any) -> Any:
    """Several micro-batches to an optimiser step."""
    over = {"memory": {"micro_batch_tokens": tokens}, **over}
    if stage in OFFLINE:
        over = {"batch_size": 20, "epochs": 2.0, **over}
    else:
        prompts = 24 if stage == "ppo" else 8
        over = {"steps": 2, "update": {"epochs": 1, "minibatches": 1}, "rollout": {"prompts_per_step": prompts}, **over}
    return config(stage, made / "inputs", made / "policy", made / "reward", out, **over)


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "model.safetensors")


@pytest.mark.parametrize("stage", ["sft", "reward", "dpo", "ppo", "rloo", "online-dpo"])
def test_a_run_that_ran_out_of_memory_ends_as_one_that_never_did(
    stage: str, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_stage(stage, settings(stage, made, tmp_path / "whole"))
    device = Device(monkeypatch, fail_at=2, limit=64)
    run_stage(stage, settings(stage, made, tmp_path / "short"))
    assert device.failures
    for name, tensor in weights(tmp_path / "whole").items():
        torch.testing.assert_close(weights(tmp_path / "short")[name], tensor, rtol=1e-3, atol=2e-5)
    rows = [json.loads(line) for line in (tmp_path / "short" / EVENTS).read_text().splitlines()]
    assert [row["event"] for row in rows] == ["LimitMicroBatch"] * len(rows)
    assert rows[0]["tokens"] == 64
    assert whole["steps"] > rows[0]["step"] >= 0


def test_adapters_draw_the_dropout_that_a_run_with_small_micro_batches_draws(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"loading": {"lora_rank": 4, "lora_dropout": 0.3}}
    run_stage("sft", settings("sft", made, tmp_path / "small", 64, **over))
    device = Device(monkeypatch, fail_at=2, limit=64)  # within the first step, whose gradients are half gathered
    run_stage("sft", settings("sft", made, tmp_path / "short", 128, **over))
    assert device.failures == 1
    for name, tensor in weights(tmp_path / "small").items():
        assert torch.equal(weights(tmp_path / "short")[name], tensor), name


def test_a_run_that_goes_on_begins_the_step_with_the_halved_budget(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after memory ran out in step 4, with a checkpoint of step 2: step 3 goes as it was, step 4 in less."""
    over = {"batch_size": 8, "epochs": 2.0, "run": {"checkpoint_every": 2, "tensorboard": False}}
    whole = settings("sft", made, tmp_path / "cut", **over)
    seen: list[tuple[int, int]] = []
    real = TrainState.tokens

    def tokens(self: TrainState, memory: Any) -> int:
        seen.append((self.step + 1, real(self, memory)))
        return seen[-1][1]

    monkeypatch.setattr(TrainState, "tokens", tokens)
    step = TrainState.begin_step

    def die(self: TrainState) -> None:
        if self.step == 3:
            self.told(LimitMicroBatch(32))
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "begin_step", die)
        with pytest.raises(KeyboardInterrupt):
            run_stage("sft", whole)
    seen.clear()
    run_stage("sft", whole)
    assert seen[:3] == [(3, 128), (4, 32), (5, 32)]


def test_a_limit_right_after_a_checkpoint_is_not_lost(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    over = {"batch_size": 8, "epochs": 2.0, "run": {"checkpoint_every": 2, "tensorboard": False}}
    step, tokens = TrainState.begin_step, []

    def die(self: TrainState) -> None:
        if self.step == 2:
            self.told(LimitMicroBatch(32))
            raise KeyboardInterrupt
        step(self)

    with monkeypatch.context() as patch:
        patch.setattr(TrainState, "begin_step", die)
        with pytest.raises(KeyboardInterrupt):
            run_stage("sft", settings("sft", made, tmp_path / "cut", **over))

    def watch(self: TrainState) -> None:
        tokens.append(self.tokens(settings("sft", made, tmp_path / "cut").memory))
        step(self)

    monkeypatch.setattr(TrainState, "begin_step", watch)
    run_stage("sft", settings("sft", made, tmp_path / "cut", **over))
    assert tokens[0] == 32


def test_one_row_that_does_not_fit_ends_the_run_with_the_mend(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Device(monkeypatch, fail_at=1, limit=1)
    with pytest.raises(HeedfulError, match="gradient-checkpointing"):
        run_stage("sft", settings("sft", made, tmp_path / "run"))


def test_the_event_is_json_and_only_ever_lowers_the_limit() -> None:
    state = TrainState({}, {}, 0)
    for tokens in (64, 256):
        state.apply(event_from_json(json.loads(json.dumps(event_to_json(LimitMicroBatch(tokens))))))
    from heedful.training.config.common import MemoryConfig

    assert state.tokens(MemoryConfig()) == 64
    assert state.tokens(MemoryConfig(micro_batch_tokens=16)) == 16
