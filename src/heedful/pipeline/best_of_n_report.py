"""The report of a run of best-of-n: what choosing brings at each n, to the reward that chose and to a judge."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from heedful.core.statistics import Interval
from heedful.evaluation.selection import GOLD, PROXY, Kept, Outcome, Point, Pool
from heedful.pipeline.report_data import (
    Curve,
    Explanation,
    Figure,
    Kind,
    Number,
    ReportData,
    SampleAnswer,
    SampleRow,
    Series,
    StageRow,
    Table,
    bounds,
    write,
)
from heedful.pipeline.run_folder import code_version

SHOWN = 6
"""Prompts whose answers the report shows."""

NAMES = {PROXY: "Proxy", GOLD: "Gold"}
GROUPS = {PROXY: "The reward that chooses", GOLD: "A judge that did not choose"}


def meaning(pool: Pool, outcome: Outcome) -> str:
    """What a run found, in a plain sentence or two that claim no more than the intervals allow."""
    total = pool.samples
    told = f"Keeping the best of {total} raises the reward that chooses by {_spread(outcome.gains[PROXY])}."
    if outcome.gains[PROXY].mean == 0:
        told = "The reward that chooses scores all answers to a prompt alike: there was nothing to choose."
    if GOLD not in outcome.gains:
        return f"{told} Whether the answers are better it cannot say itself: give --gold a judge that did not choose."
    gain = outcome.gains[GOLD]
    if outcome.turns:
        turn = outcome.turns[0]
        peak = "without choosing at all" if turn.n == 1 else f"at the best of {turn.n}"
        harder = (
            "choosing by this reward makes the answers worse" if turn.n == 1 else "choosing harder exploits the reward"
        )
        fell = f"falls from there by {_spread(turn.fall)} at the best of {total}"
        return f"{told} Gold is highest {peak} ({write(turn.value, 'number')}) and {fell}: {harder}."
    if gain.low > 0:
        return f"{told} Gold rises with it, by {_spread(gain)}, and no fall is shown."
    if gain.high < 0:
        return f"{told} Gold falls, by {_spread(Interval(-gain.mean, -gain.high, -gain.low))}."
    return f"{told} Gold does not tell the chosen answers from plain ones: it gains {_spread(gain)}."


def _spread(value: Interval) -> str:
    return f"{write(value.mean, 'number')} (95% interval {bounds(value, 'number')})"


def report_data(
    pool: Pool, outcome: Outcome, kept: Kept, stages: Sequence[StageRow], manifest: Mapping[str, Any]
) -> ReportData:
    """The report as plain values: see `heedful.pipeline.report`.

    Args:
        stages: what sampling and scoring cost.
        manifest: of the run: its parents, data, code and settings' hash.
    """
    parents, total = manifest["parents"], pool.samples
    last = _points(outcome)[-1]
    over = f"best of {total} over a plain answer"
    figures = [Figure(f"{NAMES[name]} gained", gain, "number", over) for name, gain in outcome.gains.items()]
    figures += [
        Figure("KL at most", last.kl_bound, "hundredths", f"nats per answer at the best of {total}"),
        Figure("Pairs written", len(kept.pairs), "count", f"best against worst, of {len(pool.prompts)} prompts"),
    ]
    judge = f"; gold by {parents[GOLD]['name']}" if GOLD in parents else ""
    return ReportData(
        title=f"The best of {total}",
        subtitle=f"{parents['policy']['name']} answers {len(pool.prompts):,} prompts of {manifest['data']['source']} "
        f"{total} times each; {parents['reward']['name']} chooses{judge}.",
        headline=str(manifest["meaning"]),
        figures=tuple(figures),
        curves=curves(outcome),
        tables=(table(outcome),),
        curves_title="What choosing brings",
        curves_lead=True,
        explanations=(_reading(pool), _written(pool, kept)),
        samples=tuple(samples(pool)),
        sample_note="Prompts drawn at random, none picked by hand; of each, the answers that the reward puts first, in "
        "the middle and last.",
        stages=tuple(stages),
        lineage={
            "heedful": code_version(),
            "python": sys.version.split()[0],
            **{role: str(parent["name"]) for role, parent in parents.items()},
            "prompts": f"{manifest['data']['source']}, SHA-256 {manifest['data']['sha256'][:12]}",
            "settings": f"heedful.yaml beside this page, SHA-256 {manifest['config_sha256'][:12]}",
        },
    )


def _reading(pool: Pool) -> Explanation:
    return Explanation(
        "How to read the curve",
        (
            "Every point is the mean, over prompts, of what the answer is worth that the reward likes best among n. "
            f"All points come from the same {pool.samples} answers to a prompt: the mean is taken over every choice of "
            "n among them, so that nothing is sampled anew and no point is biased. Intervals are 95%, from resampling "
            "prompts.",
            "The KL is that of the chosen answers from the policy as it was sampled, temperature and cuts included, at "
            "most: log n − (n−1)/n nats per answer. Answers that score alike make it less.",
            "To the reward that chooses, the choice is always worth more. Where it is worth less to a judge that did "
            "not choose, the reward is being exploited, and training on it may go the same way.",
        ),
    )


def _written(pool: Pool, kept: Kept) -> Explanation:
    told = [f"best.jsonl holds the best answer to {len(kept.best):,} of {len(pool.prompts):,} prompts{_empty(kept)}."]
    left = [f"{kept.alike:,} whose answers all score alike"] if kept.alike else []
    left += [f"{kept.unusable:,} whose best or worst answer is empty or the same text"] if kept.unusable else []
    told.append(
        f"pairs.jsonl sets the best against the worst for {len(kept.pairs):,} prompts"
        + (f"; left out: {' and '.join(left)}." if left else ".")
    )
    if kept.cut:
        told.append(
            f"Cut at the longest answer (finished is false): {kept.cut:,} of the {len(kept.best):,} best. Raise "
            "--max-new-tokens before training on them, or the policy learns to stop there."
        )
    return Explanation("What was written", tuple(told))


def _empty(kept: Kept) -> str:
    return f"; of {kept.empty:,} it is empty and left out" if kept.empty else ""


def curves(outcome: Outcome) -> tuple[Curve, ...]:
    """A plot for each judge, the mean as a line with its interval at each n; and one of length."""
    x, note = "KL at most, nats per answer", f"From left to right, n = {', '.join(str(p.n) for p in _points(outcome))}."
    kl = tuple(point.kl_bound for point in _points(outcome))
    plots = [
        Curve(
            GROUPS[name],
            f"{NAMES[name]} against KL",
            x,
            f"mean {name}",
            {"best of n, with its 95% interval": _series(points)},
            note,
        )
        for name, points in outcome.curves.items()
    ]
    length = Curve("The chosen answers", "Length against KL", x, "mean words", {"best of n": Series(kl, outcome.words)})
    return (*plots, replace(length, note=note))


def _series(points: Sequence[Point]) -> Series:
    values = [point.value for point in points]
    means, ends = tuple(value.mean for value in values), tuple((value.low, value.high) for value in values)
    return Series(tuple(point.kl_bound for point in points), means, ends)


def _points(outcome: Outcome) -> tuple[Point, ...]:
    return outcome.curves[PROXY]


def table(outcome: Outcome) -> Table:
    """The same as figures: a row for each n."""
    judges = tuple(outcome.curves)
    of_judges: list[Kind] = ["thousandths"] * len(judges)
    rows: list[tuple[Number, ...]] = [
        (point.n, point.kl_bound, *(outcome.curves[name][i].value for name in judges), outcome.words[i])
        for i, point in enumerate(_points(outcome))
    ]
    return Table(
        "The same in figures",
        "Means over prompts with 95% intervals; KL in nats per answer; words: the chosen answer's mean length.",
        ("Best of", "KL at most", *(NAMES[name] for name in judges), "Words"),
        ("count", "hundredths", *of_judges, "tenths"),
        tuple(rows),
    )


def samples(pool: Pool) -> list[SampleRow]:
    """The first, the middle and the last answer by the reward, to a few random prompts."""
    rng = np.random.default_rng(0)
    picked = sorted(rng.choice(len(pool.prompts), min(SHOWN, len(pool.prompts)), replace=False).tolist())
    return [SampleRow(pool.prompts[p], f"{pool.samples} answers", _answers(pool, p)) for p in picked]


def _answers(pool: Pool, p: int) -> tuple[SampleAnswer, ...]:
    order = np.argsort(-pool.scores[PROXY][p], kind="stable").tolist()
    places = {"the best": order[0], "in the middle": order[len(order) // 2], "the worst": order[-1]}
    if len(order) == 2:
        del places["in the middle"]
    judges = sorted(pool.scores, key=lambda name: name != GOLD)  # the first decides which is called preferred
    return tuple(
        SampleAnswer(
            name,
            pool.answers[p][k].text,
            {judge: float(pool.scores[judge][p, k]) for judge in judges},
            pool.answers[p][k].finished,
        )
        for name, k in places.items()
    )
