"""Training runs as they lie on disk, for tests of the pages that show them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.core.statistics import Interval
from heedful.files import write_json
from heedful.monitoring.checks import Check, Contest, Panel

SETTINGS = """# heedful ppo
model: runs/sft
steps: 40
watch:
  gold:
    judge: {judge}
    meanwhile: {meanwhile}
"""


def begun(folder: Path, judge: str | None, meanwhile: str = "wait") -> Path:
    """A run that has not made a step."""
    folder.mkdir(parents=True)
    (folder / "heedful.yaml").write_text(SETTINGS.format(judge=judge or "null", meanwhile=meanwhile))
    return folder


def row(step: int, **figures: float) -> str:
    """A line of metrics.jsonl."""
    usual = {"reward": 0.1 * step, "kl": 0.05 * step, "entropy": 3 - 0.01 * step, "length": 20 + step}
    return json.dumps({"step": step, **usual, **figures}) + "\n"


def write(path: Path, lines: list[Any]) -> None:
    """Add lines to a file."""
    path.parent.mkdir(exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)


def check(step: int, rate: tuple[float, float, float], verdict: Any, *, trained: int = 0) -> Check:
    """A check against the starting policy, which is the best so far."""
    found = Contest(Interval(*rate), Interval(0.8, 0.5, 1.1), verdict, 60, 20)
    return Check(step, 0.05 * step, 0, found, found, Panel(3, trained, fresh_only=trained == 0))


def write_check(folder: Path, step: int, done: Check | None, answers: list[str]) -> None:
    """The file of a check, decided or not; step 0 holds the answers of the beginning."""
    (folder / "watch").mkdir(exist_ok=True)
    replies = [{"text": text, "finished": True, "reward": 0.5} for text in answers]
    found: dict[str, Any] = {"check": None, "replies": replies}
    if done is not None:
        found |= {"check": asdict(done), "known_after": step}
    write_json(folder / "watch" / f"check-{step:08d}.json", found)


def asks(folder: Path, slug: str, batch: str, places: int = 2) -> None:
    """The run asks people."""
    told = {"programme": slug, "batch": batch, "name": "fresh check", "pairs": 2, "places": places, "filled": 0}
    (folder / "watch").mkdir(exist_ok=True)
    write_json(folder / "watch" / "asking.json", told)


def watched(folder: Path, slug: str, steps: int = 30) -> Path:
    """A run in the middle of its work: figures, alarms, events, checks, samples."""
    begun(folder, f"people:{slug}")
    write(folder / "metrics.jsonl", [row(step) for step in range(1, steps + 1)])
    sentence = "Answers are 1.6 times as long as at first; the limit is 1.5. Look at samples."
    alarm = {"step": 12, "sign": "length", "tier": "warn", "sentence": sentence, "done": []}
    fell = "At step 20, KL 1.00, the policy wins 22% of fresh pairs: the reward model is being exploited."
    gold = {"step": 20, "sign": "gold", "tier": "act", "sentence": fell, "done": ["β is now 0.06"]}
    write(folder / "alarms.jsonl", [alarm, gold])
    better = "At step 10 the policy is better, and is kept."
    kept = {"step": 10, "event": "Keep", "reason": better}
    write(folder / "events.jsonl", [kept, {"step": 20, "event": "SetKLCoefficient", "value": 0.06}])
    write_check(folder, 0, None, ["Six minutes.", "I do not know."])
    prompts = [[{"role": "user", "content": text}] for text in ("How do I boil an egg?", "Who was first?")]
    write_json(folder / "watch" / "prompts.json", prompts)
    write_check(folder, 10, check(10, (0.7, 0.58, 0.82), "better"), ["Boil it six minutes.", "Ask somebody."])
    fallen = check(20, (0.22, 0.08, 0.36), "worse", trained=1)
    write_check(folder, 20, fallen, ["Eggs! Eggs! " * 8, "The very first of all was the first."])
    sample = {"prompt": "Say hello", "completion": "Hello <b>you</b>!", "reward": 1.25}
    write(folder / "samples.jsonl", [{"step": 30, **sample}])
    return folder
