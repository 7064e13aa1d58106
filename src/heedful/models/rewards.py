"""A reward is a function of prompts and completions: a reward model or a Python callable."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor

from heedful.data.records import Conversation
from heedful.errors import HeedfulError, nearest
from heedful.models.scalar import RewardModel, load_reward_model

Reward: TypeAlias = Callable[[Sequence[Conversation], Sequence[str]], Tensor | Sequence[float]]
"""Scores [B] of B completions, the higher the better; `prompts[i]` belongs to `completions[i]`."""

_CALLABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


class CheckedReward:
    """A callable whose answers are checked: one finite number for each completion.

    Attributes:
        name: for messages and reports.
        function: the callable.
    """

    def __init__(self, name: str, function: Reward) -> None:
        self.name = name
        self.function = function

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Scores [B] float32.

        Raises:
            HeedfulError: the reward gave something else than one finite number for each completion.
        """
        given = self.function(prompts, completions)
        try:
            scores = torch.as_tensor(given, dtype=torch.float32)
        except (TypeError, ValueError, RuntimeError) as error:
            raise self._wrong(f"gave {_described(given)}, not numbers") from error
        if scores.shape != (len(completions),):
            shape = list(scores.shape)
            raise self._wrong(f"gave scores of shape {shape} for {len(completions)} completions")
        finite = torch.isfinite(scores)
        if not bool(finite.all()):
            place = int((~finite).nonzero()[0, 0])
            raise self._wrong(f"gave {float(scores[place])} for the completion {completions[place][:80]!r}")
        return scores

    def _wrong(self, what: str) -> HeedfulError:
        return HeedfulError(
            f"the reward {what}.",
            where=self.name,
            mend="It must return one finite number for each completion, in the order given.",
        )


def _described(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def load_reward(spec: str, **settings: Any) -> RewardModel | CheckedReward:
    """The reward that a setting names.

    Args:
        spec: a folder or hub id of a reward model, or "module:function" of a Python callable that takes
            prompts and completions. The module is looked for in the current folder too. It runs as your code.
        settings: for a reward model, arguments of `load_reward_model`; a callable takes none of them.

    Raises:
        HeedfulError: no such model, module or function.
    """
    if _CALLABLE.fullmatch(spec) and not Path(spec).exists():
        return CheckedReward(spec, _imported(spec))
    return load_reward_model(spec, **settings)


def _imported(spec: str) -> Reward:
    module_name, _, function_name = spec.partition(":")
    here = str(Path.cwd())
    added = here not in sys.path and "" not in sys.path
    if added:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except ImportError as error:
        raise HeedfulError(
            f"cannot import the module {module_name!r}: {error}.",
            where=spec,
            mend="Run the command in the module's folder, or install it.",
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    for part in function_name.split("."):
        if not hasattr(found, part):
            raise HeedfulError(
                f"{module_name} has no {part!r}.",
                where=spec,
                mend=nearest(part, dir(found)) or "Check the name.",
            )
        found = getattr(found, part)
    if not callable(found):
        raise HeedfulError(f"{function_name!r} is no function.", where=spec, mend="Name a function.")
    return found
