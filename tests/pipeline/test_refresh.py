"""A refresh between two online runs: the reward model goes on learning, and the policy goes on under its old anchor."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.files import sha256_file
from heedful.models.rewards import load_reward
from heedful.training import run as run_module
from reward_runs import pair_rows, write_rows
from stage_runs import config, run_stage, write_inputs, write_model

ASKED = (Message("user", "what is the sky"),)
TEXTS = ["the sky is blue please", "no no", "a cat and a dog"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a reward model and a PPO run that were trained, and inputs for more."""
    folder = tmp_path_factory.mktemp("refresh")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    write_rows(folder / "pairs.jsonl", pair_rows(40))
    run_stage("reward", learning(folder, folder / "policy", folder / "reward"))
    run_stage("ppo", online("ppo", folder, folder / "policy", folder / "first"))
    return folder


def learning(made: Path, model: Path, out: Path, **over: Any) -> Any:
    given = {"data": str(made / "pairs.jsonl"), "epochs": 2.0, "records": {"held_out": 0.2}, **over}
    return config("reward", made, model, made, out, **given)


def online(stage: str, made: Path, model: Path, out: Path, **over: Any) -> Any:
    given = {"steps": 4, "optimiser": {"learning_rate": 1e-2}, "kl": {"adaptive": False}, **over}
    return config(stage, made / "inputs", model, made / "reward", out, **given)


def first_figures(out: Path) -> dict[str, float]:
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[0])


def scores(folder: Path) -> torch.Tensor:
    return load_reward(str(folder))([ASKED] * 3, TEXTS)


def test_a_reward_model_goes_on_with_its_trunk_and_its_head(made: Path, tmp_path: Path) -> None:
    still = {"optimiser": {"learning_rate": 1e-12}}
    before = scores(made / "reward")
    run_stage("reward", learning(made, made / "reward", tmp_path / "still", **still))
    kept = scores(tmp_path / "still")
    torch.testing.assert_close(kept - kept.mean(), before - before.mean(), atol=1e-5, rtol=0)
    run_stage("reward", learning(made, made / "policy", tmp_path / "anew", **still))
    anew = scores(tmp_path / "anew")
    assert (anew - anew.mean() - before + before.mean()).abs().max() > 0.05
    manifest = run_stage("reward", learning(made, made / "reward", tmp_path / "on"))
    assert manifest["parents"]["model"]["name"] == str(made / "reward")
    assert first_figures(tmp_path / "on")["loss"] < first_figures(made / "reward")["loss"]


def test_going_on_is_killed_and_ends_with_the_same_bits(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_stage("reward", learning(made, made / "reward", tmp_path / "whole"))
    save = run_module.save_checkpoint

    def save_and_die(*arguments: Any) -> None:
        save(*arguments)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "save_checkpoint", save_and_die)
        with pytest.raises(KeyboardInterrupt):
            run_stage("reward", learning(made, made / "reward", tmp_path / "cut"))
    run_stage("reward", learning(made, made / "reward", tmp_path / "cut"))
    for name in ("model.safetensors", "config.json", "metrics.jsonl"):
        assert sha256_file(tmp_path / "whole" / name) == sha256_file(tmp_path / "cut" / name)


@pytest.mark.parametrize("over", [{"heads": {"kind": "length"}}, {"loading": {"lora_rank": 2}}])
def test_other_heads_and_adapters_are_refused(over: dict[str, Any], made: Path, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="its one head"):
        run_stage("reward", learning(made, made / "reward", tmp_path / "no", **over))
    assert not (tmp_path / "no").exists()


def test_an_ensemble_does_not_go_on_as_one_head(made: Path, tmp_path: Path) -> None:
    run_stage("reward", learning(made, made / "policy", tmp_path / "shared", heads={"kind": "ensemble", "members": 2}))
    with pytest.raises(HeedfulError, match="several heads"):
        run_stage("reward", learning(made, tmp_path / "shared", tmp_path / "no"))


@pytest.mark.parametrize("stage", ["ppo", "rloo"])
def test_the_kl_is_paid_to_the_reference_that_is_named(stage: str, made: Path, tmp_path: Path) -> None:
    anchored = online(stage, made, made / "first", tmp_path / "anchored", reference=str(made / "policy"))
    manifest = run_stage(stage, anchored)
    run_stage(stage, online(stage, made, made / "first", tmp_path / "loose"))
    assert first_figures(tmp_path / "loose")["kl"] == pytest.approx(0.0, abs=1e-4)
    assert abs(first_figures(tmp_path / "anchored")["kl"]) > 0.01
    assert manifest["parents"]["reference"]["name"] == str(made / "policy")
    assert first_figures(tmp_path / "anchored")["reward"] == first_figures(tmp_path / "loose")["reward"]


def longer(prompts: Any, completions: Any) -> list[float]:
    return [float(len(text)) for text in completions]


def test_fresh_checks_begin_with_the_policy_and_not_with_its_anchor(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    gold = {"judge": "test_refresh:longer", "every_steps": 2, "prompts": str(made / "inputs" / "prompts.jsonl")}
    watch = {"mode": "warn", "gold": gold}
    replies = {}
    for name, reference in (("loose", None), ("anchored", str(made / "policy"))):
        run_stage("ppo", online("ppo", made, made / "first", tmp_path / name, watch=watch, reference=reference))
        kept = json.loads((tmp_path / name / "watch" / "check-00000000.json").read_text())
        replies[name] = [reply["text"] for reply in kept["replies"]]
    assert replies["loose"] == replies["anchored"]
    run_stage("ppo", online("ppo", made, made / "policy", tmp_path / "begun", watch=watch))
    kept = json.loads((tmp_path / "begun" / "watch" / "check-00000000.json").read_text())
    assert [reply["text"] for reply in kept["replies"]] != replies["anchored"]


def test_a_reference_that_cannot_anchor_is_refused(made: Path, tmp_path: Path) -> None:
    from architectures import tiny_architectures, tiny_tokenizer
    from heedful.models.policy import new_policy

    tokenizer = tiny_tokenizer()
    tokenizer.add_tokens(["another"])
    new_policy(tiny_architectures()["llama"], tokenizer, seed=1).save(tmp_path / "other")
    with pytest.raises(HeedfulError, match="not the policy's"):
        run_stage("ppo", online("ppo", made, made / "first", tmp_path / "no", reference=str(tmp_path / "other")))
    lora = {"loading": {"lora_rank": 2}, "reference": str(made / "policy")}
    with pytest.raises(HeedfulError, match="adapters are anchored"):
        run_stage("ppo", online("ppo", made, made / "first", tmp_path / "no", **lora))
    assert not (tmp_path / "no").exists()
