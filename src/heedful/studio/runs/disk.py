"""Training runs as they lie on disk: where they are, what they were begun with, what they have written so far.

Nothing here is sure of what it reads: a run writes while it is looked at, may be killed, cleared or moved away, and
anybody may have put a file of that name there. What cannot be read is not there.
"""

from __future__ import annotations

import json
import math
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml

from heedful.files import MANIFEST, sha256_json
from heedful.monitoring.checks import Check, check_from_json
from heedful.studio.runs.tail import Tail
from heedful.training.folders import ALARMS, ASKING, EVENTS, METRICS, PROMPTS, SAMPLES, WATCH

T = TypeVar("T")
SETTINGS = "heedful.yaml"
UNWATCHED = ("sft", "reward", "dpo")
"""Stages that learn from a file: no reward is climbed, so nothing is watched."""
STAGES = (*UNWATCHED, "ppo", "rloo", "grpo", "reinforce", "raft", "online-dpo")
DEPTH = 5
"""Folders below the one that is searched."""
MOST_FOLDERS = 5_000
"""Folders that a search looks into."""
REMEMBERED = 40
"""Runs whose rows are kept in memory."""
PEOPLE = "people:"


@dataclass(frozen=True)
class Row:
    """The figures of one step."""

    step: int
    figures: Mapping[str, float]


@dataclass(frozen=True)
class Alarmed:
    """An alarm as it was logged."""

    step: int
    sign: str
    tier: str
    sentence: str
    done: tuple[str, ...]


@dataclass(frozen=True)
class Happened:
    """An event that stepped in."""

    step: int
    kind: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Sampled:
    """A completion that the run logged."""

    step: int
    prompt: str
    completion: str
    reward: float | None


@dataclass(frozen=True)
class Said:
    """A policy's answer to a prompt of the fresh checks."""

    text: str
    reward: float | None


@dataclass(frozen=True)
class Asking:
    """What a run is asking people just now."""

    programme: str
    batch: str
    pairs: int
    places: int
    filled: int


@dataclass
class Run:
    """One run's folder.

    Args:
        folder: where it lies.
        name: its path below the folder that is searched.
    """

    folder: Path
    name: str
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.metrics = Tail(self.folder / METRICS, _figures)
        self.alarms = Tail(self.folder / ALARMS, _alarm)
        self.events = Tail(self.folder / EVENTS, _event)
        self.samples = Tail(self.folder / SAMPLES, _sample)
        self._checks: dict[str, tuple[float, Check | None]] = {}
        self._read: tuple[float, dict[str, Any]] = (0.0, {})

    @property
    def key(self) -> str:
        """Its place in an address."""
        return key_of(self.name)

    @property
    def settings(self) -> dict[str, Any]:
        """What it was begun with; empty where that cannot be read."""
        path = self.folder / SETTINGS
        changed = _changed(path)
        if changed != self._read[0]:
            try:
                found = yaml.safe_load(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, yaml.YAMLError, RecursionError):
                found = None
            self._read = (changed, found if isinstance(found, dict) else {})
        return self._read[1]

    @property
    def stage(self) -> str:
        """What kind of run it is; empty where it is none."""
        return stage_of(self.folder)

    @property
    def watched(self) -> bool:
        """Whether it is of a kind that is watched for reward hacking."""
        return self.stage not in UNWATCHED

    @property
    def steps(self) -> int | None:
        """How many steps it is to make."""
        found = self.settings.get("steps")
        return found if isinstance(found, int) and not isinstance(found, bool) and found > 0 else None

    @property
    def programme(self) -> str:
        """The slug of the programme whose raters it asks; empty for none."""
        judge = self.gold.get("judge")
        return judge.removeprefix(PEOPLE) if isinstance(judge, str) and judge.startswith(PEOPLE) else ""

    @property
    def gold(self) -> dict[str, Any]:
        """Its settings of fresh checks."""
        watch = self.settings.get("watch")
        found = watch.get("gold") if isinstance(watch, dict) else None
        return found if isinstance(found, dict) else {}

    @property
    def waits(self) -> bool:
        """Whether it stands still while people judge."""
        return self.gold.get("meanwhile", "wait") != "train"

    @property
    def manifest(self) -> dict[str, Any] | None:
        """What it says of itself once it is finished."""
        found = _json(self.folder / MANIFEST)
        return found if isinstance(found, dict) else None

    @property
    def asking(self) -> Asking | None:
        """What people are being asked, if anything."""
        return _made(_json(self.folder / WATCH / ASKING), lambda row: Asking(
            str(row["programme"]), str(row["batch"]), int(row["pairs"]), int(row["places"]), int(row["filled"])
        ))  # fmt: skip

    @property
    def changed(self) -> float:
        """When it was last heard of, in seconds since 1970."""
        names = (METRICS, ALARMS, EVENTS, SETTINGS, MANIFEST, f"{WATCH}/{ASKING}")
        return max(_changed(self.folder / name) for name in names)

    def checks(self) -> tuple[list[Check], int | None]:
        """The fresh checks that are done, in order, and the step of the one that is not, if any."""
        done, pending = [], None
        for path in sorted(self.folder.glob(f"{WATCH}/check-*.json")):
            step = path.stem.removeprefix("check-")
            if not step.isdigit() or int(step) == 0:
                continue
            changed = _changed(path)
            if self._checks.get(step, (0.0, None))[0] != changed:
                self._checks[step] = (changed, _made(_json(path), lambda row: _check(row["check"])))
            check = self._checks[step][1]
            if check is None:
                pending = int(step)
            else:
                done.append(check)
        newest = done[-1].step if done else 0
        return done, pending if pending is not None and pending > newest else None

    def answers(self, step: int) -> list[Said]:
        """What the policy of a step (0: the one that it began with) answered to the prompts of the fresh checks."""
        found = _made(_json(self.folder / WATCH / f"check-{step:08d}.json"), lambda row: [
            Said(str(one["text"]), _number(one["reward"])) for one in row["replies"]
        ])  # fmt: skip
        return found or []

    def prompts(self) -> list[str]:
        """The last message of each prompt of the fresh checks."""
        found = _json(self.folder / WATCH / PROMPTS)
        rows = found if isinstance(found, list) else []
        return [_made(one, lambda messages: str(messages[-1]["content"])) or "" for one in rows]


def key_of(name: str) -> str:
    """The place in an address of the run at this path."""
    return sha256_json(name)[:16]


def stage_of(folder: Path) -> str:
    """What kind of run a folder holds; empty where it holds none."""
    try:
        with open(folder / SETTINGS, encoding="utf-8", errors="replace") as file:
            first = file.readline(200)
    except OSError:
        return ""
    stage = first.strip().removeprefix("# heedful ")
    return stage if first.startswith("# heedful ") and stage in STAGES else ""


def folders(root: Path) -> Iterator[Path]:
    """Folders of runs below a folder, at most `DEPTH` deep. Links are not followed: they may lead anywhere."""
    left, seen = [(root, 0)], 0
    while left:
        folder, depth = left.pop()
        seen += 1
        if seen > MOST_FOLDERS:
            return
        if stage_of(folder):
            yield folder
            continue
        if depth == DEPTH:
            continue
        try:
            with os.scandir(folder) as found:
                below = [Path(one.path) for one in found if one.is_dir(follow_symlinks=False) and one.name[0] != "."]
        except OSError:
            continue
        left += [(one, depth + 1) for one in sorted(below, reverse=True)]


class Runs:
    """The runs below a folder; what was read of them is kept."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()

    def all(self) -> list[Run]:
        """All runs, the one that was heard of last first."""
        found = [self._of(folder) for folder in folders(self.root)]
        return sorted(found, key=lambda run: (-run.changed, run.name))

    def named(self, key: str) -> Run | None:
        """The run with this key, if it is there."""
        with self._lock:
            kept = self._kept.get(key)
        if kept is not None and kept.stage:
            return kept
        return next((run for run in self.all() if run.key == key), None)

    def _of(self, folder: Path) -> Run:
        name = folder.relative_to(self.root).as_posix()
        key = key_of(name)
        with self._lock:
            run = self._kept.get(key) or Run(folder, name)
            self._kept[key] = run
            self._kept.move_to_end(key)
            while len(self._kept) > REMEMBERED:
                self._kept.popitem(last=False)
        return run


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _made(value: Any, make: Callable[[Any], T]) -> T | None:
    """What is made of some JSON; None where it is not as it should be."""
    try:
        return None if value is None else make(value)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return None


def _check(value: Any) -> Check | None:
    if value is None:
        return None
    check = check_from_json(value)
    numbers = [check.kl, *(n for c in (check.against_start, check.against_best) for n in (c.rate.mean, c.rate.low))]
    return check if all(_number(number) is not None for number in numbers) else None


def _number(value: Any) -> float | None:
    fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if fits else None


def _figures(row: Mapping[str, Any]) -> Row:
    numbers = {name: _number(value) for name, value in row.items() if name != "step"}
    return Row(int(row["step"]), {name: value for name, value in numbers.items() if value is not None})


def _alarm(row: Mapping[str, Any]) -> Alarmed:
    done = row.get("done", ())
    said = tuple(str(one) for one in done) if isinstance(done, list) else ()
    return Alarmed(int(row["step"]), str(row["sign"]), str(row["tier"]), str(row["sentence"]), said)


def _event(row: Mapping[str, Any]) -> Happened:
    rest = {name: value for name, value in row.items() if name not in ("step", "event")}
    return Happened(int(row["step"]), str(row["event"]), rest)


def _sample(row: Mapping[str, Any]) -> Sampled:
    return Sampled(int(row["step"]), str(row["prompt"]), str(row["completion"]), _number(row.get("reward")))
