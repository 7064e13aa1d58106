"""A reward is a function of prompts and completions: a reward model, several of them, or a Python callable."""

from __future__ import annotations

import copy
import inspect
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from heedful.core.ensembles import mean_score, uncertainty_penalised, weighted_sum, worst_case
from heedful.data.held import held, is_held
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.models.callables import import_function, names_function
from heedful.models.classifier import ClassifierReward, load_classifier, reads_last_token
from heedful.models.head_bank import ENSEMBLE
from heedful.models.one_base import SharedBase
from heedful.models.scalar import RewardModel, load_reward_model
from heedful.models.trl_reward import load_trl_reward, names_trl_function
from heedful.models.unit_tests import UnitTests, load_unit_tests, names_unit_tests

Reward: TypeAlias = Callable[[Sequence[Conversation], Sequence[str]], Tensor | Sequence[float]]
"""Scores [B] of B completions, the higher the better; `prompts[i]` belongs to `completions[i]`."""


class CheckedReward:
    """A callable whose answers are checked: one finite number for each completion.

    Attributes:
        name: for messages and reports.
        function: the callable.

    Raises:
        HeedfulError: it does not take prompts and completions, in this order.
    """

    def __init__(self, name: str, function: Reward) -> None:
        _check_signature(name, function)
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


def _check_signature(name: str, function: Callable[..., Any]) -> None:
    """Refuse a function that would get completions where it expects prompts, as those do that TRL calls by keyword."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # such as one that is compiled, and says nothing of itself
        return
    try:
        prompts, completions = list(signature.bind("prompts", "completions").arguments.items())[:2]
        wrong = prompts[0] == "completions" or completions[0] == "prompts"
    except (TypeError, ValueError):  # it takes fewer or more, or any number of them
        wrong = not any(one.kind is one.VAR_POSITIONAL for one in signature.parameters.values())
    if wrong:
        raise HeedfulError(
            f"the reward is called with prompts and completions, and takes {signature}.",
            where=name,
            mend="Write def score(prompts, completions), completions being texts; one made for TRL is named "
            "trl=FILE:module:function, FILE being the data whose columns it reads.",
        )


def _described(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


class EnsembleReward:
    """Several rewards of the same answers, made one by a rule. It is a `Reward`.

    Scores of unlike scale do not average: members are to be normalised alike, as `heedful reward` leaves them.

    Attributes:
        name: for messages and reports.
        members: prompts and completions -> scores [M, B], a row a member.
        rule: scores [M, B] -> [B].
    """

    def __init__(
        self,
        name: str,
        members: Callable[[Sequence[Conversation], Sequence[str]], Tensor],
        rule: Callable[[Tensor], Tensor],
    ) -> None:
        self.name = name
        self.members = members
        self.rule = rule

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Scores [B] float32 of completions, without gradient, in the order given."""
        return self.rule(self.members(prompts, completions))

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores, and `disagreement` [B]: the standard deviation over members. One pass of each."""
        members = self.members(prompts, completions)
        return self.rule(members), {"disagreement": members.std(0, correction=0)}


class SummedReward(CheckedReward):
    """Unlike rewards of the same answers, each times its weight, as `sum:` names them.

    Attributes:
        members: what is summed.
    """

    def __init__(self, name: str, members: Sequence[Reward], rule: Callable[[Tensor], Tensor]) -> None:
        super().__init__(name, lambda prompts, completions: self.measured(prompts, completions)[0])
        self.members, self._rule = members, rule

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores [B], and what members can say beside theirs, such as `solved` of unit tests. One pass of each."""
        scores: list[Tensor] = []
        more: dict[str, Tensor] = {}
        for member in self.members:
            own, told = judged(member, prompts, completions)
            scores.append(torch.as_tensor(own, dtype=torch.float32))
            more |= told
        return self._rule(torch.stack([score.to(scores[0].device) for score in scores])), more


@runtime_checkable
class Measuring(Protocol):
    """A reward that can say more of each answer than its score, without judging it again."""

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """Scores [B], and measures [B] by name."""
        ...


def judged(
    reward: Reward, prompts: Sequence[Conversation], completions: Sequence[str]
) -> tuple[Tensor | Sequence[float], dict[str, Tensor]]:
    """The scores of completions, and what else the judge can say of each of them."""
    if isinstance(reward, Measuring):
        return reward.measured(prompts, completions)
    return reward(prompts, completions), {}


_AGGREGATED = re.compile(r"(mean|worst|penalised|sum)(?:=([^:,]*))?:(.+)")
_WEIGHTED = re.compile(r"([^*,:]+)\*(.+)")


@dataclass(frozen=True)
class Aggregation:
    """What a setting like `penalised=0.5:runs/a,runs/b` says."""

    rule: Callable[[Tensor], Tensor]
    members: tuple[str, ...]
    alike: bool = True
    """Whether members judge the same thing, so that how far they are apart says how sure they are."""


def aggregation(spec: str) -> Aggregation | None:
    """The rule and the members that a setting names, or None where it names a single reward.

    Raises:
        HeedfulError: `penalised` without a number that is not negative, another rule with one, or an empty member.
    """
    found = _AGGREGATED.fullmatch(spec)
    if found is None:
        return None
    name, number, listed = found.groups()
    members = tuple(member.strip() for member in listed.split(","))
    if not all(members):
        raise HeedfulError("an empty member.", where=spec, mend=f"Write {name}:runs/a,runs/b.")
    if name == "sum":
        return _sum(spec, number, members)
    if name != "penalised":
        if number is not None:
            raise HeedfulError(f"{name!r} takes no number.", where=spec, mend=f"Write {name}:{listed}.")
        return Aggregation(mean_score if name == "mean" else worst_case, members)
    try:
        coefficient = float(number or "nan")
    except ValueError:
        coefficient = math.nan
    if not 0 <= coefficient < math.inf:
        raise HeedfulError(
            "'penalised' needs the weight of the variance, 0 or above.",
            where=spec,
            mend=f"Write penalised=0.1:{listed}; 0.5 suits best-of-n, 0.1 PPO.",
        )
    return Aggregation(lambda scores: uncertainty_penalised(scores, coefficient), members)


def _sum(spec: str, number: str | None, listed: Sequence[str]) -> Aggregation:
    if number is not None:
        raise HeedfulError(
            "'sum' takes no number.", where=spec, mend="Give each member its own: sum:runs/a,0.5*runs/b."
        )
    weights, members = [], []
    for member in listed:
        found = _WEIGHTED.fullmatch(member)
        try:
            weight = float(found[1]) if found else 1.0
        except ValueError:
            weight = math.nan
        if not math.isfinite(weight):
            raise HeedfulError(f"{member!r} has no weight that is a number.", where=spec, mend="Write 0.5*runs/b.")
        weights.append(weight)
        members.append(found[2].strip() if found else member)
    return Aggregation(lambda scores: weighted_sum(scores, weights), tuple(members), alike=False)


def names_code(spec: str) -> bool:
    """Whether a setting names a reward that is no model: a function, or tests."""
    return names_function(spec) or names_trl_function(spec) or names_unit_tests(spec)


def load_reward(
    spec: str, *, base: SharedBase | None = None, **settings: Any
) -> RewardModel | ClassifierReward | CheckedReward | EnsembleReward | UnitTests:
    """The reward that a setting names.

    Args:
        spec: one of

            - a folder or hub id of a reward model, or of any sequence classifier of transformers; of one with
              several labels, `folder#label` names the one whose output is the score;
            - "module:function", a Python callable that takes prompts and completions. The module is looked for in
              the current folder too. It runs as your code;
            - `trl=FILE:module:function`, a function as TRL calls it, with the columns of the file; see
              `heedful.models.trl_reward`;
            - `unit-tests:FILE` or `unit-tests=all:FILE`, Python in the answers run against tests; see
              `heedful.models.unit_tests`;
            - the name of a callable or a model in memory (`heedful.models.holding`);
            - `sum:A,0.5*B,...`: several of these, each times its weight;
            - `mean:A,B,...`, `worst:A,B,...` or `penalised=0.1:A,B,...`: several of these, as one by their mean,
              their lowest, or their mean less so many times their unbiased variance. A single member is a model with
              an ensemble of heads on one trunk.
        base: a policy's base; what was trained as an adapter of it is opened on it.
        settings: for a reward model, arguments of `load_reward_model`; a callable takes none of them.

    Raises:
        HeedfulError: no such model, label, module or function; an ensemble of one.
    """
    if is_held(spec) and callable(held(spec)):
        return _of_memory(spec, held(spec))
    aggregated = aggregation(spec)
    if aggregated is not None:
        return _ensemble(spec, aggregated, base, settings)
    if names_unit_tests(spec):
        return load_unit_tests(spec)
    if names_trl_function(spec):
        return CheckedReward(spec, load_trl_reward(spec))
    if names_function(spec):
        return CheckedReward(spec, import_function(spec))
    source, _, label = spec.rpartition("#") if "#" in spec and not Path(spec).exists() else (spec, "", "")
    settings = {**settings, "label": label} if label else settings
    standing = base.reward_model(source) if base is not None else None
    if standing is not None:
        return standing
    if reads_last_token(source, settings.get("revision")):
        return load_reward_model(source, **settings)
    return load_classifier(source, **settings)


def _of_memory(
    name: str, reward: Reward
) -> RewardModel | ClassifierReward | CheckedReward | EnsembleReward | UnitTests:
    """A reward that a program holds. A model is copied: a stage may freeze the one that it works with."""
    if isinstance(reward, RewardModel | ClassifierReward):
        return copy.deepcopy(reward)
    return reward if isinstance(reward, CheckedReward | EnsembleReward | UnitTests) else CheckedReward(name, reward)


def _ensemble(
    spec: str, aggregated: Aggregation, base: SharedBase | None, settings: dict[str, Any]
) -> EnsembleReward | CheckedReward:
    rewards = [load_reward(member, base=base, **settings) for member in aggregated.members]

    def apart(prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        scores = [torch.as_tensor(reward(prompts, completions), dtype=torch.float32) for reward in rewards]
        return torch.stack([score.to(scores[0].device) for score in scores])

    if not aggregated.alike:
        return SummedReward(spec, rewards, aggregated.rule)
    if len(rewards) > 1:
        return EnsembleReward(spec, apart, aggregated.rule)
    alone = rewards[0]
    if not isinstance(alone, RewardModel) or alone.bank is None or alone.bank.kind != ENSEMBLE:
        raise HeedfulError(
            "an ensemble needs several members, or a model that was trained with --heads.kind ensemble.",
            where=spec,
            mend="Name the folders with commas between them.",
        )
    return EnsembleReward(spec, lambda prompts, texts: alone.head_scores(prompts, texts).T, aggregated.rule)
