"""Every online stage on a server that samples (`fake_vllm`): what it leaves, how it goes on, and what it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from architectures import tiny_architectures, tiny_tokenizer
from fake_vllm import FakeVLLM, connecting, serving
from heedful.errors import HeedfulError
from heedful.models.policy import load_policy, new_policy
from heedful.rollout import vllm_weights
from heedful.training.run import Watch
from heedful.training.state import Event, Step
from stage_runs import config, metrics, said, write_inputs, write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, a policy and a reward model."""
    folder = tmp_path_factory.mktemp("served")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    write_model(folder / "reward", kind="reward")
    return folder


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeVLLM]:
    """A server, and a way of the weights to it."""
    with serving(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=9)) as server:
        monkeypatch.setattr(vllm_weights, "connect", connecting(server))
        yield server


def settings(stage: str, made: Path, out: Path, fake: FakeVLLM, vllm: dict[str, Any] | None = None, **over: Any) -> Any:
    rollout = {"prompts_per_step": 6, "max_new_tokens": 6}
    if stage not in ("ppo", "reinforce"):
        rollout = {"prompts_per_step": 2, "samples_per_prompt": 3, "max_new_tokens": 6}
    served = {"engine": "vllm", "vllm": {"url": fake.url, "patience": 20.0, **(vllm or {})}}
    update = {"epochs": 1, "minibatches": 1}
    given = {"steps": 2, "rollout": rollout | served, "update": update, "score": {"normalise": "none"}} | over
    return config(stage, made / "inputs", made / "policy", made / "reward", out, **given)


CASES = [
    ("ppo", {"critic": "shared"}),
    ("grpo", {"loading": {"lora_rank": 2, "lora_alpha": 4.0}}),
    pytest.param("rloo", {}, marks=pytest.mark.slow),
    pytest.param("reinforce", {}, marks=pytest.mark.slow),
    pytest.param("raft", {}, marks=pytest.mark.slow),
    pytest.param("online-dpo", {}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("stage", "over"), CASES)
def test_a_stage_learns_from_what_the_server_samples(
    stage: str, over: dict[str, Any], made: Path, tmp_path: Path, fake: FakeVLLM
) -> None:
    told = said(stage, settings(stage, made, tmp_path / "run", fake, **over))
    assert "has not been exercised on a GPU yet" in told
    rows = metrics(tmp_path / "run")
    assert len(rows) == 2
    for row in rows:
        assert 0 <= row["sampler_kl"] < 1e-6  # each batch by the weights that the step begins with
        assert row["sampler_lag"] == 0
        assert row["logprob_mismatch"] < 1e-3
    calls = [call for call in fake.calls if not call.startswith("sample")]
    assert calls.count("/finish_weight_update") == 2
    assert calls[-1] == "/shutdown_weight_transfer_engine"
    trained = load_policy(tmp_path / "run").model.state_dict()
    start = load_policy(made / "policy").model.state_dict()
    assert any(not torch.equal(trained[name], start[name]) for name in start)


class KilledError(Exception):
    """In place of a kill."""


def stopping(at: int) -> Any:
    def intervene(step: Step) -> list[Event]:
        if step.number == at:
            raise KilledError
        return []

    return lambda models: Watch(intervene=intervene)


def test_a_run_that_goes_on_sends_its_checkpoints_weights_before_it_samples(
    made: Path, tmp_path: Path, fake: FakeVLLM
) -> None:
    given = settings("rloo", made, tmp_path / "run", fake, {"overlap": True}, steps=4)
    with pytest.raises(KilledError):
        said("rloo", given, watch=stopping(3))
    fake.calls.clear()
    with serving(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=7)) as other:  # on another port
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(vllm_weights, "connect", connecting(other))
            moved = settings("rloo", made, tmp_path / "run", other, {"overlap": True}, steps=4)
            assert "going on from step 2" in said("rloo", moved)
        sent = [call.partition("-")[0] if call.startswith("sample") else call for call in other.calls]
        assert sent.index("/finish_weight_update") < next(i for i, call in enumerate(sent) if call.startswith("sample"))
    assert [row["sampler_lag"] for row in metrics(tmp_path / "run")] == [0, 1, 0, 1]


def test_a_server_that_is_not_there_leaves_no_trace(made: Path, tmp_path: Path, fake: FakeVLLM) -> None:
    given = settings("rloo", made, tmp_path / "run", fake, {"url": "http://127.0.0.1:9"})
    with pytest.raises(HeedfulError, match="there is no vLLM server"):
        said("rloo", given)
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("*.*"))


def test_without_a_gpu_the_way_of_the_weights_is_refused(
    made: Path, tmp_path: Path, fake: FakeVLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    with pytest.raises(HeedfulError, match="from GPU to GPU, and the policy is on none"):
        said("rloo", settings("rloo", made, tmp_path / "run", fake))
