"""The commands that train: each parses its stage's config and calls the stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from heedful.cli.command import parse, print_json, print_result, stdout_for_results
from heedful.training.config.online import GRPOConfig, PPOConfig, RAFTConfig, ReinforceConfig, RLOOConfig
from heedful.training.config.online_dpo import OnlineDPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.config.stage import StageConfig

NOTES = """A block may be left out where the rest names one flag: --learning-rate. Defaults suit models of
0.5B to 8B parameters; their sources: [T] TRL, [O] OpenRLHF, [V] verl, [N] arXiv 2403.17031, [L] Tülu 3."""

C = TypeVar("C", bound=StageConfig)


def sft(arguments: list[str]) -> int:
    """`heedful sft`."""

    def run(config: SFTConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.sft import run_sft

        return run_sft(config)

    return _train(SFTConfig, "sft", arguments, run)


def reward(arguments: list[str]) -> int:
    """`heedful reward`."""

    def run(config: RewardConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.reward import run_reward

        return run_reward(config)

    return _train(RewardConfig, "reward", arguments, run)


def ppo(arguments: list[str]) -> int:
    """`heedful ppo`."""

    def run(config: PPOConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_ppo

        return run_ppo(config)

    return _train(PPOConfig, "ppo", arguments, run)


def rloo(arguments: list[str]) -> int:
    """`heedful rloo`."""

    def run(config: RLOOConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_rloo

        return run_rloo(config)

    return _train(RLOOConfig, "rloo", arguments, run)


def grpo(arguments: list[str]) -> int:
    """`heedful grpo`."""

    def run(config: GRPOConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_grpo

        return run_grpo(config)

    return _train(GRPOConfig, "grpo", arguments, run)


def reinforce(arguments: list[str]) -> int:
    """`heedful reinforce`."""

    def run(config: ReinforceConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_reinforce

        return run_reinforce(config)

    return _train(ReinforceConfig, "reinforce", arguments, run)


def raft(arguments: list[str]) -> int:
    """`heedful raft`."""

    def run(config: RAFTConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_raft

        return run_raft(config)

    return _train(RAFTConfig, "raft", arguments, run)


def online_dpo(arguments: list[str]) -> int:
    """`heedful online-dpo`."""

    def run(config: OnlineDPOConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.online import run_online_dpo

        return run_online_dpo(config)

    return _train(OnlineDPOConfig, "online-dpo", arguments, run)


def dpo(arguments: list[str]) -> int:
    """`heedful dpo`."""

    def run(config: DPOConfig) -> dict[str, Any]:
        from heedful.pipeline.stages.preference import run_dpo

        return run_dpo(config)

    return _train(DPOConfig, "dpo", arguments, run)


def _train(cls: type[C], name: str, arguments: list[str], run: Callable[[C], dict[str, Any]]) -> int:
    call = parse(cls, name, arguments, notes=NOTES)
    with stdout_for_results():
        manifest = run(call.settings)
    out = call.settings.out
    if call.json:
        print_json({"out": out, **manifest})
    else:
        figures = {"steps": manifest["steps"], "seconds": manifest["seconds"], **manifest["figures"]}
        print_result(f"{name}: {out}", figures)
    return 0
