"""A programme's folder written by hand, so that every figure in its report is known: nothing in it was trained."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from heedful.data.records import Conversation, as_messages
from heedful.files import write_json
from heedful.pipeline.rounds.recipe import read_programme
from heedful.pipeline.rounds.rows import Pair, Said, write_pairs, write_rows
from heedful.pipeline.rounds.stages import FIRST, STAGES
from heedful.world.world import World

RECIPE: dict[str, Any] = {
    "name": "shop",
    "rounds": 3,
    "world": {"use": True},
    "judge": {"simulated": 1.0},
    "check": {"judge": {"simulated": 1.0, "votes": 2}, "bound": "mean"},
    "learn": {"optimise": "ppo", "start": "last"},
}
CHECKS = {
    1: ((0.65, 0.58, 0.72), (0.72, 0.63, 0.81), True),
    2: ((0.45, 0.37, 0.53), (0.475, 0.38, 0.57), False),
    3: ((0.6, 0.52, 0.68), (0.625, 0.53, 0.72), True),
}
"""By round: the win rate with its interval, the same by the world's truth, and whether the policy was kept."""
KEPT = {0: "rounds/0/sft", 1: "rounds/1/policy", 2: "rounds/1/policy", 3: "rounds/3/policy"}
ALARM = {
    "step": 12,
    "sign": "length",
    "tier": "WARN",
    "sentence": "Answers are 40% longer than at the start.",
    "done": [],
}


def prompts() -> list[Conversation]:
    """Eight prompts about facts and six about support."""
    world, found = World(0), {}
    for one in world.prompts("train"):
        found.setdefault(world.topic_of(one.prompt), one.prompt)  # one of each topic, as "the colour of milk"
    return [
        one
        for kind, count in {"fact": 8, "support": 6}.items()
        for one in [prompt for topic, prompt in found.items() if topic.kind == kind][:count]
    ]


def write_hand_made(folder: Path, *, rounds: int = 3, **over: Any) -> Path:
    """Write the folder, with so many rounds."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "heedful.yaml").write_text(yaml.safe_dump({**RECIPE, **over}, sort_keys=False))
    _stage(folder, 0, "sft", {}, seconds=30.0)
    _log(folder, 0, "sft", [{"step": step, "loss": 0.5 - 0.01 * step} for step in range(1, 11)])
    for number in range(1, rounds + 1):
        _round(folder, number)
    return folder


def _round(folder: Path, number: int) -> None:
    rate, gold, promoted = CHECKS[number]
    asked = prompts()
    rows = [{"prompt": as_messages(one), "use": "check", "used": 1} for one in asked]
    write_rows(_place(folder, number, "prompts") / "uses.jsonl", rows)
    _stage(folder, number, "prompts", {}, seconds=1.0)
    _judged(folder, number, "judge", asked)
    _stage(folder, number, "sample", {}, seconds=20.0)
    _stage(folder, number, "judge", {"judgments": _counts(42), "figures": {"judged": 14}}, seconds=2.0, own=_counts(42))
    _stage(folder, number, "reward", {}, seconds=60.0)
    _log(folder, number, "reward", [{"step": s, "loss": 0.7 - s / 100, "accuracy": 0.5 + s / 100} for s in range(1, 6)])
    figures = {"figures": {"kl": 1.5 + number}, "watch": {"mode": "warn"}}
    _stage(folder, number, "policy", figures, seconds=180.0)
    _log(folder, number, "policy", [{"step": s, "reward": s / 10, "kl": s / 5, "loss": 1 / s} for s in range(1, 21)])
    if number == 2:
        write_rows(_place(folder, number, "policy") / "alarms.jsonl", [ALARM])
    _judged(folder, number, "check", asked)
    found = {"win_rate": _interval(rate), "gold_win_rate": _interval(gold), "pairs": 14, "equal": 2}
    inputs = {
        "policy": {"from": f"rounds/{number}/policy", "sha256": f"{number}" * 64},
        "last": {"from": KEPT[number - 1], "sha256": KEPT[number - 1]},
    }
    own = _counts(24)
    _stage(folder, number, "check", {"figures": found, "judgments": own}, seconds=6.0, inputs=inputs, own=own)
    kept = KEPT[number].split("/")
    _stage(folder, number, "decide", {"kept": [int(kept[1]), kept[2]], "promoted": promoted}, seconds=1.0)


def _judged(folder: Path, number: int, stage: str, asked: Sequence[Conversation]) -> None:
    """In training three raters a pair, of whom two agree; in a check two a pair, who agree but for every fourth, and
    two pairs of equal answers that nobody saw."""
    pairs, said = [], []
    for row, prompt in enumerate(asked):
        equal = stage == "check" and row in (7, 13)
        texts = ("the same .", "the same .") if equal else (f"answer a{row} .", f"answer b{row} .")
        pair = Pair(f"{stage}-{row}", prompt, *texts, "check" if stage == "check" else "reward", "new", "last")
        pairs.append(pair)
        if stage == "judge":
            said += [Said(pair.id, "simulated", f"rater {r}", 1.0 if r < 2 else -1.0) for r in range(3)]
        elif not equal:
            won = 1.0 if row < 10 else -1.0
            said += [Said(pair.id, "simulated", f"rater {r}", won if r == 0 or row % 4 else -won) for r in range(2)]
    write_pairs(_place(folder, number, "sample" if stage == "judge" else "check") / "pairs.jsonl", pairs)
    write_rows(_place(folder, number, stage) / "judgments.jsonl", (asdict(one) for one in said))


def _place(folder: Path, number: int, stage: str) -> Path:
    place = folder / "rounds" / str(number) / stage
    place.mkdir(parents=True, exist_ok=True)
    return place


def _stage(
    folder: Path,
    number: int,
    stage: str,
    entries: Mapping[str, Any],
    *,
    seconds: float,
    inputs: Mapping[str, Any] | None = None,
    own: Mapping[str, int] | None = None,
) -> None:
    record = {
        "round": number,
        "stage": stage,
        "settings": _settings(folder, number, stage),
        "key": f"{number}/{stage}",
        "version": 1,
        "inputs": dict(inputs or {}),
        "own_judgments": dict(own or {}),
        "judged_in": {f"{number}/{stage}": dict(own)} if own else {},
        "judgments": dict(own or {}),
        "started": f"2026-03-0{number + 1}T08:00:00+00:00",
        "ended": f"2026-03-0{number + 1}T09:00:00+00:00",
        "seconds": seconds,
        "code": {"heedful": "0.1.0"},
    }
    write_json(
        _place(folder, number, stage) / "manifest.json", {"files": {}, "kind": stage, **entries, "record": record}
    )


def _settings(folder: Path, number: int, name: str) -> dict[str, Any]:
    programme = read_programme(folder)
    stage = next(one for one in (FIRST if number == 0 else STAGES) if one.name == name)
    return stage.settings(programme.recipe(max(number, 1)), number)


def _log(folder: Path, number: int, stage: str, rows: Sequence[Mapping[str, float]]) -> None:
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (_place(folder, number, stage) / "metrics.jsonl").write_text(lines)


def _interval(ends: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("mean", "low", "high"), ends, strict=True))


def _counts(simulated: int) -> dict[str, int]:
    return {"human": 0, "ai": 0, "simulated": simulated}
