"""What the figures of "RLHF in pictures" show, read from a finished quickstart and measured on its models."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from math import comb
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer
from heedful.world.world import World

Floats = npt.NDArray[np.float64]

ANSWERS = 64
"""Answers of each policy to each prompt."""
PROMPTS = 64
"""Unseen phrasings that are asked."""
LONGEST = 56
SEED = 20_261
BETAS = (10.0, 3.0, 1.0, 0.5, 0.3, 0.2, 0.1, 0.05, 0.02)
"""KL coefficients whose exact optimum over the drawn answers is shown."""


@dataclass(frozen=True)
class Drawn:
    """A policy's answers to P prompts, K each, with what the reward model and the truth say: [P, K]."""

    answers: tuple[tuple[Answer, ...], ...]
    proxy: Floats
    gold: Floats
    right: Floats  # 1 where it does what was asked rightly, manners left aside


class Quickstart:
    """The folder of a finished quickstart.

    Raises:
        HeedfulError: it is none, or not finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.round = folder, folder / "rounds" / "1"
        if not (self.round / "evaluation" / "summary.json").exists():
            raise HeedfulError("no finished quickstart is there.", where=str(folder), mend="Run: heedful quickstart")
        self.seed = int(yaml.safe_load((folder / "heedful.yaml").read_text("utf-8"))["seed"])
        self.world = World(self.seed)

    def rows(self, stage: str, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        """A stage's rows, one a step."""
        return [json.loads(line) for line in (self.round / stage / name).read_text("utf-8").splitlines()]

    def manifest(self, stage: str) -> dict[str, Any]:
        """What a stage says of itself."""
        return json.loads((self.round / stage / "manifest.json").read_text("utf-8"))

    def comparisons(self) -> tuple[Floats, Floats]:
        """[n] by how many gold points answer a is better, and [n] the share of votes for it."""
        gaps, shares = [], []
        for row in self.rows("comparisons", "preferences.jsonl"):
            asked = tuple(Message(one["role"], one["content"]) for one in row["prompt"])
            gaps.append(self.world.gold(asked, row["a"]) - self.world.gold(asked, row["b"]))
            shares.append(row["probability"])
        return np.array(gaps), np.array(shares)

    def votes_right(self) -> tuple[float, float]:
        """How often a single vote, and the majority of a pair's, names the truly better answer; equal ones left out."""
        gaps, shares = self.comparisons()
        better = np.where(gaps > 0, shares, 1 - shares)[gaps != 0]
        return float(better.mean()), float((better > 0.5).mean())

    @cached_property
    def asked(self) -> list[Conversation]:
        """Unseen phrasings, spread over the world's topics."""
        found = [one.prompt for one in self.world.prompts("phrasing")]
        return found[:: max(1, len(found) // PROMPTS)][:PROMPTS]

    def draw(self, stage: str) -> Drawn:
        """Answers of a stage's policy, judged by the reward model and by the truth."""
        from heedful.evaluation.sampling import sample
        from heedful.models.policy import load_policy
        from heedful.models.rewards import load_reward
        from heedful.rollout.types import RolloutParams

        policy, reward = load_policy(self.round / stage), load_reward(str(self.round / "reward"))
        found = sample(policy, self.asked, RolloutParams(LONGEST, seed=SEED), samples_per_prompt=ANSWERS).answers
        flat = [answer for answers in found for answer in answers]
        prompts = [prompt for prompt in self.asked for _ in range(ANSWERS)]
        proxy = np.asarray(reward(prompts, [answer.text for answer in flat]), dtype=np.float64)
        gold = self.world.golds(prompts, [a.text for a in flat], [a.finished for a in flat])
        right = np.array([self.world.correct(p, a.text) for p, a in zip(prompts, flat, strict=True)], dtype=np.float64)
        return Drawn(found, *(values.reshape(-1, ANSWERS) for values in (proxy, gold, right)))


def best_of(proxy: Floats, value: Floats, n: int) -> float:
    """Mean value of the answer with the highest proxy among n, over all choices of n of the K drawn: exact, no noise.

    The answer of rank r from below (0 the lowest) is the best of n with probability C(r, n-1) / C(K, n).

    Args:
        proxy, value: [P, K].
    """
    order = np.argsort(proxy, axis=1, kind="stable")
    ranked = np.take_along_axis(value, order, axis=1)
    k = proxy.shape[1]
    chance = np.array([float(comb(rank, n - 1)) for rank in range(k)])
    return float((ranked * (chance / chance.sum())).sum(1).mean())


def kl_of_best(n: int) -> float:
    """KL of best-of-n from what is drawn from, in nats (Stiennon et al. 2020): log n - (n - 1) / n."""
    return float(np.log(n) - (n - 1) / n)


def tilted(proxy: Floats, value: Floats, beta: float) -> tuple[float, float]:
    """The optimum of reward less β KL over the drawn answers: its mean value, and its KL in nats.

    Each of a prompt's K draws weighs 1/K before and in proportion to exp(proxy / β) after (Rafailov et al. 2023,
    equation 4).

    Args:
        proxy, value: [P, K].
    """
    logit = proxy / beta
    weight = np.exp(logit - logit.max(1, keepdims=True))
    weight /= weight.sum(1, keepdims=True)
    kl = (weight * np.log(np.maximum(weight * proxy.shape[1], 1e-300))).sum(1)
    return float((weight * value).sum(1).mean()), float(kl.mean())
