"""The stages that train, on objects: each is the command of its name, called as a function."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

from heedful.api.objects import Model, Reward, Rows, configured, display, model_name, objects, prompts_name, reward_name
from heedful.cli.stages import STAGES, run_stage
from heedful.errors import HeedfulError, nearest

Method = Literal["sft", "reward", "ppo", "rloo", "grpo", "reinforce", "raft", "online-dpo", "dpo"]
ONLINE = ("ppo", "rloo", "grpo", "reinforce", "raft", "online-dpo")


@dataclass(frozen=True)
class Run:
    """A finished run: its folder, in Hugging Face format, and what its manifest says. It stands for the folder."""

    folder: Path
    manifest: Mapping[str, Any]

    @property
    def figures(self) -> Mapping[str, float]:
        """The last step's figures by name: loss, reward, KL in nats and so on; docs/training.md has each."""
        return cast(Mapping[str, float], self.manifest["figures"])

    def __fspath__(self) -> str:
        return str(self.folder)

    def load(self) -> tuple[Any, Any]:
        """The model, in evaluation mode on the CPU in float32, and its tokenizer, as plain transformers has them.

        Of a reward model it is the sequence classifier; its scores are normalised by `heedful.load_reward`.

        Raises:
            HeedfulError: the folder is gone or damaged.
        """
        from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

        from heedful.models.storage import check_source, open_model, open_tokenizer

        source = str(self.folder)
        check_source(source)
        auto = AutoModelForSequenceClassification if self.manifest["kind"] == "reward" else AutoModelForCausalLM
        return open_model(auto, source, None, "float32").eval(), open_tokenizer(source, None)


def train(
    method: Method,
    model: Model,
    data: Rows,
    *,
    out: str | os.PathLike[str],
    reward: Reward | None = None,
    quiet: bool = False,
    **settings: Any,
) -> Run:
    """Train by the method of a command's name; `heedful.sft` and its kin are this with the method filled in.

    A run is a folder. Calling again with the same model, data and settings returns the finished run, or goes on from
    the last checkpoint of one that was stopped. Objects are compared by content. A model that is given is copied, and
    stays as it is.

    Args:
        method: sft, reward, ppo, rloo, grpo, reinforce, raft, online-dpo or dpo.
        model: what to start from: a folder or hub id, a `Run`, `(model, tokenizer)`, or a .yaml that describes a new
            one. PeftModels are refused: merge them, and train adapters with `lora_rank`.
        data: demonstrations, preferences or prompts in any of the formats of docs/data-formats.md: a file, folder or
            hub dataset id, a `datasets.Dataset`, or a list of dicts.
        out: folder of the run; two runs never share one.
        reward: of the methods that learn from the policy's own samples: a reward model, or a function that takes
            prompts (each a tuple of messages with `role` and `content`) and as many completions (texts), and returns
            one finite number each, the higher the better.
        quiet: show no progress on standard error.
        settings: any setting of the command (`heedful METHOD --help`), as `learning_rate=1e-5` or
            `optimiser={"learning_rate": 1e-5}`. Lengths are tokens, rates are per optimiser step, KL is in nats.

    Returns:
        the finished run.

    Raises:
        HeedfulError: no such method, an unknown setting, data that cannot be learnt from, an object that cannot be
            used, or a folder that holds another run.
    """
    if method not in get_args(Method):
        known = list(get_args(Method))
        mend = nearest(str(method), known) or f"Known: {', '.join(known)}."
        raise HeedfulError(f"there is no method {method!r}.", where="heedful.train", mend=mend)
    where = f"heedful.{'reward_model' if method == 'reward' else method.replace('-', '_')}"
    if (reward is None) == (method in ONLINE):
        raise HeedfulError(
            f"{method} learns from a reward." if reward is None else f"{method} asks no reward.",
            where=f"{where}: reward",
            mend="Give a folder, a function or a reward model." if reward is None else "Leave it away.",
        )
    with objects() as holding:
        given = {
            "model": model_name(holding, model),
            "data": prompts_name(holding, data),
            "out": out,
            **({} if reward is None else {"reward": reward_name(holding, reward)}),
        }
        for name, value in settings.items():  # a reference model may be an object too
            given[name] = model_name(holding, value) if isinstance(value, tuple) and _is_pair(value) else value
        config = configured(STAGES[method], where, given)
        return Run(Path(out), run_stage(method, config, display(quiet)))


def _is_pair(value: tuple[Any, ...]) -> bool:
    return len(value) == 2 and hasattr(value[0], "state_dict")


def sft(model: Model, data: Rows, *, out: str | os.PathLike[str], quiet: bool = False, **settings: Any) -> Run:
    """Supervised fine-tuning: next-token loss on the completions of demonstrations (of preferences, on the chosen).

    Arguments, result and errors are those of `train`. Often set: `epochs`, `batch_size` (sequences), `learning_rate`,
    `max_length` (tokens of prompt and completion), `held_out` (share of prompts), `lora_rank`.
    """
    return train("sft", model, data, out=out, quiet=quiet, **settings)


def reward_model(model: Model, data: Rows, *, out: str | os.PathLike[str], quiet: bool = False, **settings: Any) -> Run:
    """A reward model from judged answers, by the Bradley-Terry loss where no `loss` is named (docs/losses.md).

    Scores are normalised to mean 0 and spread 1 on the training answers. Arguments, result and errors are those of
    `train`; `model` may be a reward model that goes on learning.
    """
    return train("reward", model, data, out=out, quiet=quiet, **settings)


def ppo(
    model: Model, data: Rows, *, reward: Reward, out: str | os.PathLike[str], quiet: bool = False, **settings: Any
) -> Run:
    """PPO against a reward, held near the start by a KL penalty in nats (Schulman et al. 2017, arXiv 1707.06347).

    Arguments, result and errors are those of `train`; `data` are prompts. Often set: `steps`, `prompts_per_step`,
    `max_new_tokens`, `kl={"coefficient": 0.05}`, `critic_learning_rate`.
    """
    return train("ppo", model, data, reward=reward, out=out, quiet=quiet, **settings)


def grpo(
    model: Model, data: Rows, *, reward: Reward, out: str | os.PathLike[str], quiet: bool = False, **settings: Any
) -> Run:
    """GRPO: the answers to one prompt against each other, no critic (Shao et al. 2024, arXiv 2402.03300).

    Arguments, result and errors are those of `train`; `data` are prompts. Often set: `steps`, `prompts_per_step`,
    `samples_per_prompt`, `max_new_tokens`, `form` (its variants; docs/training.md).
    """
    return train("grpo", model, data, reward=reward, out=out, quiet=quiet, **settings)


def dpo(model: Model, data: Rows, *, out: str | os.PathLike[str], quiet: bool = False, **settings: Any) -> Run:
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290) and its kin by `loss`.

    Arguments, result and errors are those of `train`; `data` are preferences, ties and soft labels included, or
    labelled single answers for a loss that takes those. Often set: `loss`, `beta`, `learning_rate`, `epochs`.
    """
    return train("dpo", model, data, out=out, quiet=quiet, **settings)
