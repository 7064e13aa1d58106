"""Models and rewards that a Python program holds, under names that settings can carry (`heedful.data.held`)."""

from __future__ import annotations

import functools
import types
from typing import Any

from heedful.data.held import Holding
from heedful.errors import HeedfulError
from heedful.files import sha256_json
from heedful.models.adapters import is_adapted
from heedful.models.classifier import ClassifierReward
from heedful.models.fingerprint import memory_fingerprint, model_fingerprint
from heedful.models.head_bank import HEADS
from heedful.models.rewards import Reward
from heedful.models.scalar import RewardModel


def hold_model(holding: Holding, model: Any, tokenizer: Any) -> str:
    """The name of a model of transformers and its tokenizer.

    It is hashed as it stands. Whoever opens the name gets a copy in float32 or what its settings say: the model
    itself is read and never changed.

    Raises:
        HeedfulError: it is no model of transformers with its tokenizer, carries adapters or further reward heads, or
            is quantised.
    """
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    if is_adapted(model):
        raise _refused(model, "carries adapters", "Merge them first (model.merge_and_unload()), or give the folder.")
    if not isinstance(model, PreTrainedModel):
        raise _refused(model, "is no model of transformers", "Give (model, tokenizer), a folder or a hub id.")
    if not isinstance(tokenizer, PreTrainedTokenizerBase):
        raise _refused(tokenizer, "is no tokenizer of transformers", "Give (model, tokenizer) in this order.")
    if getattr(model, "is_quantized", False):
        raise _refused(model, "is quantised", "Give its folder, with loading={'base_dtype': 'nf4'} if need be.")
    if getattr(model.config, HEADS, None):
        raise _refused(model, "has several reward heads", "Give the folder that heedful reward wrote.")
    return holding.keep("model", memory_fingerprint(model, tokenizer), (model, tokenizer))


def hold_reward(holding: Holding, reward: Reward) -> str:
    """The name of a reward that is a callable. Of a model the hash is of its weights, else of its code.

    Raises:
        HeedfulError: it cannot be called.
    """
    if not callable(reward):
        raise _refused(reward, "is no reward", "Give a folder, (model, tokenizer), or a function of prompts and texts.")
    return holding.keep("reward", _reward_sha256(reward), reward)


def code_sha256(function: Any) -> str:
    """Hex SHA-256 of what a callable's code does: its instructions, constants and names, functions inside included.

    What it reads from elsewhere (globals, attributes, a closure's variables) is not part of it; of a
    `functools.partial` the arguments are.
    """
    return sha256_json(_code(function))


def _reward_sha256(reward: Any) -> str:
    if isinstance(reward, RewardModel):
        return model_fingerprint(reward)
    if isinstance(reward, ClassifierReward):
        return sha256_json([memory_fingerprint(reward.model, reward.tokenizer), reward.label])
    return code_sha256(reward)


def _code(function: Any) -> list[Any]:
    if isinstance(function, functools.partial):
        return [_code(function.func), repr(function.args), repr(sorted(function.keywords.items()))]
    function = getattr(function, "__func__", function)
    code = getattr(function, "__code__", None)
    if code is None and not isinstance(function, type) and hasattr(type(function).__call__, "__code__"):
        code = type(function).__call__.__code__
    name = getattr(function, "__qualname__", type(function).__qualname__)
    return [str(getattr(function, "__module__", "")), name, [] if code is None else _instructions(code)]


def _instructions(code: types.CodeType) -> list[Any]:
    constants = [_instructions(one) if isinstance(one, types.CodeType) else repr(one) for one in code.co_consts]
    return [code.co_code.hex(), constants, list(code.co_names)]


def _refused(given: Any, what: str, mend: str) -> HeedfulError:
    return HeedfulError(f"this {type(given).__name__} {what}.", where="in memory", mend=mend)
