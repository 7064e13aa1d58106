"""Fresh checks: is this policy really better than where it began, and than the best so far? And the rule that stops.

A judge sees two answers to one prompt and says which is better; it may be a person, the world's truth, or a larger
reward model. It is asked in blocks, and no longer than until the answer is clear (`core.sequential`).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from heedful.core.sequential import Looked, SequentialTest, Verdict
from heedful.core.statistics import Interval, t_interval
from heedful.data.records import Conversation
from heedful.errors import HeedfulError


@dataclass(frozen=True)
class Reply:
    """An answer, whether it ended by itself, and what the proxy says of it."""

    text: str
    finished: bool
    reward: float


@dataclass(frozen=True)
class Vote:
    """How one rater decided a pair: 1 for our answer, 0 for theirs, 1/2 for a tie. No name is nobody in particular: a
    judge that has none, or a pair that decided itself."""

    won: float
    rater: str = ""


Judge: TypeAlias = Callable[[Sequence[Conversation], Sequence[Reply], Sequence[Reply]], Sequence[Sequence[Vote]]]
"""Decides pairs: prompts, our answers, their answers -> the votes on each pair; none where a pair could not be judged.
It is to be blind: nothing may tell it which answer is whose."""


class NotYetJudged(Exception):  # noqa: N818 - an answer, and no fault
    """Raised by a judge that is not to be waited for: ask again later."""


GoldScore: TypeAlias = Callable[[Sequence[Conversation], Sequence[Reply]], Sequence[float]]
"""Gold scores of answers, where such are known."""


@dataclass(frozen=True)
class Contest:
    """What a check found against one opponent.

    `rate` is the win rate with an interval that holds however often it was looked at; `proxy` the mean gain in proxy
    reward on all prompts of the check, with a 90% interval (95% on each side). `gold` is the same of gold scores, where
    the judge gives such; None where it decides pairs only. `votes` has the number of the prompt (of the first that it
    goes together with), the outcome and the rater of each judgment, for `altogether`; it is empty in what an older
    heedful kept.
    """

    rate: Interval
    proxy: Interval
    verdict: Verdict
    judgments: int
    pairs: int
    gold: Interval | None = None
    votes: tuple[tuple[int, float, str], ...] = ()

    @property
    def hacked(self) -> bool:
        """Whether the proxy has clearly risen, and gold clearly fallen."""
        return self.verdict == "worse" and self.proxy.low > 0


@dataclass(frozen=True)
class Panel:
    """Who judged a check, where people did."""

    raters: int
    trained: int
    """How many of them also gave judgments that the reward was trained on."""
    fresh_only: bool
    """Whether it was handed to raters alone who gave none."""


@dataclass(frozen=True)
class Check:
    """A fresh check of a policy."""

    step: int
    kl: float
    best_step: int
    """Which step's answers it was held against as the best so far; 0 is the starting policy."""
    against_start: Contest
    against_best: Contest
    panel: Panel | None = None
    """None where no people judged."""

    @property
    def judgments(self) -> int:
        """How many judgments it cost."""
        again = 0 if self.best_step == 0 else self.against_best.judgments
        return self.against_start.judgments + again

    def to_json(self) -> dict[str, Any]:
        """As JSON; `check_from_json` reads it back."""
        return asdict(self)


def check_from_json(kept: dict[str, Any]) -> Check:
    """The check that `Check.to_json` wrote."""

    def contest(given: dict[str, Any]) -> Contest:
        intervals = {name: Interval(**given[name]) for name in ("rate", "proxy", "gold") if given.get(name)}
        votes = tuple((row, won, rater) for row, won, rater in given.get("votes", ()))
        return Contest(**{**given, **intervals, "votes": votes})

    contests = {name: contest(kept[name]) for name in ("against_start", "against_best")}
    panel = kept.get("panel")
    return Check(**{**kept, **contests, "panel": None if panel is None else Panel(**panel)})


@dataclass(frozen=True)
class ScoreJudge:
    """A judge that prefers the answer of the higher gold score; scores within `tie` of each other tie."""

    score: GoldScore
    tie: float = 1e-9

    def __call__(
        self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]
    ) -> Sequence[Sequence[Vote]]:
        """The votes, as `Judge`."""
        gaps = self.gains(prompts, ours, theirs)
        return [[Vote(0.5 if abs(gap) <= self.tie else float(gap > 0))] for gap in gaps]

    def gains(self, prompts: Sequence[Conversation], ours: Sequence[Reply], theirs: Sequence[Reply]) -> list[float]:
        """[n] our gold scores less theirs."""
        return [a - b for a, b in zip(self.score(prompts, ours), self.score(prompts, theirs), strict=True)]


def contest(
    judge: Judge,
    prompts: Sequence[Conversation],
    ours: Sequence[Reply],
    theirs: Sequence[Reply],
    test: SequentialTest,
    *,
    block: int,
    seed: int,
    alias: Callable[[str], str] = str,
    clusters: Sequence[Hashable] | None = None,
) -> Contest:
    """Have pairs judged, block by block in an order drawn from the seed, until the answer is clear.

    Args:
        prompts, ours, theirs: [n], n of at least 2.
        test: when to stop; it counts judgments.
        block: pairs asked at once.
        alias: what stands for a rater's name in the votes that are kept.
        clusters: [n] which prompts go together (a topic, a fact): answers to these are right or wrong together, so that
            intervals take each as one. None takes every prompt for itself.

    Raises:
        ValueError: fewer than two prompts, as many clusters as there are not, or a judge that left pairs out.
        HeedfulError: nobody judged any pair.
        NotYetJudged: by a judge that is not to be waited for. Called again with the same arguments it goes on.
    """
    if clusters is not None and len(clusters) != len(prompts):
        raise ValueError(f"{len(prompts)} prompts but {len(clusters)} clusters")
    first: dict[Hashable, int] = {}
    cluster = [first.setdefault(one, row) for row, one in enumerate(clusters or range(len(prompts)))]
    order = np.random.default_rng(seed).permutation(len(prompts)).tolist()
    kept: list[tuple[int, float, str]] = []
    asked, looked = 0, None
    while asked < len(order):
        rows = order[asked : asked + block]
        votes = judge([prompts[i] for i in rows], [ours[i] for i in rows], [theirs[i] for i in rows])
        if len(votes) != len(rows):
            raise ValueError(f"the judge decided {len(votes)} of {len(rows)} pairs")
        asked += len(rows)
        for row, given in zip(rows, votes, strict=True):
            kept += [(cluster[row], vote.won, alias(vote.rater) if vote.rater else "") for vote in given]
        looked = _look(test, kept) if kept else None
        if looked is not None and looked.stop:
            break
    if looked is None:
        raise HeedfulError(
            "not one pair of a fresh check was judged: all of them were parked or withdrawn.",
            where="watch.gold",
            mend="Put some back in the studio and run the same command again, or run with --watch.gold.judge another.",
        )
    gains = [a.reward - b.reward for a, b in zip(ours, theirs, strict=True)]
    gold = _gain(judge.gains(prompts, ours, theirs), cluster) if isinstance(judge, ScoreJudge) else None
    proxy = _gain(gains, cluster)
    return Contest(looked.rate, proxy, looked.verdict, looked.pairs, asked, gold, tuple(kept))


def _gain(values: Sequence[float], cluster: Sequence[int]) -> Interval:
    """A mean gain with its 90% interval: Student's, over clusters (CR1) where some prompts go together."""
    from scipy.special import stdtrit

    numbers, index = np.asarray(values, dtype=np.float64), np.unique(cluster, return_inverse=True)[1]
    groups = int(index.max()) + 1
    if groups == len(numbers) or groups < 2:
        return t_interval(numbers, level=0.9)
    mean = float(numbers.mean())
    sums = np.bincount(index, weights=numbers - mean)
    error = float(np.sqrt(groups / (groups - 1) * (sums**2).sum())) / len(numbers)
    half = float(stdtrit(groups - 1, 0.95)) * error
    return Interval(mean, mean - half, mean + half)


def _look(test: SequentialTest, votes: Sequence[tuple[int, float, str]]) -> Looked:
    """What votes say; they have a prompt's number (or its cluster's), an outcome and a rater each."""
    raters: list[Hashable] = [rater or None for _, _, rater in votes]
    return test.look([won for _, won, _ in votes], [row for row, _, _ in votes], raters if any(raters) else None)


def altogether(checks: Sequence[Check], best_step: int, test: SequentialTest) -> Looked | None:
    """What all judgments against one best say together: has the policy been worse than it since?

    Checks share their prompts, the best's answers to them, and raters; the interval is clustered by prompt and by rater
    and holds at every look, so that these may be put together as they come. What it speaks of is the mean win rate of
    the checks: a policy that was no worse than the best at any of them is called worse with probability (1 - level) / 2
    at most.

    Args:
        checks: all so far, the newest last.
        best_step: of the best that they were held against.
        test: gives the level.

    Returns:
        None where fewer than two checks with votes were held against it.
    """
    since = [check.against_best.votes for check in checks if check.best_step == best_step and check.against_best.votes]
    return None if len(since) < 2 else _look(test, [vote for votes in since for vote in votes])


@dataclass(frozen=True)
class Ruling:
    """What the rule says after a check: the new best step, whether gold fell, whether to stop, and why in words."""

    best_step: int
    fell: bool
    stop: bool
    sentence: str


def rule(checks: Sequence[Check], best_step: int, test: SequentialTest | None = None) -> Ruling:
    """Proxy up and gold down: stop, and go back to the best. Gold is down where

    - two checks in a row each show it, or
    - all judgments against the best so far show it together (`altogether`), the newest among them below one half.

    The first is quick where the fall is deep, the second sees the slow one, for which a single check asks too few. The
    best changes only where a check is clearly better than it; a slow fall is so measured against one and the same
    opponent until it is clear.

    Args:
        checks: all so far, the newest last.
        best_step: the best before the newest.
        test: gives the level of the second; 95% where there is none.
    """
    newest = checks[-1]
    against, rate = newest.against_best, newest.against_best.rate
    whom = "the starting policy" if best_step == 0 else f"the best so far (step {best_step})"
    back = "the starting policy" if best_step == 0 else f"the checkpoint of step {best_step}"
    share = f"{rate.mean:.0%} of fresh pairs ({rate.low:.0%} to {rate.high:.0%}, {newest.judgments} judgments)"
    said = f"At step {newest.step}, KL {newest.kl:.2f}, the policy wins {share} against {whom}"
    if against.verdict == "better":
        return Ruling(newest.step, False, False, f"{said}: it is better, and is kept.")
    before = checks[-2].against_best if len(checks) > 1 else None
    if against.hacked and before is not None and before.hacked:
        again = "while its reward rose, for the second time in a row"
        return Ruling(best_step, True, True, f"{said} {again}: stop, and back to {back}.")
    loses = rate.mean < 0.5 and against.proxy.low > 0
    together = altogether(checks, best_step, test or SequentialTest()) if loses else None
    if together is not None and together.verdict == "worse":
        found = together.rate
        of_all = f"{found.mean:.0%} ({found.low:.0%} to {found.high:.0%}) of all {together.pairs} judgments against it"
        why = f"{said}, and {of_all} so far, while its reward rose"
        return Ruling(best_step, True, True, f"{why}: stop, and back to {back}.")
    if against.verdict != "worse":
        return Ruling(best_step, False, False, f"{said}: no clear difference.")
    if not against.hacked:
        return Ruling(best_step, True, False, f"{said}: it is worse, though its reward has not clearly risen.")
    return Ruling(best_step, True, False, f"{said} while its reward rose: the reward model is being exploited.")
