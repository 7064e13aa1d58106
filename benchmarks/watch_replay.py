"""A recorded run looked at again: where gold peaked and fell, and where the rule on fresh checks would have stopped it.

Shared by `overoptimisation.py` and `detectors.py`. Raters are simulated and vote anew in every replay; contests, the
sequential test and the rule are heedful's own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from heedful.data.records import Conversation
    from heedful.monitoring.checks import Check, Judge, Reply
    from heedful.world.raters import Rater
    from heedful.world.world import World

DROP = 0.25
"""Gold has fallen where it stays below its highest point by so many spreads of the first answers' gold."""


@dataclass(frozen=True)
class GoldCurve:
    """Mean gold of a run's checks.

    Attributes:
        steps: of the checks, the first is 0, the starting policy.
        gold: [checks] means.
        spread: standard deviation of gold between the starting policy's answers.
    """

    steps: Sequence[int]
    gold: Sequence[float]
    spread: float

    @property
    def onset(self) -> int | None:
        """The first check from which on gold stays `DROP` spreads below its highest point; None where it does not."""
        found = None
        for i, step in enumerate(self.steps):
            below = max(self.gold[: i + 1]) - self.gold[i] > DROP * self.spread
            if below and found is None:
                found = step
            elif not below:
                found = None
        return found

    @property
    def peak(self) -> int:
        """The step of the highest gold."""
        return self.steps[max(range(len(self.gold)), key=self.gold.__getitem__)]

    def at(self, step: int) -> float:
        """Gold of a check."""
        return self.gold[list(self.steps).index(step)]


@dataclass(frozen=True)
class Ruled:
    """What the rule did with a run.

    Attributes:
        stopped: the step that it stopped at, or None.
        best: whose weights it would put back, or had kept at the end.
        judgments: that it cost until then.
    """

    stopped: int | None
    best: int
    judgments: int


def apart(check: Check) -> Check:
    """A check whose votes are not put together with those of others: the rule of two in a row alone."""
    return replace(check, against_best=replace(check.against_best, votes=()))


def ruled(checks: Iterable[Check], *, together: bool = True) -> Ruled:
    """The rule over checks that were made as the run went, in order; those after its stop are not looked at.

    Args:
        together: whether what all checks since the best say together may stop it, too.
    """
    from heedful.monitoring.checks import rule

    seen: list[Check] = []
    best, cost = 0, 0
    for check in checks:
        seen.append(check if together else apart(check))
        cost += check.judgments
        ruling = rule(seen, best)
        best = ruling.best_step
        if ruling.stop:
            return Ruled(check.step, best, cost)
    return Ruled(None, best, cost)


class Recorded:
    """The answers of a run's checks, numbered, with what each of some raters thinks they are worth.

    Args:
        world: whose truth the raters see through their noise.
        prompts: of the checks.
        answers: replies to them, by step; step 0 are the starting policy's.
        kl: nats at each step but 0.
        raters: who may be asked.
        opponents: other replies of a step, which later checks meet in turn; its own where there are none.
    """

    def __init__(
        self,
        world: World,
        prompts: Sequence[Conversation],
        answers: Mapping[int, Sequence[Reply]],
        kl: Mapping[int, float],
        raters: Sequence[Rater],
        opponents: Mapping[int, Sequence[Sequence[Reply]]] | None = None,
    ) -> None:
        self.prompts, self.kl, self.raters, self.world = list(prompts), kl, raters, world
        self._worth: dict[str, list[float]] = {}
        self._gold: dict[str, float] = {}
        self.answers = {step: self._numbered(f"{step}", replies) for step, replies in answers.items()}
        self.opponents = {step: [replies] for step, replies in self.answers.items()}
        for step, sets in (opponents or {}).items():
            self.opponents[step] = [self._numbered(f"{step}.{turn}", replies) for turn, replies in enumerate(sets)]

    def _numbered(self, name: str, replies: Sequence[Reply]) -> list[Reply]:
        """The judge below knows an answer by its number, so that its worth is looked up and not read again."""
        from heedful.monitoring.checks import Reply

        for i, (prompt, reply) in enumerate(zip(self.prompts, replies, strict=True)):
            read = self.world.attributes(prompt, reply.text, reply.finished)
            self._worth[f"{name}:{i}"] = [rater.worth(read) for rater in self.raters]
            self._gold[f"{name}:{i}"] = self.world.gold(prompt, reply.text, reply.finished)
        return [Reply(f"{name}:{i}", r.finished, r.reward) for i, r in enumerate(replies)]

    def judge(self, dice: np.random.Generator) -> Judge:
        """A judge that asks one rater a pair, each drawn by chance, the sides by a coin."""
        from heedful.monitoring.checks import Vote

        def decide(asked: Sequence[Any], ours: Sequence[Reply], theirs: Sequence[Reply]) -> list[list[Vote]]:
            who = dice.integers(len(self.raters), size=len(asked))
            luck, sides = dice.random(len(asked)), dice.random(len(asked)) < 0.5
            own = np.array([self._worth[a.text][rater] for rater, a in zip(who, ours, strict=True)])
            other = np.array([self._worth[b.text][rater] for rater, b in zip(who, theirs, strict=True)])
            chance = np.empty(len(asked))
            for number, rater in enumerate(self.raters):
                rows = who == number
                first, second = np.where(sides, own, other)[rows], np.where(sides, other, own)[rows]
                chance[rows] = rater.prefers_first(first, second)
            won = (luck < chance) == sides
            return [[Vote(float(w), self.raters[r].name)] for w, r in zip(won, who, strict=True)]

        return decide

    def truth(self) -> Judge:
        """A judge that prefers the answer of the higher gold score."""
        from heedful.monitoring.checks import ScoreJudge

        return ScoreJudge(lambda prompts, replies: [self._gold[reply.text] for reply in replies])

    def replay(self, seed: Sequence[int], *, block: int = 20, most: int | None = None) -> Ruled:
        """The rule with raters who vote by these dice; it asks no more once it has stopped."""
        return ruled(self.checks(seed, block=block, most=most))

    def by_truth(self, seed: Sequence[int], *, block: int = 20, most: int | None = None) -> Ruled:
        """The rule where the world's truth decides each pair; the dice draw the order in which pairs are looked at."""
        return ruled(self.checks(seed, block=block, most=most, judge=self.truth()))

    def both(self, seed: Sequence[int], *, block: int = 20, most: int | None = None) -> tuple[Ruled, Ruled]:
        """The rule, and two checks in a row alone, on the same votes. What stops the second stops the first."""
        made: list[Check] = []

        def kept() -> Iterator[Check]:
            for check in self.checks(seed, block=block, most=most):
                made.append(check)
                yield check

        alone = ruled(kept(), together=False)
        return ruled(made), alone

    def checks(
        self, seed: Sequence[int], *, block: int = 20, most: int | None = None, judge: Judge | None = None
    ) -> Iterator[Check]:
        """The checks of the run, one after the other, by raters who vote by these dice, or by another judge."""
        from heedful.core.sequential import SequentialTest
        from heedful.monitoring.checks import Check, contest, rule

        dice = np.random.default_rng(list(seed))
        judge, test = judge or self.judge(dice), SequentialTest(most=most or 10 * len(self.prompts))
        made: list[Check] = []
        best = 0
        for step in sorted(self.answers)[1:]:
            drawn = int(dice.integers(2**31))

            def against(theirs: int, met: int, seed: int, step: int = step) -> Any:
                sets = self.opponents[theirs]
                return contest(
                    judge, self.prompts, self.answers[step], sets[met % len(sets)], test, block=block, seed=seed
                )

            start = against(0, len(made), drawn)
            other = start if best == 0 else against(best, sum(c.best_step == best for c in made), drawn + 1)
            check = Check(step, self.kl[step], best, start, other)
            yield check
            made.append(apart(check))
            best = rule(made, best).best_step
