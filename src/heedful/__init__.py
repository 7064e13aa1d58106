"""Language models that listen to people: the whole loop of reinforcement learning from human feedback.

The names below are the public Python API; docs/python.md tells of each. They take what a program already holds (a
loaded model of transformers with its tokenizer, a `datasets.Dataset` or a list of dicts, a function as the reward), or
paths, as the commands do. Each is imported when it is first used, so that `import heedful` needs neither torch nor
time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from heedful.api.looking import compare, load_preferences, load_reward, probe, sample, score
    from heedful.api.people import agreement, judge
    from heedful.api.training import Run, dpo, grpo, ppo, reward_model, sft, train
    from heedful.errors import HeedfulError

__all__ = [
    "HeedfulError",
    "Run",
    "agreement",
    "compare",
    "dpo",
    "grpo",
    "judge",
    "load_preferences",
    "load_reward",
    "ppo",
    "probe",
    "reward_model",
    "sample",
    "score",
    "sft",
    "train",
]

_HOMES = {
    "heedful.api.looking": ("compare", "load_preferences", "load_reward", "probe", "sample", "score"),
    "heedful.api.people": ("agreement", "judge"),
    "heedful.api.training": ("Run", "dpo", "grpo", "ppo", "reward_model", "sft", "train"),
    "heedful.errors": ("HeedfulError",),
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
