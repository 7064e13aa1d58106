"""Language models that listen to people: the whole loop of reinforcement learning from human feedback.

The names below are the public Python API. Each is imported when it is first used, so that
`import heedful` needs neither torch nor time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.data.load import load_preferences, load_prompts
    from heedful.errors import HeedfulError
    from heedful.evaluation.winrate import win_rate
    from heedful.models.policy import load_policy
    from heedful.models.rewards import load_reward
    from heedful.pipeline.stages.online import run_ppo
    from heedful.pipeline.stages.preference import run_dpo
    from heedful.pipeline.stages.reward import run_reward
    from heedful.pipeline.stages.sft import run_sft
    from heedful.training.config.online import PPOConfig
    from heedful.training.config.preference import DPOConfig
    from heedful.training.config.reward import RewardConfig
    from heedful.training.config.sft import SFTConfig

__all__ = [
    "DPOConfig",
    "HeedfulError",
    "PPOConfig",
    "RewardConfig",
    "SFTConfig",
    "load_policy",
    "load_preferences",
    "load_prompts",
    "load_reward",
    "run_dpo",
    "run_ppo",
    "run_reward",
    "run_sft",
    "win_rate",
]

_HOMES = {
    "heedful.data.load": ("load_preferences", "load_prompts"),
    "heedful.errors": ("HeedfulError",),
    "heedful.evaluation.winrate": ("win_rate",),
    "heedful.models.policy": ("load_policy",),
    "heedful.models.rewards": ("load_reward",),
    "heedful.pipeline.stages.online": ("run_ppo",),
    "heedful.pipeline.stages.preference": ("run_dpo",),
    "heedful.pipeline.stages.reward": ("run_reward",),
    "heedful.pipeline.stages.sft": ("run_sft",),
    "heedful.training.config.online": ("PPOConfig",),
    "heedful.training.config.preference": ("DPOConfig",),
    "heedful.training.config.reward": ("RewardConfig",),
    "heedful.training.config.sft": ("SFTConfig",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'heedful' has no attribute {name!r}")
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
