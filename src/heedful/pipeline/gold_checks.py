"""Fresh checks of a run that learns online: when they are due, whose answers meet, and what is kept of them.

A finished check is a file of its own with its answers. A run that was killed and goes over the step again reads it, so
that nobody is asked twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from hashlib import blake2b
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
    NotYetJudged,
    Reply,
    Ruling,
    ScoreJudge,
    check_from_json,
    contest,
    rule,
)
from heedful.pipeline.people_judge import PeopleJudge
from heedful.training.config.watch import GoldConfig
from heedful.training.folders import PROMPTS
from heedful.training.state import mix
from heedful.world.world import World

LEAST_PROMPTS = 10
OPPONENT = 7
"""What the seeds of an opponent's other answers are mixed with."""
ANSWERS_ANEW = 4
"""How often a best policy answers anew. Later checks meet these answers in turn, so that what is put together from
several checks does not hang on how lucky it once was."""
Answer = Callable[[int], list[Reply]]
"""Answers of a policy to the prompts of the checks, with the proxy's reward; a function of a seed."""


class GoldChecks:
    """The fresh checks of a run.

    Where people judge and the run trains on meanwhile, a check is open from the step whose answers it is about until
    the step after which it is known what they found; its file says which that was. A run that is killed and goes over
    those steps again learns it after the same step, and not before.

    Args:
        settings: when, how many, how sure.
        judge: decides the pairs.
        prompts: of the checks.
        policy, start: answer them as the policy does now, and as it did when it began.
        folder: where finished checks lie.
        seed: of the run.
        people: the judge, where people decide.
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
        people: PeopleJudge | None = None,
    ) -> None:
        self.settings, self.judge, self.prompts = settings, judge, list(prompts)[: settings.pairs]
        self.policy, self.start, self.folder, self.seed, self.people = policy, start, folder, seed, people
        self.test = SequentialTest(level=settings.level, most=max(10, settings.votes) * settings.pairs)
        self.checks: list[Check] = []
        self.open: tuple[int, float] | None = None
        """Step and KL of the check that people still judge."""
        self.left: dict[str, Any] | None = None
        """What was still open when the run ended."""
        self.best_step = 0
        self.last_kl, self.last_step = 0.0, 0
        self.journalled = 0
        """The last step whose events are known from before a kill: nothing new is found out up to it."""

    @property
    def goes_on(self) -> bool:
        """Whether the run trains on while people judge."""
        return self.people is not None and self.settings.meanwhile == "train"

    def after(self, step: int, kl: float | None, *, last: bool = False) -> Ruling | None:
        """Begin a check after a step if one is due, and rule on one that is done.

        Args:
            last: the run ends here, so that what is open is waited for.
        """
        if self.open is None:
            if kl is None or not self.due(step, kl):
                return None
            self.last_kl, self.last_step = kl, step
            self.open = (step, kl)
        check = self._done(step, last)
        if check is None:
            return None
        self.open = None
        self.checks.append(check)
        ruling = rule(self.checks, self.best_step, self.test)
        self.best_step = ruling.best_step
        if ruling.best_step == check.step:
            self._answer_anew(check.step)
        return ruling

    def due(self, step: int, kl: float) -> bool:
        """Whether the KL has moved by enough since the last check, either way, or enough steps have passed.

        A response to a fall (a dearer β, say) takes the KL back, and the second look must still come.
        """
        steps = self.settings.every_steps
        return abs(kl - self.last_kl) >= self.settings.every_kl or (0 < steps <= step - self.last_step)

    def conclude(self) -> str:
        """The run has ended: ask nobody about an open check any longer. What is left of it in words; empty for none."""
        if self.people is None or self.open is None:
            return ""
        if not self.people.asks:  # begun before a kill, and not looked at since
            with suppress(NotYetJudged):
                self._make(self.people.glance, *self.open)
        left = self.people.leave()
        if left is None:
            return ""
        self.left = {"step": self.open[0], **asdict(left)}
        return (
            f"the run ended while people judged the check of step {self.open[0]}: {left.filled} of {left.places} "
            f"judgments of {left.batch!r} are in and are kept; {left.held} pairs lie before raters, who may finish "
            "them; the rest is handed to nobody"
        )

    def _path(self, step: int) -> Path:
        return self.folder / f"check-{step:08d}.json"

    def _read(self, step: int) -> dict[str, Any] | None:
        path = self._path(step)
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None

    def _done(self, step: int, last: bool) -> Check | None:
        """The open check, if after this step it is known what it found."""
        assert self.open is not None
        number, kl = self.open
        kept = self._read(number)
        if kept is not None and kept["check"] is not None:
            return None if step < kept.get("known_after", number) else check_from_json(kept["check"])
        if kept is None:
            again = {"opponents": self._answers_anew(number)} if self.goes_on else {}
            self._write(number, replies=self._answers(mix(self.seed, number)), **again)
        if self.goes_on and step <= self.journalled:
            return None
        glances = self.people is not None and self.goes_on and not last
        judge = self.people.glance if self.people is not None and glances else self.judge
        try:
            check = self._make(judge, number, kl)
        except NotYetJudged:
            return None
        self._write(number, check=check.to_json(), known_after=step)
        return check

    def _answers(self, seed: int) -> list[dict[str, Any]]:
        return [asdict(reply) for reply in self.policy(seed)]

    def _answers_anew(self, step: int) -> list[list[dict[str, Any]]]:
        return [self._answers(mix(self.seed, step, OPPONENT, number)) for number in range(ANSWERS_ANEW)]

    def _answer_anew(self, step: int) -> None:
        """Have the new best answer some times more, as the opponent of later checks.

        The answers that it won with are luckier than its usual ones, so that an equal policy would lose to them again
        and again. A run that goes on while people judge has them answer when the check begins: later it is another.
        """
        kept = self._read(step)
        if kept is not None and "opponents" not in kept:
            self._write(step, opponents=self._answers_anew(step))

    def _make(self, judge: Judge, step: int, kl: float) -> Check:
        ours = self._replies(step)
        against_start = self._contest(judge, ours, self._opponents(0), step, 0)
        best = self.best_step
        theirs = against_start if best == 0 else self._contest(judge, ours, self._opponents(best), step, 1)
        panel = None if self.people is None else self.people.take_panel()
        return Check(step, kl, best, against_start, theirs, panel)

    def _contest(self, judge: Judge, ours: Sequence[Reply], theirs: Sequence[Reply], step: int, number: int) -> Contest:
        seed = mix(self.seed, step, number)
        block = self.settings.block
        return contest(judge, self.prompts, ours, theirs, self.test, block=block, seed=seed, alias=self._alias)

    def _alias(self, rater: str) -> str:
        """What stands for a rater in the run's files: the same in all its checks, and another in another run."""
        return blake2b(rater.encode(), key=str(self.seed).encode(), digest_size=6).hexdigest()

    def _replies(self, step: int) -> list[Reply]:
        """The answers of an earlier step; those of the beginning are made when they are first needed."""
        kept = self._read(step)
        if kept is None:
            if step != 0:
                raise HeedfulError(
                    f"the answers of the check at step {step} are gone.",
                    where=str(self._path(step)),
                    mend="Choose another --out to run anew.",
                )
            replies = self.start(mix(self.seed, 0))
            asked = [[{"role": one.role, "content": one.content} for one in prompt] for prompt in self.prompts]
            write_json(self.folder / PROMPTS, asked)
            self._write(0, replies=[asdict(reply) for reply in replies])
            return replies
        return replies_of(kept["replies"])

    def _opponents(self, step: int) -> list[Reply]:
        """The answers of the start or of a best that this check meets: those of their turn."""
        if step == 0:
            turn = len(self.checks) % ANSWERS_ANEW
            return self._start_anew(turn) if turn else self._replies(0)
        kept = self._read(step) or {}
        sets = kept.get("opponents", [kept["opponent"]] if "opponent" in kept else [])  # one set in old files
        met = sum(check.best_step == step for check in self.checks)
        return replies_of(sets[met % len(sets)]) if sets else self._replies(step)

    def _start_anew(self, turn: int) -> list[Reply]:
        """The starting policy's answers of a turn after its first, made when they are first met."""
        self._replies(0)
        sets = list((self._read(0) or {}).get("opponents", []))
        while len(sets) < turn:
            sets.append([asdict(reply) for reply in self.start(mix(self.seed, 0, OPPONENT, len(sets) + 1))])
            self._write(0, opponents=sets)
        return replies_of(sets[turn - 1])

    def _write(self, step: int, **found: Any) -> None:
        """Keep the answers of a step, and once it is known what a check found, that and after which step it was."""
        write_json(self._path(step), {"check": None, **(self._read(step) or {}), **found})

    def to_json(self) -> dict[str, Any]:
        """What it remembers, as JSON."""
        checks = [check.to_json() for check in self.checks]
        kept = {"checks": checks, "best": self.best_step, "kl": self.last_kl, "step": self.last_step}
        return kept | {"open": None if self.open is None else list(self.open)}

    def restore(self, kept: dict[str, Any]) -> None:
        """Remember what `to_json` gave."""
        self.checks = [check_from_json(check) for check in kept["checks"]]
        self.best_step, self.last_kl, self.last_step = kept["best"], kept["kl"], kept["step"]
        step_and_kl = kept.get("open")
        self.open = None if step_and_kl is None else (int(step_and_kl[0]), float(step_and_kl[1]))

    def summary(self) -> dict[str, Any]:
        """For the manifest: each check's win rates and raters, the best step, and what all of it cost."""
        rows = [
            {
                "step": check.step,
                "kl": check.kl,
                "against_start": asdict(check.against_start.rate),
                "against_best": asdict(check.against_best.rate),
                "best": check.best_step,
                **({} if check.panel is None else {"panel": asdict(check.panel)}),
            }
            for check in self.checks
        ]
        judgments = sum(check.judgments for check in self.checks)
        found = {"checks": rows, "best_step": self.best_step, "judgments": judgments}
        return found if self.left is None else found | {"left_open": self.left}


def replies_of(rows: Sequence[dict[str, Any]]) -> list[Reply]:
    """Answers as a check's file holds them."""
    return [Reply(**row) for row in rows]


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
