"""Whether a judge's planted bias is found and taken out, on the embedded world: rates over seeds.

    python benchmarks/judge_bias.py --seeds 20

An oracle judge (`tests/oracle_judge.py`) knows the world's truth, with an error and biases of its own, and answers in
the chat-completions format. Two simulated raters vote on two thirds of the pairs; the labels of the other third, which
nobody voted on, are held against the probability with which an unbiased rater prefers a. Prints a line for each judge:
how often each bias was found (its 95% interval leaves 0 out), the squared error of the judge's own labels, of labels
whose scale alone was fitted, and of corrected ones, and what its label is worth beside what it truly is.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from heedful.data.records import Conversation
from heedful.evaluation.judges import JudgeCard, ScoredPair, features
from heedful.feedback.ai.asks import Ask, Failure, Reply
from heedful.feedback.ai.budget import Prices
from heedful.feedback.ai.material import Case
from heedful.feedback.ai.ways import LogprobWay, Manner
from heedful.feedback.ai.wires import read_answer
from heedful.pipeline.judge_cases import PeopleSaid
from heedful.pipeline.judging import Panelist, cards_of, judge_all
from heedful.world.language import Dice
from heedful.world.raters import NOISE, Rater, judge, panel
from heedful.world.web import demonstration
from heedful.world.world import World
from oracle_judge import OracleJudge
from scripted_server import Say, completion

JUDGES = {
    "fair": Rater("fair", noise=1.0),
    "position": Rater("position", noise=1.0, position_bias=1.5),
    "length": Rater("length", noise=1.0, length_bias=1.5),
}


class InProcess:
    """The oracle's answers as bytes of the chat-completions format, without a socket between."""

    def __init__(self, oracle: OracleJudge) -> None:
        self.oracle = oracle

    def ask(self, asks: Iterable[Ask]) -> Iterator[tuple[int, Reply | Failure]]:
        """See `Asker`."""
        for number, ask in enumerate(asks):
            messages = [{"role": one.role, "content": one.content} for one in ask.messages]
            given = {"model": "oracle", "messages": messages, "logprobs": True, "top_logprobs": ask.top_logprobs}
            say = self.oracle(given, 0)
            assert isinstance(say, Say)
            got = read_answer(json.dumps(completion(say, given)).encode(), "oracle", Prices())
            assert isinstance(got, Reply)
            yield number, got


@dataclass(frozen=True)
class Trial:
    """One judge in one world."""

    card: JudgeCard
    own: float
    scaled: float
    corrected: float
    worth: float
    """True: people's noise over the corrected label's squared error, on the pairs that nobody voted on."""


def pairs_of(world: World, count: int, seed: int) -> list[tuple[Conversation, str, str]]:
    """Two different demonstrations to one prompt each."""
    dice, random, prompts = Dice([seed, 1]), np.random.default_rng([seed, 2]), world.prompts("train")
    found: dict[tuple[Conversation, str, str], None] = {}
    while len(found) < count:
        prompt = prompts[random.integers(len(prompts))].prompt
        topic = world.topic_of(prompt)
        a, b = (demonstration(dice, topic, world.topics) for _ in range(2))
        if a != b and (prompt, b, a) not in found:
            found[prompt, a, b] = None
    return list(found)


def trial(rater: Rater, seed: int, count: int, *, error: float = 1.0, way: LogprobWay | None = None) -> Trial:
    """Judge, measure and correct."""
    world = World(seed)
    pairs = pairs_of(world, count, seed)
    voted = count * 2 // 3
    votes = judge(world, pairs[:voted], panel(), votes=2, seed=seed)
    people = PeopleSaid()
    for (prompt, a, b), row in zip(pairs[:voted], votes.for_a, strict=True):
        for vote in row:
            people.add(prompt, a, b, float(vote))
    cases = [Case(prompt, (a, b)) for prompt, a, b in pairs]
    one = Panelist("oracle", InProcess(OracleJudge(world, rater, error, seed)), way or LogprobWay(Manner()))
    judged = judge_all([one], cases, tell=lambda *_: None, keep=lambda *_: None)
    found, card = cards_of([one], judged, people, PeopleSaid())["oracle"]
    unseen = found.pairs[voted:]
    gap = np.array([world.gold(p, a) - world.gold(p, b) for p, a, b in pairs[voted:]])
    true = 1 / (1 + np.exp(-gap / NOISE))
    assert card.correction is not None
    table, names = features(found.pairs)
    kept = table[voted:, [names.index(name) for name in card.names]]
    score = np.array([pair.score for pair in unseen])
    corrected = card.correction.probability(score, kept)
    error_ = float(np.mean((corrected - true) ** 2))
    return Trial(
        card,
        float(np.mean((1 / (1 + np.exp(-score)) - true) ** 2)),
        _scaled(found.pairs[:voted], score, true),
        error_,
        float(np.mean(true * (1 - true))) / error_,
    )


def _scaled(voted: list[ScoredPair], score: np.ndarray, true: np.ndarray) -> float:
    from heedful.core.judge_correction import fit_correction
    from heedful.evaluation.judges import overlap_of

    fitted = fit_correction(overlap_of(voted, np.zeros((len(voted), 0))))
    return float(np.mean((fitted.probability(score, np.zeros((len(score), 0))) - true) ** 2))


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--pairs", type=int, default=600)
    given = parser.parse_args()
    for name, rater in JUDGES.items():
        rows = [trial(rater, seed, given.pairs) for seed in range(given.seeds)]
        length = [row.card.bias["length"] for row in rows]
        position = [row.card.position for row in rows]
        worth = [row.card.worth for row in rows]
        assert all(one is not None for one in (*length, *position, *worth))
        print(
            f"{name:9} length found {np.mean([one.low > 0 or one.high < 0 for one in length if one]):.2f}"
            f" (mean {np.mean([one.mean for one in length if one]):+.2f})"
            f"  position found {np.mean([abs(one.mean) > 1e-9 and (one.low > 0 or one.high < 0) for one in position if one]):.2f}"  # noqa: E501
            f" (mean {np.mean([one.mean for one in position if one]):+.2f})"
            f"  same in both orders {np.mean([row.card.consistency.mean for row in rows if row.card.consistency]):.2f}"
            f"  squared error: own {np.mean([row.own for row in rows]):.4f},"
            f" scaled {np.mean([row.scaled for row in rows]):.4f},"
            f" corrected {np.mean([row.corrected for row in rows]):.4f}"
            f"  corrected is better in {np.mean([row.corrected < row.scaled for row in rows]):.2f}"
            f"  worth {np.median([one.labels.mean for one in worth if one]):.1f}"
            f" (true {np.median([row.worth for row in rows]):.1f}, covered"
            f" {np.mean([one.labels.low <= row.worth <= one.labels.high for one, row in zip(worth, rows, strict=True) if one]):.2f})"  # noqa: E501
        )


if __name__ == "__main__":
    main()
