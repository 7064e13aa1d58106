"""`heedful reward` and `heedful ppo` with LoRA: one base for all four models, kept still, never in a checkpoint."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors import safe_open
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from heedful.files import sha256_file
from heedful.models.actor_critic import SeparateActorCritic
from heedful.models.adapters import is_adapted
from heedful.models.one_base import BASE, weight_bytes
from heedful.models.scalar import RewardModel
from heedful.pipeline.stages.online import run_ppo, run_rloo
from heedful.training.folders import checkpoints
from heedful.training.ppo import PPOModels
from heedful.training.progress import Display
from heedful.training.run import Watch
from heedful.training.state import Event, Step
from stage_runs import config, run_stage, write_inputs, write_model

ADAPTERS = {"lora_rank": 2, "lora_dropout": 0.3}


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, an SFT model, and a reward model that was trained as an adapter of it."""
    folder = tmp_path_factory.mktemp("one-base")
    write_inputs(folder / "inputs")
    write_model(folder / "sft")
    asked = config(
        "reward", folder / "inputs", folder / "sft", folder, folder / "reward", epochs=1.0, loading={"lora_rank": 3}
    )
    run_stage("reward", asked)
    return folder


def settings(given: Path, out: Path, stage: str = "ppo", reward: str = "reward", **over: Any) -> Any:
    given_over = {"loading": ADAPTERS, "steps": 4, **over}
    return config(stage, given / "inputs", given / "sft", given / reward, out, **given_over)


def heard(run: Any, asked: Any, **more: Any) -> str:
    """What a stage says while it runs."""
    text = io.StringIO()
    run(asked, Display(Console(file=text, width=400)), **more)
    return text.getvalue()


def test_reward_keeps_its_adapter_its_head_and_what_they_stand_on(given: Path) -> None:
    manifest = json.loads((given / "reward" / "manifest.json").read_text())
    assert len(manifest[BASE]) == 64
    assert "adapter/adapter_model.safetensors" in manifest["files"]
    adapter, merged = (
        load_file(given / "reward" / name) for name in ("adapter/adapter_model.safetensors", "model.safetensors")
    )
    assert torch.equal(adapter["base_model.model.score.weight"], merged["score.weight"])
    assert sum(value.numel() for value in adapter.values()) < sum(value.numel() for value in merged.values()) / 2


def test_ppo_trains_policy_and_critic_on_one_base_that_stays(given: Path, tmp_path: Path) -> None:
    before: dict[str, torch.Tensor] = {}
    seen: list[PPOModels] = []

    def watch(models: PPOModels) -> Watch:
        seen.append(models)
        for name, value in everything(models).items():
            before[name] = value.clone()
        return Watch()

    said = heard(run_ppo, settings(given, tmp_path / "run"), watch=watch)
    assert "reward: an adapter of" in said
    assert ": policy, reference, critic, reward model. All weights:" in said
    models = seen[0]
    modules = parts(models)
    base = {p.data_ptr() for p in models.reference.model.parameters()}
    for name, module in modules.items():
        frozen = [p for key, p in module.named_parameters() if ".lora_" not in key and "score" not in key]
        assert frozen, name
        assert {p.data_ptr() for p in frozen} <= base
    own = sum(p.numel() for m in modules.values() for p in m.parameters() if p.requires_grad)
    assert weight_bytes(modules.values()) == weight_bytes([models.reference.model]) + 4 * own
    after = everything(models)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    trained = {name for name in after if name.startswith(("policy", "critic")) and ".lora_B" in name}
    assert trained <= changed
    assert all(name.startswith(("policy", "critic")) for name in changed)
    assert all(".lora_" in name or "score" in name for name in changed)
    AutoModelForSequenceClassification.from_pretrained(tmp_path / "run" / "critic")
    assert not (tmp_path / "run" / "critic" / "adapter").exists()
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    assert manifest["peak_memory_bytes"] > 0


def parts(models: PPOModels) -> dict[str, Any]:
    assert isinstance(models.reward, RewardModel)
    assert isinstance(models.actor_critic, SeparateActorCritic)
    return {
        "policy": models.policy.model,
        "critic": models.actor_critic.critic.model,
        "reward": models.reward.model,
        "reference": models.reference.model,
    }


def everything(models: PPOModels) -> dict[str, torch.Tensor]:
    return {f"{who}.{key}": value for who, m in parts(models).items() for key, value in m.state_dict().items()}


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("over", [{}, {"loading": {"lora_rank": 2, "base_dtype": "bfloat16"}}], ids=["", "bfloat16"])
def test_a_run_that_stopped_ends_with_the_same_bytes(over: dict[str, Any], given: Path, tmp_path: Path) -> None:
    run_ppo(settings(given, tmp_path / "whole", **over), Display(Console(file=io.StringIO())))
    asked = settings(given, tmp_path / "killed", **over)

    def killed(step: Step) -> list[Event]:
        if step.number == 3:  # after the checkpoint of step 2
            raise Killed
        return []

    with pytest.raises(Killed):
        run_ppo(asked, Display(Console(file=io.StringIO())), watch=lambda models: Watch(intervene=killed))
    with safe_open(checkpoints(tmp_path / "killed")[-1] / "weights.safetensors", "pt") as file:
        names = list(file.keys())
    assert all(".lora_" in name or name.endswith("score.weight") for name in names)  # the base is in none
    assert {name.split(".")[0] for name in names} == {"policy", "critic"}
    assert "going on from step 2" in heard(run_ppo, asked)
    for name in ("model.safetensors", "adapter/adapter_model.safetensors", "critic/model.safetensors", "metrics.jsonl"):
        assert sha256_file(tmp_path / "whole" / name) == sha256_file(tmp_path / "killed" / name), name


def test_the_same_run_with_a_reward_model_of_its_own(given: Path, tmp_path: Path) -> None:
    """Opened on the base or merged beside it, the judge says the same, so that the first step is the same."""
    shutil.copytree(given / "reward", given / "merged")
    manifest = json.loads((given / "merged" / "manifest.json").read_text())
    (given / "merged" / "manifest.json").write_text(json.dumps(manifest | {BASE: "0" * 64}))
    one, other = tmp_path / "one", tmp_path / "other"
    heard(run_ppo, settings(given, one))
    said = heard(run_ppo, settings(given, other, reward="merged"))
    assert "opened as a model of its own" in said
    assert "models of their own: critic, reward model" in said
    first, second = (json.loads((out / "metrics.jsonl").read_text().splitlines()[0]) for out in (one, other))
    for name in ("reward", "score", "kl"):
        assert first[name] == pytest.approx(second[name], abs=1e-4)


def test_other_methods_and_full_weights(given: Path, tmp_path: Path) -> None:
    assert "opened on the policy's base" in heard(run_rloo, settings(given, tmp_path / "rloo", "rloo", steps=1))
    seen: list[PPOModels] = []

    def watch(models: PPOModels) -> Watch:
        seen.append(models)
        return Watch()

    said = heard(run_ppo, settings(given, tmp_path / "full", loading={}, steps=1), watch=watch)
    assert "one base of" not in said
    pointers = [{p.data_ptr() for p in module.parameters()} for module in parts(seen[0]).values()]
    assert sum(map(len, pointers)) == len(set().union(*pointers))
    assert not any(is_adapted(module) for module in parts(seen[0]).values())
