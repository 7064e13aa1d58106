"""The commands that train: each parses its stage's config and calls the stage."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from heedful.cli.command import parse, print_json, print_result, stdout_for_results
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


def _command(name: str, home: str) -> Callable[[list[str]], int]:
    """`heedful NAME`: `run_name` of a module of `heedful.pipeline.stages`, which is imported when it is called."""

    def command(arguments: list[str]) -> int:
        call = parse(STAGES[name], name, arguments, notes=NOTES)
        run: Callable[[Any], dict[str, Any]] = getattr(
            import_module(f"heedful.pipeline.stages.{home}"), f"run_{name.replace('-', '_')}"
        )
        with stdout_for_results():
            manifest = run(call.settings)
        out = call.settings.out
        if call.json:
            print_json({"out": out, **manifest})
        else:
            figures = {"steps": manifest["steps"], "seconds": manifest["seconds"], **manifest["figures"]}
            print_result(f"{name}: {out}", figures)
        return 0

    return command


sft = _command("sft", "sft")
reward = _command("reward", "reward")
ppo = _command("ppo", "online")
rloo = _command("rloo", "online")
grpo = _command("grpo", "online")
reinforce = _command("reinforce", "online")
raft = _command("raft", "online")
online_dpo = _command("online-dpo", "online")
dpo = _command("dpo", "preference")
