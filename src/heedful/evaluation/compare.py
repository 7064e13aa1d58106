"""Put the same prompts to two policies, judge their answers, and keep everything in one record.

Nothing here needs torch: policies come as `generate` callables (see `heedful.evaluation.sampling`), judges
as functions from prompts and answers to scores.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

from heedful.core.statistics import Interval, cluster_bootstrap
from heedful.core.text import words
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.text import TextStatistics, describe
from heedful.evaluation.winrate import WinRate, cluster_index, length_controlled_win_rate, outcomes, win_rate
from heedful.files import write_json


@dataclass(frozen=True, slots=True)
class Answer:
    """A sampled completion: its text, whether it ended by itself, and its length in tokens."""

    text: str
    finished: bool
    tokens: int


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """An answer with its score by each judge."""

    text: str
    finished: bool
    tokens: int
    scores: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two answers to one prompt. `cluster` names the fact or topic that the prompt is about."""

    prompt: Conversation
    cluster: str
    policy: ScoredAnswer
    baseline: ScoredAnswer


@dataclass(frozen=True)
class JudgeVerdict:
    """What one judge says of the two sides; all intervals resample clusters.

    `by_prompt` is the win rate's interval with prompts instead of clusters resampled: much narrower means
    that answers on one topic stand or fall together, and that the wider one is to be trusted.
    `length_controlled` is the rate as it would be at equal length (`winrate.length_controlled_win_rate`).
    """

    win_rate: WinRate
    by_prompt: Interval
    length_controlled: Interval
    policy_mean: Interval
    baseline_mean: Interval
    gain: Interval


@dataclass(frozen=True)
class Comparison:
    """A policy against a baseline on the same prompts: every pair, and what each judge makes of it.

    `judge` names the judge that headlines go by; `verdict` is its.
    """

    policy: str
    baseline: str
    judge: str
    prompts: int
    verdicts: Mapping[str, JudgeVerdict]
    policy_text: TextStatistics
    baseline_text: TextStatistics
    pairs: tuple[Pair, ...]

    @property
    def verdict(self) -> JudgeVerdict:
        """What the main judge says."""
        return self.verdicts[self.judge]

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the record as JSON, atomically."""
        write_json(path, self.as_dict())


Generate: TypeAlias = Callable[[Sequence[Conversation]], Sequence[Sequence[Answer]]]
"""Prompts to K answers each, in the order of the prompts."""

Judge: TypeAlias = Callable[[Sequence[Conversation], Sequence[Answer]], Sequence[float]]
"""Prompts and as many answers to one score each; higher is better."""

Reward: TypeAlias = Callable[[Sequence[Conversation], Sequence[str]], Any]
"""A reward: prompts and texts to scores (a sequence of floats, an array or a tensor)."""


def judge_by(reward: Reward) -> Judge:
    """A judge that scores answers by a reward, which sees their text alone."""

    def judge(prompts: Sequence[Conversation], answers: Sequence[Answer]) -> Sequence[float]:
        scores = reward(prompts, [answer.text for answer in answers])
        return scores.tolist() if hasattr(scores, "tolist") else [float(score) for score in scores]

    return judge


def compare(
    prompts: Sequence[Conversation],
    policy: Generate,
    baseline: Generate,
    judges: Mapping[str, Judge],
    *,
    policy_name: str,
    baseline_name: str,
    clusters: Sequence[str] | None = None,
    seed: int = 0,
) -> Comparison:
    """Sample both policies on the same prompts and judge the answers pair by pair.

    Answer k of the policy to a prompt meets answer k of the baseline to it. Each judge scores every answer
    on its own; ties count half.

    Args:
        prompts: the conversations to answer, each once.
        policy, baseline: prompts -> K answers each; K is the same for both.
        judges: by name; the first is the one that headlines go by.
        policy_name, baseline_name: what to call the two in tables.
        clusters: [P] the fact or topic of each prompt; None resamples prompts (`prompt_key`).
        seed: of the bootstrap.

    Raises:
        HeedfulError: fewer than two clusters, no judge, a policy that answered too few or too many times,
            or a judge whose scores do not fit the answers or are not finite.
    """
    groups = list(clusters) if clusters is not None else [prompt_key(prompt) for prompt in prompts]
    if len(groups) != len(prompts):
        raise HeedfulError(f"{len(prompts)} prompts but {len(groups)} clusters.", mend="Name one cluster a prompt.")
    if len(set(groups)) < 2:
        raise HeedfulError(
            f"a comparison needs prompts of at least two clusters, and there are {len(set(groups))}.",
            mend="Give more prompts: a hundred or more make an interval worth reading.",
        )
    if not judges:
        raise HeedfulError("a comparison needs a judge.", mend="Name a reward model or a 'module:function'.")
    ours = _answers(policy, prompts, policy_name)
    theirs = _answers(baseline, prompts, baseline_name)
    if len(ours[0]) != len(theirs[0]):
        raise HeedfulError(
            f"{policy_name} answered {len(ours[0])} times a prompt, {baseline_name} {len(theirs[0])} times.",
            mend="Sample both equally often.",
        )
    flat = [prompt for prompt, answers in zip(prompts, ours, strict=True) for _ in answers]
    spread = [group for group, answers in zip(groups, ours, strict=True) for _ in answers]
    mine = _scored(flat, [answer for answers in ours for answer in answers], judges)
    other = _scored(flat, [answer for answers in theirs for answer in answers], judges)
    pairs = tuple(Pair(*row) for row in zip(flat, spread, mine, other, strict=True))
    main = next(iter(judges))
    return judged(pairs, judge=main, policy_name=policy_name, baseline_name=baseline_name, seed=seed)


def judged(pairs: Sequence[Pair], *, judge: str, policy_name: str, baseline_name: str, seed: int = 0) -> Comparison:
    """The comparison that scored pairs amount to, `judge` being the one that headlines go by.

    Raises:
        ValueError: fewer than two clusters, or a pair that lacks a judge's score, the main one's among them.
    """
    names = dict.fromkeys([judge, *pairs[0].policy.scores])
    verdicts = {name: _verdict(name, pairs, seed) for name in names}
    return Comparison(
        policy=policy_name,
        baseline=baseline_name,
        judge=judge,
        prompts=len({pair.prompt for pair in pairs}),
        verdicts=verdicts,
        policy_text=describe([p.policy.text for p in pairs], [p.policy.finished for p in pairs]),
        baseline_text=describe([p.baseline.text for p in pairs], [p.baseline.finished for p in pairs]),
        pairs=tuple(pairs),
    )


def _answers(generate: Generate, prompts: Sequence[Conversation], name: str) -> Sequence[Sequence[Answer]]:
    answers = generate(prompts)
    counts = {len(found) for found in answers}
    if len(answers) != len(prompts) or len(counts) != 1 or 0 in counts:
        raise HeedfulError(
            f"{name} must answer each of {len(prompts)} prompts equally often, at least once; it gave "
            f"answers to {len(answers)} prompts, {sorted(counts)} each.",
            mend="Make its generate() return one list of K answers per prompt.",
        )
    return answers


def _scored(
    prompts: Sequence[Conversation], answers: Sequence[Answer], judges: Mapping[str, Judge]
) -> list[ScoredAnswer]:
    scores: dict[str, list[float]] = {}
    for name, judge in judges.items():
        found = [float(score) for score in judge(prompts, answers)]
        if len(found) != len(answers) or not all(math.isfinite(score) for score in found):
            raise HeedfulError(
                f"the judge {name!r} gave {len(found)} scores for {len(answers)} answers, "
                f"{sum(not math.isfinite(score) for score in found)} of them not finite.",
                mend="A judge returns one finite number per answer.",
            )
        scores[name] = found
    return [
        ScoredAnswer(answer.text, answer.finished, answer.tokens, {name: scores[name][i] for name in scores})
        for i, answer in enumerate(answers)
    ]


def _verdict(name: str, pairs: Sequence[Pair], seed: int) -> JudgeVerdict:
    missing = sum(name not in pair.policy.scores or name not in pair.baseline.scores for pair in pairs)
    if missing:
        raise ValueError(f"{missing} pair(s) lack a score by {name!r}")
    ours = [pair.policy.scores[name] for pair in pairs]
    theirs = [pair.baseline.scores[name] for pair in pairs]
    longer = [len(words(pair.policy.text)) - len(words(pair.baseline.text)) for pair in pairs]
    clusters = [pair.cluster for pair in pairs]
    index = cluster_index(clusters, len(pairs))
    gains = [a - b for a, b in zip(ours, theirs, strict=True)]
    return JudgeVerdict(
        win_rate=win_rate(ours, theirs, clusters, seed=seed),
        by_prompt=win_rate(ours, theirs, [prompt_key(pair.prompt) for pair in pairs], seed=seed).rate,
        length_controlled=length_controlled_win_rate(outcomes(ours, theirs), longer, clusters, seed=seed),
        policy_mean=cluster_bootstrap(ours, index, seed=seed),
        baseline_mean=cluster_bootstrap(theirs, index, seed=seed),
        gain=cluster_bootstrap(gains, index, seed=seed),
    )
