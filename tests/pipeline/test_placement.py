"""What does not go with reward models in processes of their own is refused before a run begins. Ray is not needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.pipeline.ray_scorers import Scorer
from heedful.training.config.launch import LaunchConfig
from stage_runs import config, run_stage, write_inputs, write_model
from worker_processes import curve

SCORERS: dict[str, Any] = {"launch": {"launcher": "ray", "workers": 1, "scorers": 1}}


@pytest.mark.parametrize(
    ("stage", "where", "over"),
    [
        ("ppo", r"loading\.lora_rank", {"loading": {"lora_rank": 2}}),
        ("ppo", r"watch\.latent_samples", {"watch": {"mode": "warn", "latent_samples": 40}}),
        ("dpo", r"launch\.scorers", {}),
    ],
)
def test_what_scorers_cannot_do_is_refused(stage: str, where: str, over: dict[str, Any], tmp_path: Path) -> None:
    made = config(stage, tmp_path, tmp_path / "model", tmp_path / "reward", tmp_path / "out", **SCORERS, **over)
    with pytest.raises(HeedfulError, match=rf"^{where}: "):
        run_stage(stage, made)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("reward", ["mean:runs/a,rewards:brevity", "unit-tests:tests.jsonl"])
def test_functions_stay_with_the_workers(reward: str, tmp_path: Path) -> None:
    made = config("grpo", tmp_path, tmp_path / "model", Path(reward), tmp_path / "out", **SCORERS)
    with pytest.raises(HeedfulError, match=r"^reward: scorers hold models"):
        run_stage("grpo", made)


def test_a_run_in_one_process_has_nobody_to_ask() -> None:
    from heedful.pipeline.ray_scorers import remote_reward

    made = config("ppo", Path("in"), Path("model"), Path("reward"), Path("out"), **SCORERS)
    with pytest.raises(HeedfulError, match=r"^launch\.scorers: nothing has started the scorers"):
        remote_reward(made, "float32")


def test_a_cluster_that_is_gone_is_told_from_workers_that_died() -> None:
    from heedful.pipeline.ray_train import _gave_up

    launch = LaunchConfig(launcher="ray", workers=2, address="10.0.0.1:6379")
    gone = "The actor 218e is temporarily unavailable: RpcError: RPC error: Socket closed rpc_code: 14."
    assert str(_gave_up(RuntimeError(gone), launch)).startswith("launch.address: the Ray cluster does not answer")
    died = _gave_up(RuntimeError("Training failed.\nA worker exited with code -9."), launch)
    assert str(died).startswith("launch: the workers ended before they were through, and were started again 3 times")


class Near:
    """A reward that a scorer of this process gives: what `RemoteReward` is, without a cluster on the way."""

    def __init__(self, name: str) -> None:
        self.name, self.scorer = name, Scorer()

    def __call__(self, prompts: Any, completions: Any) -> Any:
        return self.measured(prompts, completions)[0]

    def measured(self, prompts: Any, completions: Any) -> Any:
        return self.scorer.score(self.name, "float32", prompts, completions)


@pytest.mark.parametrize("stage", ["ppo", pytest.param("grpo", marks=pytest.mark.slow)])
def test_a_run_learns_the_same_from_a_scorer(stage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_inputs(tmp_path / "inputs")
    write_model(tmp_path / "model")
    write_model(tmp_path / "reward", kind="reward")
    made = [tmp_path / "inputs", tmp_path / "model", tmp_path / "reward"]
    run_stage(stage, config(stage, *made, tmp_path / "plain", steps=3))
    asked: list[Near] = []

    def near(settings: Any, precision: str) -> Near:
        asked.append(Near(settings.reward))
        return asked[-1]

    monkeypatch.setattr("heedful.pipeline.stages.players.remote_reward", near)
    run_stage(stage, config(stage, *made, tmp_path / "scored", steps=3, **SCORERS))
    assert len(asked) == 1
    for name in ("reward", "loss", "kl"):
        assert [row[name] for row in curve(tmp_path / "scored")] == [row[name] for row in curve(tmp_path / "plain")]
    weights = [(tmp_path / out / "model.safetensors").read_bytes() for out in ("plain", "scored")]
    assert weights[0] == weights[1]
