"""What the embedded world's truth says of the trained policies and reward models."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.data.records import Conversation
from heedful.evaluation.accuracy import RewardAccuracy, reward_accuracy
from heedful.evaluation.compare import Answer, Comparison, compare
from heedful.evaluation.sampling import Divergence, Sampled, divergence, sample
from heedful.evaluation.text import TextStatistics, describe
from heedful.models.policy import Policy
from heedful.models.rewards import Reward
from heedful.pipeline.embedded import Embedded, gold_judge
from heedful.pipeline.report_data import MethodRow
from heedful.rollout.types import RolloutParams
from heedful.training.state import mix
from heedful.world.splits import Split

SPLITS: tuple[Split, ...] = ("train", "phrasing", "fact")
SPLIT_NAMES = {"train": "prompts trained on", "phrasing": "unseen phrasings", "fact": "facts never judged"}
TRAIN_PROMPTS = 200


@dataclass(frozen=True)
class Examined:
    """One policy's answers to the prompts of one split."""

    prompts: list[Conversation]
    clusters: list[str]
    sampled: Sampled

    def flat(self) -> tuple[list[Conversation], list[str], list[Answer]]:
        """Prompt, cluster and answer, one row an answer."""
        rows = [
            (p, c, a)
            for p, c, answers in zip(self.prompts, self.clusters, self.sampled.answers, strict=True)
            for a in answers
        ]
        return [r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows]


def examine(run: Embedded, policy: Policy, split: Split, purpose: int, samples: int | None = None) -> Examined:
    """Sample answers to a split's prompts; `purpose` keeps the random streams of two policies apart."""
    found = run.world.prompts(split)
    if split == "train":
        found = found[:: max(1, len(found) // TRAIN_PROMPTS)][:TRAIN_PROMPTS]
    prompts = [prompt.prompt for prompt in found]
    params = RolloutParams(run.settings.max_new_tokens, seed=mix(run.seed, 20, purpose))
    answers = sample(policy, prompts, params, samples_per_prompt=samples or run.settings.evaluation_samples)
    return Examined(prompts, [prompt.topic for prompt in found], answers)


def by_gold(run: Embedded, policy: Examined, baseline: Examined, names: tuple[str, str]) -> Comparison:
    """Policy against baseline, answer by answer, judged by the world's truth."""
    return compare(
        policy.prompts,
        lambda prompts: policy.sampled.answers,
        lambda prompts: baseline.sampled.answers,
        {"gold": gold_judge(run.world)},
        policy_name=names[0],
        baseline_name=names[1],
        clusters=policy.clusters,
        seed=run.seed,
    )


def correctness(run: Embedded, examined: Examined) -> Interval:
    """Share of answers that do what was asked rightly, manners left aside."""
    prompts, clusters, answers = examined.flat()
    right = [float(run.world.correct(p, a.text)) for p, a in zip(prompts, answers, strict=True)]
    return cluster_bootstrap(np.array(right), np.array(clusters), seed=run.seed)


def proxy_accuracy(run: Embedded, reward: Reward, examined: Examined) -> RewardAccuracy:
    """How often a reward names the truly better of two answers to one prompt; gold ties are left out."""
    rows = [
        (prompt, cluster, answers[i], answers[i + 1])
        for prompt, cluster, answers in zip(examined.prompts, examined.clusters, examined.sampled.answers, strict=True)
        for i in range(0, len(answers) - 1, 2)
    ]
    prompts = [row[0] for row in rows]
    a, b = [row[2] for row in rows], [row[3] for row in rows]
    judge = gold_judge(run.world)
    gap = np.array(judge(prompts, a)) - np.array(judge(prompts, b))
    return reward_accuracy(
        np.asarray(reward(prompts, [answer.text for answer in a]), dtype=float),
        np.asarray(reward(prompts, [answer.text for answer in b]), dtype=float),
        0.5 * (1 + np.sign(gap)),
        lengths_a=[answer.tokens for answer in a],
        lengths_b=[answer.tokens for answer in b],
        clusters=[row[1] for row in rows],
        seed=run.seed,
    )


@dataclass(frozen=True)
class Standing:
    """One policy on one split, held to the SFT model (`comparison` is None for the SFT model itself)."""

    method: str
    split: str
    comparison: Comparison | None
    correct: Interval
    gold: Interval
    divergence: Divergence
    text: TextStatistics

    def row(self) -> MethodRow:
        """The same, as a row of the report."""
        return MethodRow(
            method=self.method,
            split=SPLIT_NAMES[self.split],
            win_rate=self.comparison.verdict.win_rate.rate if self.comparison else None,
            correct=self.correct,
            gold=self.gold,
            kl=self.divergence.kl,
            words=self.text.mean_words,
            distinct_2=self.text.distinct_2,
            entropy=self.divergence.entropy,
        )


def stand(
    run: Embedded,
    method: str,
    split: str,
    policy: Policy,
    reference: Policy,
    own: Examined,
    baseline: Examined,
) -> Standing:
    """Everything the truth says of one policy on one split."""
    prompts, clusters, answers = own.flat()
    gold = np.array(gold_judge(run.world)(prompts, answers))
    moved = divergence(policy, reference, own.sampled.rollout, clusters=clusters, seed=run.seed)
    comparison = None if own is baseline else by_gold(run, own, baseline, (method, "SFT"))
    return Standing(
        method,
        split,
        comparison,
        correctness(run, own),
        cluster_bootstrap(gold, np.array(clusters), seed=run.seed),
        moved,
        describe([answer.text for answer in answers], [answer.finished for answer in answers]),
    )
