"""Small runs of every stage, on files that they write themselves. Shared by the tests of stages and of kills."""

from __future__ import annotations

import io
import json
from importlib import import_module
from pathlib import Path
from typing import Any

from architectures import WORDS, tiny_architectures, tiny_tokenizer

STAGES = ("sft", "reward", "ppo", "dpo")
POLICY_GRADIENT = ("rloo", "grpo", "reinforce")
WITHOUT_CRITIC = (*POLICY_GRADIENT, "raft", "online-dpo")
HOMES = {"sft": "sft", "reward": "reward", "dpo": "preference"}
"""The module of `heedful.pipeline.stages` that each stage stands in; the rest learn online."""


def write_inputs(folder: Path) -> None:
    """Demonstrations, preferences and prompts in TRL's formats."""
    folder.mkdir(parents=True, exist_ok=True)
    demonstrations, preferences = [], []
    for i in range(24):
        prompt = f"{WORDS[i % 20]} {WORDS[(3 * i + 1) % 40]} {WORDS[(7 * i) % 30]}"
        good = f"{WORDS[i % 7]} {WORDS[(i + 5) % 30]} yes" + " please" * (i % 3)
        bad = f"no {WORDS[(i + 9) % 25]}" + " what" * (i % 4)
        demonstrations.append({"prompt": prompt, "completion": good})
        preferences.append({"prompt": prompt, "chosen": good, "rejected": bad})
    for name, rows in (("demonstrations", demonstrations), ("preferences", preferences)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    prompts = [{"prompt": row["prompt"]} for row in demonstrations]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))


def write_model(folder: Path, architecture: str = "llama", kind: str = "policy") -> None:
    """A random-weight model of a tiny architecture, as a Hugging Face folder."""
    from heedful.files import artifact
    from heedful.models.policy import new_policy
    from heedful.models.scalar import new_reward_model

    policy = new_policy(tiny_architectures()[architecture], tiny_tokenizer(), seed=1)
    with artifact(folder, {"kind": kind}) as temporary:
        (policy if kind == "policy" else new_reward_model(policy, seed=2)).save(temporary)


def config(stage: str, inputs: Path, model: Path, reward: Path, out: Path, **over: Any) -> Any:
    """Settings of a run that takes a second or so."""
    from heedful.pipeline.embedded import merge
    from heedful.training.config.online import GRPOConfig, PPOConfig, RAFTConfig, ReinforceConfig, RLOOConfig
    from heedful.training.config.online_dpo import OnlineDPOConfig
    from heedful.training.config.preference import DPOConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig
    from heedful.training.settings import from_mapping

    classes = {"sft": SFTConfig, "reward": RewardConfig, "ppo": PPOConfig, "dpo": DPOConfig}
    classes |= {"rloo": RLOOConfig, "grpo": GRPOConfig, "reinforce": ReinforceConfig}
    cls = (classes | {"raft": RAFTConfig, "online-dpo": OnlineDPOConfig})[stage]
    given: dict[str, Any] = {
        "model": str(model),
        "out": str(out),
        "optimiser": {"learning_rate": 1e-3},
        "records": {"max_length": 64},
        "memory": {"micro_batch_tokens": 128},
        "run": {"checkpoint_every": 2, "sample_every": 4, "tensorboard": False},
    }
    if stage == "ppo" or stage in WITHOUT_CRITIC:
        given |= {"data": str(inputs / "prompts.jsonl"), "reward": str(reward), "steps": 6}
        given |= {"rollout": {"prompts_per_step": 6, "max_new_tokens": 8}}
        if stage == "ppo":
            given |= {"critic_learning_rate": 1e-3}
        elif stage != "reinforce":
            given["rollout"] |= {"prompts_per_step": 2, "samples_per_prompt": 3}
        given["update"] = {"epochs": 2, "minibatches": 2}
        if stage != "online-dpo":
            given["kl"] = {"adaptive": True, "target": 0.5, "horizon": 50, "coefficient": 0.04}
        given |= {"score": {"normalise": "reference", "normalise_samples": 8}}
    else:
        name = "demonstrations" if stage == "sft" else "preferences"
        given |= {"data": str(inputs / f"{name}.jsonl"), "epochs": 3.0, "batch_size": 8}
        given["records"]["held_out"] = 0.1
    return from_mapping(cls, merge(given, over), "test")


def stage_of(stage: str) -> Any:
    """The function that runs a stage."""
    home = import_module(f"heedful.pipeline.stages.{HOMES.get(stage, 'online')}")
    return getattr(home, f"run_{stage.replace('-', '_')}")


def run_stage(stage: str, settings: Any) -> dict[str, Any]:
    """Run a stage quietly."""
    from rich.console import Console

    from heedful.training.progress import Display

    manifest = stage_of(stage)(settings, Display(Console(file=io.StringIO())))
    assert_figures_are_told(settings.out)
    return manifest


def said(stage: str, settings: Any, **more: Any) -> str:
    """What a stage tells while it runs."""
    from rich.console import Console

    from heedful.training.progress import Display

    text = io.StringIO()
    stage_of(stage)(settings, Display(Console(file=text, width=400)), **more)
    return text.getvalue()


def metrics(out: Path) -> list[dict[str, float]]:
    """The figures that a run logged, a mapping for each step."""
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def assert_figures_are_told(out: Path) -> None:
    """Every figure that a run logged has a sentence in `heedful.training.metrics`, from which the docs are made."""
    from heedful.training.metrics import metric_of

    path = out / "metrics.jsonl"
    keys = {key for line in path.read_text("utf-8").splitlines() for key in json.loads(line)}
    untold = sorted(key for key in keys if metric_of(key) is None)
    assert not untold, f"figures without a sentence in heedful.training.metrics: {untold}"


def run_in_child(stage: str, settings: Any) -> None:
    """The same, for a process that will be killed."""
    import torch

    torch.set_num_threads(1)
    run_stage(stage, settings)
