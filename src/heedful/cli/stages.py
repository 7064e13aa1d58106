"""The commands that train: each parses its stage's config and calls the stage."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from heedful.cli.command import parse, print_json, print_result, stdout_for_results
from heedful.cli.launching import start_workers, starts_workers, workers_of
from heedful.training.config.online import GRPOConfig, PPOConfig, RAFTConfig, ReinforceConfig, RLOOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.config.stage import StageConfig

NOTES = """A block may be left out where the rest names one flag: --learning-rate. Defaults suit models of
0.5B to 8B parameters; their sources: [T] TRL, [O] OpenRLHF, [V] verl, [N] arXiv 2403.17031, [L] Tülu 3."""


STAGES: dict[str, type[StageConfig]] = {
    "sft": SFTConfig,
    "reward": RewardConfig,
    "ppo": PPOConfig,
    "rloo": RLOOConfig,
    "grpo": GRPOConfig,
    "reinforce": ReinforceConfig,
    "raft": RAFTConfig,
    "online-dpo": OnlineDPOConfig,
    "dpo": DPOConfig,
}
"""The settings of every stage."""


HOMES = {"sft": "sft", "reward": "reward", "dpo": "preference"}
"""The module of `heedful.pipeline.stages` that a stage stands in; the others learn online."""


def run_stage(name: str, config: StageConfig, display: Any = None) -> dict[str, Any]:
    """Run a stage, whose module is imported now; returns the manifest of the run."""
    home = import_module(f"heedful.pipeline.stages.{HOMES.get(name, 'online')}")
    run: Callable[[Any, Any], dict[str, Any]] = getattr(home, f"run_{name.replace('-', '_')}")
    return run(config, display)


def _command(name: str) -> Callable[[list[str]], int]:
    """`heedful NAME`."""

    def command(arguments: list[str]) -> int:
        call = parse(STAGES[name], name, arguments, notes=NOTES)
        if starts_workers(call.settings.launch):
            return start_workers(call.settings.launch, [name, *arguments])
        with stdout_for_results(), workers_of(call.settings) as leads:
            manifest = run_stage(name, call.settings)
        if not leads:
            return 0
        out = call.settings.out
        if call.json:
            print_json({"out": out, **manifest})
        else:
            figures = {"steps": manifest["steps"], "seconds": manifest["seconds"], **manifest["figures"]}
            print_result(f"{name}: {out}", figures)
        return 0

    return command


sft = _command("sft")
reward = _command("reward")
ppo = _command("ppo")
rloo = _command("rloo")
grpo = _command("grpo")
reinforce = _command("reinforce")
raft = _command("raft")
online_dpo = _command("online-dpo")
dpo = _command("dpo")
