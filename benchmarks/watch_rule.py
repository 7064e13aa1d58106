"""How often does the rule of the watch stop an equal policy, and how soon one whose gold falls? Simulated checks.

    .venv/bin/python benchmarks/watch_rule.py              # a few minutes of one core
    .venv/bin/python benchmarks/watch_rule.py --runs 1000

A run has a best and ten checks after it; at each of them raters compare the policy's answers with the best's. Who wins
a pair is drawn from a logistic law: how good either answer happened to be (a standard deviation of 1 logit), a taste of
the rater for the one or the other policy (0.3), and how far the policy has fallen. The best's answers are of four sets
in turn, as in a run. Contests, the sequential test and the rule are heedful's own.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from watch_replay import apart

from heedful.core.sequential import SequentialTest
from heedful.core.statistics import wilson
from heedful.data.records import Message
from heedful.monitoring.checks import Check, Reply, Vote, contest, rule

SETS = 4
FALLS: dict[str, Sequence[float]] = {
    "equal to the best": [0.0] * 10,
    "0.3 logits worse throughout": [0.3] * 10,
    "falls slowly to 0.6": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6],
    "falls fast to 2": [0.4, 0.8, 1.2, 1.6, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0],
}


@dataclass(frozen=True)
class Crowd:
    """Who judges what: prompts of a check, and raters, each with a taste of so many logits.

    `topic` prompts each are about one thing, and answers to them as good as each other; `told` is whether the checks
    are told which (`watch.gold.cluster`).
    """

    prompts: int = 100
    raters: int = 8
    taste: float = 0.3
    topic: int = 1
    told: bool = True

    def good(self, dice: np.random.Generator, *sets: int) -> np.ndarray:
        """[*sets, prompts] how good answers happen to be."""
        own = dice.normal(0, 1, (*sets, -(-self.prompts // self.topic)))
        return np.repeat(own, self.topic, axis=-1)[..., : self.prompts]

    def __str__(self) -> str:
        topics = f", {self.topic} on each topic{'' if self.told else ' (not told)'}" if self.topic > 1 else ""
        tastes = "" if self.taste == Crowd.taste else f" of strong tastes ({self.taste})"
        return f"{self.prompts} prompts{topics}, {self.raters} raters{tastes}"


CROWDS = (
    Crowd(),
    Crowd(prompts=200),
    Crowd(raters=4),
    Crowd(raters=20),
    Crowd(raters=20, taste=0.8),
    Crowd(topic=3, told=False),
    Crowd(topic=3),
    Crowd(topic=10, told=False),
    Crowd(topic=10),
)


def play(falls: Sequence[float], seed: int, crowd: Crowd) -> list[Check]:
    """The checks of a run against one best, until one finds the policy better."""
    dice = np.random.default_rng(seed)
    best, tastes = crowd.good(dice, SETS), dice.normal(0, crowd.taste, crowd.raters)
    topics = [i // crowd.topic for i in range(crowd.prompts)] if crowd.told else None
    prompts: list[Any] = [(Message("user", str(i)),) for i in range(crowd.prompts)]
    ours = [Reply(str(i), True, 1.0 + 0.01 * (i % 5)) for i in range(crowd.prompts)]
    theirs = [Reply(str(i), True, 0.0) for i in range(crowd.prompts)]
    checks: list[Check] = []
    for number, fall in enumerate(falls):
        own = crowd.good(dice)

        def judge(asked: Any, a: Sequence[Reply], b: Any, own: Any = own, n: int = number, fall: float = fall) -> Any:
            rows, who = [int(reply.text) for reply in a], dice.integers(crowd.raters, size=len(a))
            chance = 1 / (1 + np.exp(-(own[rows] - best[n % SETS, rows] - fall + tastes[who])))
            return [[Vote(float(w), f"rater {r}")] for w, r in zip(dice.random(len(a)) < chance, who, strict=True)]

        found = contest(judge, prompts, ours, theirs, SequentialTest(), block=20, seed=number, clusters=topics)
        if found.verdict == "better":
            break
        checks.append(Check(2 + number, 2.0, 1, found, found))
    return checks


def stopped_at(checks: Sequence[Check], *, together: bool) -> int | None:
    """The number of the check, from 1, after which the rule stopped the run; `together` as in `watch_replay.ruled`."""
    made = checks if together else [apart(check) for check in checks]
    return next((n for n in range(1, len(made) + 1) if rule(made[:n], 1).stop), None)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="of each row")
    runs = parser.parse_args().runs
    print("| the policy | crowd | two in a row | median check | the whole rule | median check |\n" + "|---" * 6 + "|")
    for name, falls in FALLS.items():
        for crowd in CROWDS:
            made = [play(falls, seed, crowd) for seed in range(runs)]
            cells = []
            for together in (False, True):
                at = [n for checks in made if (n := stopped_at(checks, together=together)) is not None]
                share = wilson(len(at), runs)
                cells.append(f"{share.mean:.0%} ({share.low:.0%} to {share.high:.0%})")
                cells.append(f"{np.median(at):.0f}" if at else "–")
            print(f"| {name} | {crowd} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
