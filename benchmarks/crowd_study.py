"""Crowds of known truth: are raters' reliabilities and biases found again, and is the consensus better than a vote?

    python benchmarks/crowd_study.py                  # the table of docs/consensus.md, about four minutes on one core
    python benchmarks/crowd_study.py --seeds 3 --crowds "8 spammers" "5 adversaries"

24 raters, 400 pairs, at 1, 2, 3, 5 and 9 judgments a pair. Score differences are normal with standard deviation 1, ties
have Davidson's nu at one half. Figures are means over the seeds with 95% intervals (Student's).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from heedful.core.consensus import by_dawid_skene, by_mace, majority, share
from heedful.core.crowd import Judgments, judgments
from heedful.core.rater_aware import RaterAware, rater_aware
from heedful.core.statistics import t_interval

Floats = NDArray[np.float64]
RATERS, PAIRS, GOLD = 24, 400, 40
TIE = np.log(0.5)
"""Of Davidson's nu: about one vote in six of an honest rater is a tie."""
EACH = (1, 2, 3, 5, 9)
TWO = "two groups, 16 and 8"
PLENTY = 6000
"""Pairs, nine judgments each, from which the model's own view of two groups is read."""


@dataclass(frozen=True)
class Truth:
    """What a simulated crowd is made of."""

    slope: Floats
    position: Floats
    length: Floats
    """[raters] bias for the longer answer."""
    score: Floats
    """[pairs] difference for a, gold pairs left out: what most raters go by."""
    probability: Floats
    """[pairs] that a rater who does their work, of any group, prefers a, position and length set aside."""
    larger: NDArray[np.bool_]
    """[raters] who go by `score`."""


@dataclass(frozen=True)
class Crowd:
    """How raters are made: slope, position and length bias [raters], how many are of a second group, gold or none."""

    slope: Callable[[], Floats]
    position: Callable[[], Floats] = lambda: np.zeros(RATERS)
    length: Callable[[], Floats] = lambda: np.zeros(RATERS)
    second_group: int = 0
    gold: bool = False


def _some(count: int, special: float, others: float) -> Callable[[], Floats]:
    return lambda: np.where(np.arange(RATERS) < count, special, others).astype(np.float64)


CROWDS = {
    "experts": Crowd(_some(RATERS, 4.0, 0)),
    "honest noise": Crowd(lambda: np.linspace(0.5, 3.0, RATERS)),
    "8 position-biased": Crowd(_some(0, 0, 2.0), position=_some(8, 2.0, 0.0)),
    "8 length-biased": Crowd(_some(0, 0, 2.0), length=_some(8, 2.0, 0.0)),
    "8 spammers": Crowd(_some(8, 0.0, 2.0)),
    "8 spammers, gold": Crowd(_some(8, 0.0, 2.0), gold=True),
    "5 adversaries": Crowd(_some(5, -2.0, 2.0)),
    "all length-biased": Crowd(_some(0, 0, 2.0), length=_some(RATERS, 1.0, 0.0)),
    "all length-biased, gold": Crowd(_some(0, 0, 2.0), length=_some(RATERS, 1.0, 0.0), gold=True),
    TWO: Crowd(_some(0, 0, 2.0), second_group=8),
}


def simulate(crowd: Crowd, each: int, seed: int, *, pairs: int = PAIRS) -> tuple[Judgments, Truth]:
    """Judgments of a crowd with `each` a pair, and what is true of it.

    With gold, 40 pairs more whose truth is known, half of them alike but for length, of which each rater judges ten.
    """
    random = np.random.default_rng([seed, each])
    slope, position, length = crowd.slope(), crowd.position(), crowd.length()
    extra = GOLD if crowd.gold else 0
    score = random.normal(size=pairs + extra)
    score[pairs : pairs + extra // 2] = 0.0
    other = 0.2 * score + np.sqrt(1 - 0.2**2) * random.normal(size=len(score))
    gap = np.tanh(random.normal(size=len(score)))
    item = [np.repeat(np.arange(pairs), each)]
    rater = [np.concatenate([random.choice(RATERS, each, replace=False) for _ in range(pairs)])]
    if extra:
        item += [pairs + random.choice(extra, 10, replace=False) for _ in range(RATERS)]
        rater.append(np.repeat(np.arange(RATERS), 10))
    which, who = np.concatenate(item), np.concatenate(rater)
    order = random.choice([-1.0, 1.0], size=len(which))
    seen = np.where(who >= RATERS - crowd.second_group, other[which], score[which])  # of another taste
    eta = slope[who] * seen + position[who] * order + length[who] * gap[which]
    vote = _drawn(eta, random)
    gold = {pairs + i: float(np.sign(score[pairs + i])) for i in range(extra)}
    careful = np.median(slope)
    first = _prefers(careful * score[:pairs])
    second = _prefers(careful * other[:pairs])
    part = crowd.second_group / RATERS
    data = judgments(which, who, vote, order=order, length=gap[which], gold=gold)
    larger = np.arange(RATERS) < RATERS - crowd.second_group
    return data, Truth(slope, position, length, score[:pairs], (1 - part) * first + part * second, larger)


def _drawn(eta: Floats, random: np.random.Generator) -> Floats:
    weights = np.exp(np.stack([eta / 2, np.full_like(eta, TIE), -eta / 2]))
    reached = np.cumsum(weights / weights.sum(0), axis=0)
    return np.array([1.0, 0.0, -1.0])[(random.random(len(eta)) > reached).sum(0).clip(0, 2)]


def _prefers(eta: Floats) -> Floats:
    up, down = np.exp(eta / 2), np.exp(-eta / 2)
    return (up + np.exp(TIE) / 2) / (up + down + np.exp(TIE))


def right(probability: Floats, truth: Truth) -> float:
    """Share of pairs of which the better answer is told, a tie counting half."""
    guess = np.sign(probability[: len(truth.score)] - 0.5)
    return float(np.mean((guess * np.sign(truth.score) + 1) / 2))


def error(probability: Floats, truth: Truth) -> float:
    """Root mean square error of a probability as a training label."""
    return float(np.sqrt(np.mean((probability[: len(truth.score)] - truth.probability) ** 2)))


def covered(found: RaterAware, truth: Truth, kind: str) -> float:
    """Share of raters whose true figure lies in the 95% interval; without gold of a length bias what they differ in."""
    given, true = getattr(found, kind), getattr(truth, kind)
    if kind == "length" and np.isnan(found.shared_length):
        true = true - true.mean()
    held = np.abs(given.value - true) <= 1.959964 * given.error
    return float(np.mean(held[truth.larger] if kind == "slope" else held))


def measure(crowd: Crowd, each: int, seed: int) -> dict[str, float]:
    """Every figure of one simulated crowd."""
    data, truth = simulate(crowd, each, seed)
    found = rater_aware(data)
    if not found.consensus.converged:
        raise SystemExit(f"not converged at seed {seed}, {each} each")
    votes, aware = share(data), found.consensus
    return {
        "majority": right(majority(data).probability, truth),
        "dawid-skene": right(by_dawid_skene(data).consensus.posterior, truth),
        "mace": right(by_mace(data).consensus.posterior, truth),
        "rater-aware": right(aware.posterior, truth),
        "label error, share": error(votes.probability, truth),
        "label error, rater-aware": error(aware.probability, truth),
        "slope, coverage": covered(found, truth, "slope"),
        "slope, error": float(np.sqrt(np.mean((found.slope.value - truth.slope)[truth.larger] ** 2))),
        "position, coverage": covered(found, truth, "position"),
        "length, coverage": covered(found, truth, "length"),
        "told": float(np.mean(found.slope.identified)),
    }


COLUMNS = ("majority", "dawid-skene", "mace", "rater-aware")


def line(name: str, each: int, rows: list[dict[str, float]]) -> str:
    """A row of the table."""

    def said(key: str, scale: float = 100, digits: int = 1) -> str:
        found = t_interval([row[key] * scale for row in rows])
        return f"{found.mean:.{digits}f} ±{found.high - found.mean:.{digits}f}"

    gain = t_interval([100 * (row["rater-aware"] - row["majority"]) for row in rows])
    cells = [name, str(each), *(said(key) for key in COLUMNS), f"{gain.mean:+.1f} ±{gain.high - gain.mean:.1f}"]
    cells += [said(f"label error, {key}", 1, 3) for key in ("share", "rater-aware")]
    cells += [f"{np.mean([row['slope, error'] for row in rows]):.2f}"]
    cells += [
        f"{100 * np.mean([row[f'{kind}, coverage'] for row in rows]):.0f}" for kind in ("slope", "position", "length")
    ]
    cells += [f"{100 * np.mean([row['told'] for row in rows]):.0f}"]
    return "| " + " | ".join(cells) + " |"


def tastes(seeds: int, *, pairs: int = PLENTY) -> list[str]:
    """Rows of a table of two groups' slopes: what is found, what the model takes them for, and what is covered."""
    crowd = CROWDS[TWO]
    data, truth = simulate(crowd, EACH[-1], 10_000, pairs=pairs)
    limit = rater_aware(data, errors=False).slope.value
    groups = {"larger": truth.larger, "smaller": ~truth.larger}
    limits = {name: float(limit[own].mean()) for name, own in groups.items()}
    found: dict[tuple[str, int], list[tuple[float, float, float]]] = {}
    for each in EACH[1:]:
        for seed in range(seeds):
            data, truth = simulate(crowd, each, seed)
            slope = rater_aware(data).slope
            for name, own in groups.items():
                within = [
                    np.abs(slope.value - aim)[own] <= 1.959964 * slope.error[own] for aim in (truth.slope, limits[name])
                ]
                shares = [100 * float(one.mean()) for one in within]
                found.setdefault((name, each), []).append((float(slope.value[own].mean()), *shares))
    rows = []
    for name in groups:
        for each in EACH[1:]:
            mean, own, taken = np.mean(found[name, each], axis=0)
            rows.append(f"| {name} | {each} | {mean:.2f} | {limits[name]:.2f} | {own:.0f} | {taken:.0f} |")
    return rows


def main() -> None:
    """The tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--crowds", nargs="*", default=list(CROWDS), choices=list(CROWDS))
    given = parser.parse_args()
    start = time.process_time()
    print(
        "| crowd | each | majority | Dawid-Skene | MACE | rater-aware | gain on majority | label error: share |"
        " label error: rater-aware | slope error | covers: slope | position | length | told |\n" + "|---" * 14 + "|"
    )
    for name in given.crowds:
        for each in EACH:
            rows = [measure(CROWDS[name], each, seed) for seed in range(given.seeds)]
            print(line(name, each, rows), flush=True)
    if TWO in given.crowds:
        print("\n| group | each | slopes found | taken for | covers: their own | what they are taken for |")
        print("|---" * 6 + "|")
        print("\n".join(tastes(given.seeds)))
    print(f"\n{time.process_time() - start:.0f} s of one core, {given.seeds} seeds")


if __name__ == "__main__":
    main()
