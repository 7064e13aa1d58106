"""What a programme's folder says of its rounds, read and never written. Works without torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.files import read_manifest
from heedful.pipeline.rounds.engine import waiting_for
from heedful.pipeline.rounds.lock import holder
from heedful.pipeline.rounds.recipe import Programme, read_programme
from heedful.pipeline.rounds.rows import Pair, Said, read_pairs, read_said, won
from heedful.pipeline.rounds.stages import steps
from heedful.training.config.programme import Recipe

KINDS = {"human": "people", "ai": "an AI judge", "simulated": "simulated raters"}
"""Kinds of raters in words."""


@dataclass(frozen=True)
class Judged:
    """Pairs of answers with what raters said of them."""

    pairs: tuple[Pair, ...]
    said: tuple[Said, ...]

    @cached_property
    def won(self) -> dict[str, float | None]:
        """By pair of a check: the share of votes for the new policy's answer."""
        return won(self.pairs, self.said)


@dataclass(frozen=True)
class Round:
    """A round that has ended.

    Attributes:
        number: from 1.
        promoted: its policy was kept.
        rate: how often its policy won its check against the policy before it.
        gold: the same by the world's truth; None without a world.
        pairs, equal: of the check; equal answers were put before nobody.
        policy, against: the new policy and the one it met, as in `rounds/1/policy`, or a hub id.
        kept: the policy after the round.
        judgments: given in this round to learn from, by kind of rater.
        checked: given in its check, by kind of rater.
        learnt: judged pairs that the round learnt from.
    """

    number: int
    promoted: bool
    rate: Interval
    gold: Interval | None
    pairs: int
    equal: int
    policy: str
    against: str
    kept: str
    judgments: Mapping[str, int]
    checked: Mapping[str, int]
    learnt: int


@dataclass(frozen=True)
class Results:
    """A programme and what its rounds left.

    Attributes:
        programme: its folder and recipe.
        rounds: those that have ended, in order.
        manifests: of every stage that is done, by round and name.
        outdated: stages that were made by other settings than the recipe has now, as `2/policy`.
        under_way: what of a further round is done or waited for, in a sentence; empty where nothing is.
        busy: a process works on the programme just now.
    """

    programme: Programme
    rounds: tuple[Round, ...]
    manifests: Mapping[tuple[int, str], Mapping[str, Any]] = field(repr=False)
    outdated: tuple[str, ...]
    under_way: str
    busy: bool

    @property
    def folder(self) -> Path:
        """Of the programme."""
        return self.programme.folder

    @cached_property
    def recipe(self) -> Recipe:
        """As it was in the last round that has ended."""
        return self.programme.recipe(max(1, len(self.rounds)))

    @property
    def first(self) -> str | None:
        """The policy that the first round began with."""
        return self.rounds[0].against if self.rounds else None

    @property
    def last(self) -> str | None:
        """The policy that is kept now."""
        return self.rounds[-1].kept if self.rounds else None

    @property
    def moved(self) -> bool:
        """Whether any round's policy was kept."""
        return self.first != self.last

    @property
    def kept(self) -> list[Round]:
        """The rounds whose policy was kept."""
        return [one for one in self.rounds if one.promoted]

    def path(self, name: str) -> str:
        """Where a policy or a result stands; a hub id as it is."""
        return self.programme.path(name)

    def stages(self, stage: str) -> dict[int, Mapping[str, Any]]:
        """The manifests of a stage, by round."""
        return {number: one for (number, name), one in sorted(self.manifests.items()) if name == stage}

    def place(self, number: int, stage: str) -> Path:
        """Where a stage's result stands."""
        return self.programme.place(number, stage)

    def judged(self, number: int, stage: str) -> Judged | None:
        """What raters said in `judge` or `check`; None where the stage is not done."""
        if (number, stage) not in self.manifests:
            return None
        pairs = self.place(number, "sample" if stage == "judge" else "check") / "pairs.jsonl"
        said = self.place(number, stage) / "judgments.jsonl"
        return Judged(tuple(read_pairs(pairs)), tuple(read_said(said)))

    def counted(self, what: str) -> dict[str, int]:
        """Judgments by kind of rater, over the rounds: `judgments` or `checked`."""
        found: dict[str, int] = {}
        for one in self.rounds:
            for kind, count in getattr(one, what).items():
                if count:
                    found[kind] = found.get(kind, 0) + count
        return found


def read_results(folder: Path) -> Results:
    """Read a programme.

    Raises:
        HeedfulError: there is no recipe, or nothing has been made.
    """
    programme = read_programme(folder)
    manifests: dict[tuple[int, str], Mapping[str, Any]] = {}
    for path in sorted((programme.folder / "rounds").glob("*/*/manifest.json")):
        manifest = read_manifest(path.parent) or {}
        if path.parent.parent.name.isdigit() and "record" in manifest:
            manifests[int(path.parent.parent.name), path.parent.name] = manifest
    if not manifests:
        raise HeedfulError(
            "nothing has been made here yet, so there is nothing to report.",
            where=str(programme.folder),
            mend=f"Run heedful round {folder} first; --dry-run says what it would make.",
        )
    rounds: list[Round] = []
    while all((len(rounds) + 1, stage) in manifests for stage in ("check", "decide")):
        rounds.append(_round(len(rounds) + 1, manifests))
    under_way = _under_way(programme, len(rounds) + 1, manifests)
    outdated = tuple(_outdated(programme, len(rounds), manifests))
    return Results(programme, tuple(rounds), manifests, outdated, under_way, holder(programme.folder) is not None)


def _round(number: int, manifests: Mapping[tuple[int, str], Mapping[str, Any]]) -> Round:
    decided, check = manifests[number, "decide"], manifests[number, "check"]
    figures, inputs, kept = check["figures"], check["record"]["inputs"], decided["kept"]
    gold = figures.get("gold_win_rate")
    learnt = manifests.get((number, "judge"), {})
    return Round(
        number=number,
        promoted=bool(decided["promoted"]),
        rate=Interval(**figures["win_rate"]),
        gold=None if gold is None else Interval(**gold),
        pairs=figures["pairs"],
        equal=figures["equal"],
        policy=inputs["policy"]["from"],
        against=inputs["last"]["from"],
        kept=kept if isinstance(kept, str) else f"rounds/{kept[0]}/{kept[1]}",
        judgments=learnt.get("judgments", {}),
        checked=check.get("judgments", {}),
        learnt=int(learnt.get("figures", {}).get("judged", 0)),
    )


def _outdated(
    programme: Programme, rounds: int, manifests: Mapping[tuple[int, str], Mapping[str, Any]]
) -> Iterator[str]:
    for step in steps(programme, rounds):
        made = manifests.get((step.number, step.stage.name))
        now = json.loads(json.dumps(step.stage.settings(step.recipe, step.number)))  # as a manifest holds them
        if made is not None and made["record"]["settings"] != now:
            yield step.name


def _under_way(programme: Programme, number: int, manifests: Mapping[tuple[int, str], Mapping[str, Any]]) -> str:
    """How far a round is that has not ended."""
    done = [name for (own, name) in manifests if own == number]
    waiting = None
    for part in sorted((programme.folder / "rounds" / str(number)).glob("*.part")):
        waiting = waiting_for(part) or waiting
    if waiting is not None:
        return (
            f"Round {number} has begun and waits for {waiting['for']}: {waiting['filled']} of {waiting['places']} "
            "are in."
        )
    return f"Round {number} has begun and has not ended: heedful round --status says how far it is." if done else ""


def named(policy: str) -> str:
    """A policy in words: `rounds/2/policy` is "round 2", and what came before round 1 "the first policy"."""
    parts = policy.split("/")
    if len(parts) == 3 and parts[0] == "rounds":
        return "the first policy" if parts[1] == "0" else f"round {parts[1]}"
    return "the first policy"
