"""All that a programme's page shows, gathered before a word of it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from heedful.core.chains import chained
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.evaluation.refusal_rates import RefusalReport
from heedful.pipeline.costs import ProgrammeCosts, programme_costs
from heedful.pipeline.lineage import Lineage, trace
from heedful.pipeline.programme_report.agreement import Agreement, agreements
from heedful.pipeline.programme_report.cache import Cache
from heedful.pipeline.programme_report.fresh import Asked, HeadToHead, Maker, Probes
from heedful.pipeline.programme_report.reading import Results
from heedful.training.progress import Display

T = TypeVar("T")


@dataclass(frozen=True)
class Absent:
    """A part that a page has nothing to show of: why, and how to get it."""

    why: str


@dataclass(frozen=True)
class Material:
    """What a page shows.

    Attributes:
        results: the programme.
        contest: the last policy against the first.
        chain: the same out of the kept rounds' checks; None where none was kept, or a rate has no log-odds.
        refusals: by policy.
        probes: of the last reward model.
        agreements: of raters, by round.
        costs: of the rounds.
        lineage: of the policy that is kept now.
        made, found: what this call had to sample or score, and what lay in the cache.
    """

    results: Results
    contest: HeadToHead | Absent
    chain: Interval | None
    refusals: dict[str, RefusalReport] | Absent
    probes: Probes | Absent
    agreements: list[Agreement]
    costs: ProgrammeCosts | Absent
    lineage: Lineage | Absent
    made: list[str]
    found: list[str]

    @property
    def headline(self) -> tuple[Interval, str] | None:
        """How often the last policy beats the first, and by whom: judged directly, else along the chain."""
        if isinstance(self.contest, HeadToHead) and self.contest.rate is not None:
            return self.contest.rate, self.contest.judge
        if self.chain is None:
            return None
        several = len(self.results.kept) > 1
        return self.chain, "the checks of the rounds that were kept, one after another" if several else "its check"

    @property
    def gold(self) -> Interval | None:
        """The same by the world's truth."""
        return self.contest.gold if isinstance(self.contest, HeadToHead) else None


def gather(results: Results, asked: Asked, display: Display) -> Material:
    """Read, sample and score what a page shows; a part that cannot be made says why instead."""
    maker = Maker(results, asked, Cache.of(results.folder), display)
    contest = _part(asked.samples, "--samples", maker.head_to_head, _unmoved(results))
    refusals = _part(asked.refusals, "--refusals", lambda: maker.refusals() or None, "No round has ended yet.")
    probes = _part(asked.probes, "--probes", maker.probes, _without_reward(results))
    return Material(
        results,
        contest,
        _chain(results),
        refusals,
        probes,
        agreements(results),
        _read(lambda: programme_costs(results.folder)),
        _traced(results),
        maker.cache.made,
        maker.cache.found,
    )


def _read(make: Callable[[], T]) -> T | Absent:
    try:
        return make()
    except HeedfulError as error:
        return Absent(_said(error))


def _said(error: HeedfulError) -> str:
    where = f"{error.where}: " if error.where else ""
    return f"It could not be made. {where}{error.what} {error.mend}".strip()


def _traced(results: Results) -> Lineage | Absent:
    last = results.last
    if last is None:
        return Absent("No policy has been kept yet; heedful round carries the programme on.")
    path = results.path(last)
    if not Path(path).exists():
        return Absent(f"The policy is still {path}, which nothing here was made into: it has no lineage to show.")
    return _read(lambda: trace(path, verify=False))


def _part(asked: bool, flag: str, make: Callable[[], T | None], nothing: str) -> T | Absent:
    if not asked:
        return Absent(f"Left out by --no-{flag.removeprefix('--')}; heedful report with {flag} makes it.")
    try:
        found = make()
    except HeedfulError as error:
        return Absent(_said(error))
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.split(".")[0] == "heedful":
            raise
        return Absent(
            f"It needs {error.name}, which is not installed here: pip install 'heedful[train]', and run heedful report "
            "again."
        )
    return Absent(nothing) if found is None else found


def _unmoved(results: Results) -> str:
    if not results.rounds:
        return "No round has ended yet; heedful round carries the programme on."
    return "No round's policy was kept, so the policy is still the first one; each check above says what it won."


def _without_reward(results: Results) -> str:
    if results.rounds and not results.stages("reward"):
        return f"{results.recipe.learn.optimise} learns without a reward model, so there is none to probe."
    return "There is no reward model yet; heedful round carries the programme on."


def _chain(results: Results) -> Interval | None:
    rates = [one.rate for one in results.kept]
    try:
        return chained(rates)
    except ValueError:
        return None
