"""Fresh checks of a run that learns online: when they are due, whose answers meet, and what is kept of them.

A finished check is a file of its own with its answers. A run that was killed and goes over the step again reads it, so
that nobody is asked twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from heedful.core.sequential import SequentialTest
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.files import write_json
from heedful.models.rewards import load_reward
from heedful.monitoring.checks import (
    Check,
    Contest,
    Judge,
    Reply,
    Ruling,
    ScoreJudge,
    check_from_json,
    contest,
    rule,
)
from heedful.training.config.watch import GoldConfig
from heedful.training.state import mix
from heedful.world.world import World

LEAST_PROMPTS = 10
OPPONENT = 7
"""What the seed of a best policy's second answers is mixed with."""
Answer = Callable[[int], list[Reply]]
"""Answers of a policy to the prompts of the checks, with the proxy's reward; a function of a seed."""


class GoldChecks:
    """The fresh checks of a run.

    Args:
        settings: when, how many, how sure.
        judge: decides the pairs.
        prompts: of the checks.
        policy, start: answer them as the policy does now, and as it did when it began.
        folder: where finished checks lie.
        seed: of the run.
    """

    def __init__(
        self,
        settings: GoldConfig,
        judge: Judge,
        prompts: Sequence[Conversation],
        policy: Answer,
        start: Answer,
        folder: Path,
        seed: int,
    ) -> None:
        self.settings, self.judge, self.prompts = settings, judge, list(prompts)[: settings.pairs]
        self.policy, self.start, self.folder, self.seed = policy, start, folder, seed
        self.test = SequentialTest(level=settings.level, most=max(10, settings.votes) * settings.pairs)
        self.checks: list[Check] = []
        self.best_step = 0
        self.last_kl, self.last_step = 0.0, 0

    def after(self, step: int, kl: float | None) -> Ruling | None:
        """Make a check after a step if one is due, and rule on it."""
        if kl is None or not self.due(step, kl):
            return None
        self.last_kl, self.last_step = kl, step
        self.checks.append(self._kept(step) or self._make(step, kl))
        ruling = rule(self.checks, self.best_step)
        self.best_step = ruling.best_step
        if ruling.best_step == step:
            self._answer_anew(step)
        return ruling

    def due(self, step: int, kl: float) -> bool:
        """Whether the KL has moved by enough since the last check, either way, or enough steps have passed.

        A response to a fall (a dearer β, say) takes the KL back, and the second look must still come.
        """
        steps = self.settings.every_steps
        return abs(kl - self.last_kl) >= self.settings.every_kl or (0 < steps <= step - self.last_step)

    def _path(self, step: int) -> Path:
        return self.folder / f"check-{step:08d}.json"

    def _kept(self, step: int) -> Check | None:
        if not self._path(step).exists():
            return None
        kept = json.loads(self._path(step).read_text(encoding="utf-8"))["check"]
        return None if kept is None else check_from_json(kept)

    def _make(self, step: int, kl: float) -> Check:
        ours = self.policy(mix(self.seed, step))
        start = self._replies(0)
        against_start = self._contest(ours, start, step, 0)
        best = self.best_step
        against_best = against_start if best == 0 else self._contest(ours, self._replies(best), step, 1)
        check = Check(step, kl, best, against_start, against_best)
        self._write(step, ours, check)
        return check

    def _answer_anew(self, step: int) -> None:
        """Have the new best answer once more, as the opponent of later checks.

        The answers that it won with are luckier than its usual ones, so that an equal policy would lose to them again
        and again.
        """
        kept = json.loads(self._path(step).read_text(encoding="utf-8"))
        if "opponent" not in kept:
            replies = self.policy(mix(self.seed, step, OPPONENT))
            write_json(self._path(step), {**kept, "opponent": [asdict(reply) for reply in replies]})

    def _contest(self, ours: Sequence[Reply], theirs: Sequence[Reply], step: int, number: int) -> Contest:
        seed = mix(self.seed, step, number)
        return contest(self.judge, self.prompts, ours, theirs, self.test, block=self.settings.block, seed=seed)

    def _replies(self, step: int) -> list[Reply]:
        """The answers of an earlier step that later ones meet; the beginning's are made when they are first needed."""
        if not self._path(step).exists():
            if step != 0:
                raise HeedfulError(
                    f"the answers of the check at step {step} are gone.",
                    where=str(self._path(step)),
                    mend="Choose another --out to run anew.",
                )
            self._write(0, self.start(mix(self.seed, 0)), None)
        kept = json.loads(self._path(step).read_text(encoding="utf-8"))
        return [Reply(**reply) for reply in kept.get("opponent", kept["replies"])]

    def _write(self, step: int, replies: Sequence[Reply], check: Check | None) -> None:
        found = {"check": check.to_json() if check else None, "replies": [asdict(reply) for reply in replies]}
        write_json(self._path(step), found)

    def to_json(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        checks = [check.to_json() for check in self.checks]
        return {"checks": checks, "best": self.best_step, "kl": self.last_kl, "step": self.last_step}

    def restore(self, kept: dict[str, Any]) -> None:
        """Remember what `to_json` gave."""
        self.checks = [check_from_json(check) for check in kept["checks"]]
        self.best_step, self.last_kl, self.last_step = kept["best"], kept["kl"], kept["step"]

    def summary(self) -> dict[str, Any]:
        """For the manifest: each check's win rates, the best step, and what all of it cost."""
        rows = [
            {
                "step": check.step,
                "kl": check.kl,
                "against_start": asdict(check.against_start.rate),
                "against_best": asdict(check.against_best.rate),
                "best": check.best_step,
            }
            for check in self.checks
        ]
        judgments = sum(check.judgments for check in self.checks)
        return {"checks": rows, "best_step": self.best_step, "judgments": judgments}


def open_judge(spec: str, **settings: Any) -> Judge:
    """Who decides pairs, as watch.gold.judge names them.

    Args:
        spec: world or world:SEED, or anything that `load_reward` opens.
        settings: of `load_reward`.

    Raises:
        HeedfulError: nothing of that name.
    """
    name, _, seed = spec.partition(":")
    if name == "world" and (seed.isdigit() or seed == ""):
        world = World(int(seed or 0))
        return ScoreJudge(
            lambda prompts, replies: world.golds(
                prompts, [reply.text for reply in replies], [reply.finished for reply in replies]
            ).tolist()
        )
    reward = load_reward(spec, **settings)

    def score(prompts: Sequence[Conversation], replies: Sequence[Reply]) -> list[float]:
        return [float(value) for value in reward(prompts, [reply.text for reply in replies])]

    return ScoreJudge(score)


def enough_prompts(prompts: Sequence[Conversation], where: str) -> None:
    """Refuse checks on too few prompts.

    Raises:
        HeedfulError: fewer than `LEAST_PROMPTS`.
    """
    if len(prompts) < LEAST_PROMPTS:
        raise HeedfulError(
            f"{len(prompts)} prompts are too few for fresh checks.",
            where=where,
            mend=f"Give {LEAST_PROMPTS} or more in watch.gold.prompts, or raise records.held_out.",
        )
