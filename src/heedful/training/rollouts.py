"""What every method that samples from its policy does before it learns: prompts, completions, scores, groups.

All of it is a function of (seed, step), so that a resumed run sees the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.nn.functional import pad as pad_columns

from heedful.core.text import distinct_n, self_repetition, top_opening
from heedful.data.chat import render_prompt
from heedful.data.records import Conversation, Prompt
from heedful.models.policy import Policy
from heedful.models.rewards import Reward, judged
from heedful.rollout.engine import NativeEngine, decode
from heedful.rollout.types import Readout, ReadRollout, Rollout, RolloutParams
from heedful.training.batching import records_between
from heedful.training.config.rollout import RolloutConfig, ScoreConfig
from heedful.training.served import Ask, RolloutServer
from heedful.training.state import TrainState, due, mix
from heedful.training.workers import current

SAMPLES_PURPOSE, REFERENCE_PURPOSE, MINIBATCH_PURPOSE, RESAMPLE_PURPOSE, PTX_PURPOSE = 1, 2, 3, 4, 5
PARTNER_PURPOSE = 6
"""What a seed is mixed with, so that no two draws of a run share their numbers."""


class Players(Protocol):
    """Who takes part in every online method."""

    @property
    def policy(self) -> Policy:
        """The policy that is trained."""
        ...

    @property
    def reference(self) -> Policy:
        """The frozen anchor."""
        ...

    @property
    def reward(self) -> Reward:
        """The judge."""
        ...

    @property
    def readout(self) -> Readout | None:
        """What is read off the policy's states as it samples, if anything."""
        ...

    @property
    def server(self) -> RolloutServer | None:
        """Who samples in the policy's place, if anybody."""
        ...


@dataclass(frozen=True)
class OnlineModels:
    """Who takes part where there is no critic: the trained policy, the frozen anchor, and the judge."""

    policy: Policy
    reference: Policy
    reward: Reward
    start: Policy | None = field(default=None, kw_only=True)
    """The policy as it began, where the reference is another or moves."""
    server: RolloutServer | None = field(default=None, kw_only=True)
    """A server that samples in the policy's place."""

    @property
    def readout(self) -> None:
        """Nothing."""
        return None


class Questions:
    """The prompts of a run, as conversations for the judge and as tokens for the policy."""

    def __init__(self, policy: Policy, prompts: Sequence[Prompt]) -> None:
        self.conversations: list[Conversation] = [prompt.prompt for prompt in prompts]
        self.tokens = [render_prompt(policy.tokenizer, conversation) for conversation in self.conversations]

    def __len__(self) -> int:
        return len(self.conversations)


@dataclass(frozen=True)
class Batch:
    """Completions with their scores, K to a prompt: rows `p * K` to `p * K + K - 1` answer the same one."""

    rollout: Rollout
    asked: list[Conversation]  # B
    texts: list[str]  # B
    rewards: Tensor  # [B] float32, as the judge gave them
    scores: Tensor  # [B] float32, what is learnt from: normalised, clamped, less what an answer cut off costs
    samples: int  # K
    measures: dict[str, Tensor]  # [B] float32 each, what else the judge told (`models.rewards.judged`)

    def __len__(self) -> int:
        return len(self.rollout)

    def to(self, device: torch.device | str) -> Batch:
        """The same batch on another device."""
        measures = {name: values.to(device) for name, values in self.measures.items()}
        rewards, scores = self.rewards.to(device), self.scores.to(device)
        return replace(self, rollout=self.rollout.to(device), rewards=rewards, scores=scores, measures=measures)

    def grouped(self, values: Tensor) -> Tensor:
        """[B] values as [P, K], a row for each prompt."""
        return values.view(-1, self.samples)

    def figures(self) -> dict[str, float]:
        """What the batch earned, and what its texts are like: what a watch reads (docs/watch.md)."""
        figures = {"reward": float(self.rewards.mean()), "score": float(self.scores.mean())}
        figures["reward_spread"] = float(self.rewards.std(correction=0))
        figures["reward_90"] = float(torch.quantile(self.rewards, 0.9))
        figures["reward_length_correlation"] = correlation(self.rewards, self.rollout.lengths)
        figures["distinct_2"] = distinct_n(self.texts, 2)
        figures["repetition"] = fmean(self_repetition(text) for text in self.texts)
        figures["top_opening"] = top_opening(self.texts)[1]
        return figures | {name: float(values.mean()) for name, values in self.measures.items()}

    def shown(self, step: int, every: int) -> tuple[dict[str, Any], ...]:
        """The first few completions, where samples are due."""
        rows = range(min(4, len(self.texts))) if due(step, every) else ()
        return tuple(
            {"prompt": self.asked[i][-1].content, "completion": self.texts[i], "reward": float(self.rewards[i])}
            for i in rows
        )


def sample(
    state: TrainState, models: Players, questions: Questions, rollout: RolloutConfig, score: ScoreConfig
) -> Batch:
    """The batch of this step: the next prompts, their completions from the policy's own distribution, scored.

    From a server that samples ahead, the completions are of the policy as it was a step before, but for the first of a
    run or of what goes on; and the next batch is asked for here, with the weights as they stand now.
    """
    server = models.server
    if server is not None:
        server.prepare(state.step)
    batch = answer(models, questions, *drawn(state, state.step, questions, rollout), rollout, score, state.scalars)
    if server is not None and server.settings.overlap:
        server.sync(state.step)
    if server is not None and server.wants_ahead(state.step):
        chosen, seed = drawn(state, state.step + 1, questions, rollout)
        mine = current().block(len(chosen))
        own = [chosen[i] for i in mine]
        server.begin(
            state.step + 1,
            asking(questions, own, seed, rollout, rollout.samples_per_prompt, mine.start) if own else None,
            rollout.max_batch,
        )
    return batch


def drawn(state: TrainState, step: int, questions: Questions, rollout: RolloutConfig) -> tuple[list[int], int]:
    """The prompts of a step, and the seed of their completions."""
    wanted = rollout.prompts_per_step
    chosen = records_between(step * wanted, (step + 1) * wanted, len(questions), state.seed)
    return list(chosen), mix(state.seed, SAMPLES_PURPOSE, step)


def asking(
    questions: Questions, chosen: Sequence[int], seed: int, settings: RolloutConfig, samples: int, first: int
) -> Ask:
    """`complete`'s completions, as a server is asked for them."""
    params = RolloutParams(settings.max_new_tokens, settings.temperature, seed, settings.stop)
    return Ask(tuple(tuple(questions.tokens[i]) for i in chosen), params, samples, first)


def answer(
    models: Players,
    questions: Questions,
    chosen: Sequence[int],
    seed: int,
    settings: RolloutConfig,
    score: ScoreConfig,
    statistics: dict[str, Any],
) -> Batch:
    """Completions of chosen prompts, and their scores. Of several workers each answers some, and all have them all.

    Args:
        chosen: P numbers of prompts.
        seed: of the samples.
        statistics: `reference_statistics`, where scores are normalised.
    """
    team = current()
    mine = team.block(len(chosen))
    own = None
    with team.whole():
        if mine:
            own = _answered(models, questions, [chosen[i] for i in mine], seed, settings, score, statistics, mine.start)
    if own is not None and team.count == 1:
        return own
    parts = [part.to(models.policy.device) for part in team.gathered(own and own.to("cpu")) if part is not None]
    return join(parts, models.policy.pad)


def _answered(
    models: Players,
    questions: Questions,
    chosen: Sequence[int],
    seed: int,
    settings: RolloutConfig,
    score: ScoreConfig,
    statistics: dict[str, Any],
    first: int,
) -> Batch:
    """`answer`, of a worker's share: `first` prompts stand before it."""
    samples = settings.samples_per_prompt
    if models.server is None:
        rollout = complete(models.policy, questions, chosen, seed, settings, samples, models.readout, first)
    else:
        ask = asking(questions, chosen, seed, settings, samples, first)
        rollout = models.server.complete(ask, settings.max_batch)
    texts = decode(models.policy, rollout)
    asked = [questions.conversations[chosen[i]] for i in rollout.prompt_index.tolist()]
    given, told = judged(models.reward, asked, texts)
    rewards = as_scores(given, rollout)
    measures = {name: as_scores(values, rollout) for name, values in told.items()}
    scores = shape_scores(rewards, rollout, texts, score, statistics)
    return Batch(rollout, asked, texts, rewards, scores, samples, measures)


def complete(
    policy: Policy,
    questions: Questions,
    chosen: Sequence[int],
    seed: int,
    settings: RolloutConfig,
    samples: int,
    readout: Readout | None = None,
    first: int = 0,
) -> Rollout:
    """`samples` completions of each chosen prompt, from the policy's own distribution.

    Args:
        first: how many prompts of the whole batch stand before them.
    """
    params = RolloutParams(settings.max_new_tokens, settings.temperature, seed, settings.stop)
    prompts = [questions.tokens[i] for i in chosen]
    return NativeEngine(policy).generate(
        prompts, params, samples_per_prompt=samples, max_batch=settings.max_batch, readout=readout, first=first
    )


def as_scores(scores: Tensor | Sequence[float], rollout: Rollout) -> Tensor:
    """[B] float32 on the rollout's device."""
    return torch.as_tensor(scores, dtype=torch.float32, device=rollout.tokens.device)


def correlation(a: Tensor, b: Tensor) -> float:
    """Pearson's correlation of two [B]; 0 where one of them is constant."""
    x, y = (value.double() - value.double().mean() for value in (a, b))
    spread = float(x.norm() * y.norm())
    return float(x @ y) / spread if spread > 1e-9 else 0.0


def shape_scores(
    raw: Tensor, rollout: Rollout, texts: Sequence[str], config: ScoreConfig, statistics: dict[str, Any]
) -> Tensor:
    """[B]: what is learnt from. The reward up to its ceiling, normalised, bounded, and only then less the penalties.

    Args:
        raw: [B] as the judge gave it.
        statistics: `reference_statistics`, where the settings ask for them (`ScoreConfig.measured`).
    """
    ceiling = statistics.get("score_ceiling") if config.ceiling_quantile > 0 else config.ceiling
    scores = raw if ceiling is None else raw.clamp(max=ceiling)
    if config.normalise == "reference":
        scores = (scores - statistics["score_mean"]) / statistics["score_spread"]
    if config.bound != "none":
        scores = torch.sigmoid(scores) if config.bound == "sigmoid" else logsigmoid(scores)
    if config.clip > 0:
        scores = scores.clamp(-config.clip, config.clip)
    scores = scores - config.missing_eos_penalty * (~rollout.finished).float()
    if config.length_penalty > 0:
        usual = statistics["length_mean"] if config.length_free is None else config.length_free
        scores = scores - config.length_penalty * (rollout.lengths - usual).clamp(min=0) / 100
    if config.repetition_penalty > 0:
        scores = scores - config.repetition_penalty * as_scores([self_repetition(text) for text in texts], rollout)
    return scores


def fix_scale(
    state: TrainState, models: Players, questions: Questions, rollout: RolloutConfig, score: ScoreConfig
) -> None:
    """Once, at the start of a run whose settings need it: measure the judge on the reference's own samples."""
    if score.measured and "score_mean" not in state.scalars:
        team = current()
        with team.whole():
            state.scalars |= team.led(lambda: reference_statistics(state.seed, models, questions, rollout, score))


def reference_statistics(
    seed: int, models: Players, questions: Questions, rollout: RolloutConfig, score: ScoreConfig
) -> dict[str, float]:
    """Mean, spread and ceiling of the reward over the reference's own samples, and their mean length.

    Mean and spread are of what is paid: the reward up to its ceiling. A reward that is constant keeps its spread.
    """
    wanted = max(2, score.normalise_samples)
    chosen = records_between(0, wanted, len(questions), mix(seed, REFERENCE_PURPOSE))
    found = complete(models.reference, questions, chosen, mix(seed, REFERENCE_PURPOSE, 1), rollout, samples=1)
    asked = [questions.conversations[i] for i in chosen]
    scores = as_scores(models.reward(asked, decode(models.reference, found)), found)
    statistics = {"length_mean": float(found.lengths.float().mean())}
    ceiling = score.ceiling
    if score.ceiling_quantile > 0:
        ceiling = statistics["score_ceiling"] = float(torch.quantile(scores, score.ceiling_quantile))
    if ceiling is not None:
        scores = scores.clamp(max=ceiling)
    spread = float(scores.std())
    return statistics | {"score_mean": float(scores.mean()), "score_spread": spread if spread > 1e-6 else 1.0}


def pick(batch: Batch, groups: Sequence[int]) -> Batch:
    """Some prompts of a batch with all their completions, in the order given."""
    rows = [group * batch.samples + k for group in groups for k in range(batch.samples)]
    index = torch.tensor(rows, dtype=torch.int64, device=batch.rollout.tokens.device)
    rollout = Rollout(**{name: getattr(batch.rollout, name)[index] for name in Rollout.__dataclass_fields__})
    asked, texts = [batch.asked[row] for row in rows], [batch.texts[row] for row in rows]
    measures = {name: values[index] for name, values in batch.measures.items()}
    return Batch(rollout, asked, texts, batch.rewards[index], batch.scores[index], batch.samples, measures)


def join(batches: Sequence[Batch], pad: int) -> Batch:
    """Batches one below the other, padded on the right to the widest; `prompt_index` counts on."""
    width = max(batch.rollout.tokens.shape[1] for batch in batches)
    samples = batches[0].samples

    def column(name: str, value: float) -> Tensor:
        parts = [getattr(batch.rollout, name) for batch in batches]
        return torch.cat([pad_columns(part, (0, width - part.shape[1]), value=value) for part in parts])

    finished = torch.cat([batch.rollout.finished for batch in batches])
    index = torch.arange(len(finished), device=finished.device) // samples
    rollout = Rollout(
        column("tokens", pad), column("attention", 0), column("mask", 0), column("logprobs", 0), finished, index
    )
    if all(isinstance(batch.rollout, ReadRollout) for batch in batches):
        rollout = ReadRollout(**vars(rollout), readouts=column("readouts", 0))
    return Batch(
        rollout,
        [asked for batch in batches for asked in batch.asked],
        [text for batch in batches for text in batch.texts],
        torch.cat([batch.rewards for batch in batches]),
        torch.cat([batch.scores for batch in batches]),
        samples,
        {name: torch.cat([batch.measures[name] for batch in batches]) for name in batches[0].measures},
    )
