"""A report with made-up numbers, for tests alone. Nothing here was measured."""

from __future__ import annotations

import math
import random

from heedful.core.statistics import Interval
from heedful.data.records import Message
from heedful.pipeline.report import (
    ControlRow,
    Curve,
    Figure,
    FindingRow,
    Goal,
    MethodRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    Series,
    StageRow,
    say_win_rate,
)


def _around(mean: float, half: float) -> Interval:
    return Interval(mean, mean - half, mean + half)


def _curve(steps: int, start: float, end: float, noise: float, seed: int) -> Series:
    draw = random.Random(seed)
    x = tuple(float(i) for i in range(steps))
    fall = [end + (start - end) * math.exp(-5 * i / steps) for i in range(steps)]
    return Series(x, tuple(y + draw.gauss(0, noise) for y in fall))


def _row(method: str, split: str, win: float | None, correct: float, gold: float, kl: float) -> MethodRow:
    return MethodRow(
        method,
        split,
        None if win is None else _around(win, 0.035),
        _around(correct, 0.04),
        _around(gold, 0.08),
        kl or None,
        14.2 + kl / 10,
        0.412,
        1.31 - kl / 20,
        {"Cut off": "0.5%"} if method == "PPO" else {},
    )


def methods() -> tuple[MethodRow, ...]:
    rows = []
    for split, shift in (("unseen phrasings", 0.0), ("facts never judged", -0.16)):
        rows += [
            _row("SFT", split, None, 0.58 + shift / 3, 0.31, 0.0),
            _row("PPO", split, 0.794 + shift, 0.74 + shift / 3, 1.02 + shift, 6.4),
            _row("DPO", split, 0.731 + shift, 0.69 + shift / 3, 0.88 + shift, 6.1),
            _row("SFT on the same labels", split, 0.521 + shift / 8, 0.60 + shift / 3, 0.36, 1.2),
            _row("best of 16 by the reward model", split, 0.813 + shift, 0.77 + shift / 3, 1.11, 1.8),
        ]
    return tuple(rows)


def curves() -> tuple[Curve, ...]:
    steps = tuple(float(i) for i in range(0, 121, 10))
    gold = tuple(0.3 + 0.8 * (1 - math.exp(-s / 40)) - 0.001 * max(0.0, s - 90) for s in steps)
    kl = tuple(0.06 * s for s in steps)
    return (
        Curve("Pretraining", "Loss", "step", "nats per token", {"train": _curve(900, 5.6, 1.4, 0.12, 1)}),
        Curve(
            "SFT",
            "Loss",
            "step",
            "nats per token",
            {
                "train": _curve(140, 1.9, 0.9, 0.05, 2),
                "held out": Series((0.0, 70.0, 140.0), (1.9, 1.1, 1.02)),
            },
        ),
        Curve(
            "Reward model",
            "Accuracy",
            "step",
            "share of pairs",
            {
                "on raters' labels": _curve(100, 0.5, 0.71, 0.02, 3),
                "against gold": Series((0.0, 25.0, 50.0, 75.0, 100.0), (0.5, 0.71, 0.79, 0.81, 0.82)),
            },
            "Raters agree with each other in 68% of pairs.",
        ),
        Curve("PPO", "Proxy reward", "step", "score", {"proxy": _curve(120, 0.0, 1.6, 0.1, 4)}),
        Curve("PPO", "Gold score", "step", "score", {"unseen phrasings": Series(steps, gold)}),
        Curve(
            "PPO",
            "Proxy and gold against KL",
            "KL (nats per completion)",
            "gain over SFT",
            {"proxy": Series(kl, tuple(1.3 * g for g in gold)), "gold": Series(kl, gold)},
            "Where the two part, the reward model is being fooled.",
        ),
        Curve("PPO", "Entropy", "step", "nats per token", {"policy": _curve(120, 1.6, 0.9, 0.03, 5)}),
        Curve("DPO", "Margins", "step", "nats", {"margin": _curve(200, 0.0, 2.4, 0.2, 6)}),
    )


def samples() -> tuple[SampleRow, ...]:
    question = (Message("user", "hello , what does the tall blue lamp cost ?"),)
    longer = (
        Message("user", "my order has not come ."),
        Message("assistant", "i am sorry to hear that . what is your order number ?"),
        Message("user", "it is four two seven ."),
    )
    return (
        SampleRow(
            question,
            "unseen phrasings",
            (
                SampleAnswer("SFT", "the lamp is in the garden . it is a lamp .", {"gold": -0.4, "proxy": 0.1}),
                SampleAnswer("PPO", "the blue lamp costs nine pounds .", {"gold": 1.6, "proxy": 1.42}),
                SampleAnswer("DPO", "it costs nine pounds , i believe .", {"gold": 1.1, "proxy": 0.97}),
            ),
        ),
        SampleRow(
            longer,
            "facts never judged",
            (
                SampleAnswer("SFT", "order four two seven was sent on monday .", {"gold": 1.2, "proxy": 0.8}),
                SampleAnswer("PPO", "", {"gold": -1.0, "proxy": -0.2}, finished=False),
                SampleAnswer("DPO", "sorry sorry sorry sorry", {"gold": -0.8, "proxy": 0.3}, finished=False),
            ),
        ),
    )


def example() -> ReportData:
    win = _around(0.794, 0.033)
    return ReportData(
        title="Do people prefer the trained model?",
        subtitle="Made-up numbers for a test. Embedded world, seeds 11 to 15.",
        headline=say_win_rate("PPO", "SFT", win, where="unseen phrasings"),
        figures=(
            Figure("PPO's win rate over SFT, unseen phrasings", win, "percent", "", Goal(0.8), 0.5),
            Figure("The same on facts never judged", _around(0.634, 0.05), "percent", "", Goal(0.55), 0.5),
            Figure("Reward model accuracy against gold", _around(0.824, 0.011), "percent", "", Goal(0.82), 0.5),
            Figure("Wall time, all stages", 312.4, "seconds", "2 cores, no GPU", Goal(360, at_most=True)),
        ),
        methods=methods(),
        interval_note="95%, bootstrap over 54 facts",
        curves=curves(),
        samples=samples(),
        sample_note="Picked at random (seed 7), wins and losses as they came.",
        controls=(
            ControlRow("reward model on shuffled labels", "a win rate of one half", _around(0.51, 0.04), True),
            ControlRow("inverted labels", "a win rate below one half", _around(0.21, 0.04), True),
            ControlRow("length alone as the reward", "no better than one half", _around(0.58, 0.03), False),
        ),
        findings=(
            FindingRow("hh-harmless.jsonl.gz", "empty answer", 13, "skipped", (88, 912, 1003, 1104, 2001)),
            FindingRow("hh-harmless.jsonl.gz", "prompts differ", 2, "skipped", (41, 777)),
        ),
        stages=(
            StageRow("pretrain", 118.2, 1_288_490_188, {"loss": 1.41, "steps": "900"}, {"data": "0f3a" * 16}),
            StageRow("sft", 22.5, 1_181_116_006, {"loss": 1.02}, {"data": "91bc" * 16, "parent": "77de" * 16}),
            StageRow("reward", 48.9, None, {"accuracy": _around(0.824, 0.011)}, {"data": "c41e" * 16}),
            StageRow("ppo", 122.8, 1_717_986_918, {"KL": 6.4}, {"reward": "5aa1" * 16, "parent": "0b0b" * 16}),
        ),
        lineage={
            "heedful": "0.1.0",
            "seeds": "11, 12, 13, 14, 15",
            "command": "heedful quickstart --out runs/demo",
        },
    )
