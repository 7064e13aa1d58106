"""A programme in three to five sentences for somebody who was not there, with the numbers."""

from __future__ import annotations

from collections.abc import Sequence

from heedful.core.statistics import Interval
from heedful.evaluation.refusal_rates import RefusalReport
from heedful.pipeline.programme_report.beyond import alarms_of, modes_of
from heedful.pipeline.programme_report.fresh import HeadToHead
from heedful.pipeline.programme_report.material import Absent, Material
from heedful.pipeline.programme_report.reading import KINDS, Results
from heedful.pipeline.programme_report.spent import money
from heedful.pipeline.programme_report.words import counted, listed
from heedful.pipeline.report_data import bounds, say_win_rate, write


def headline(material: Material) -> str:
    """The result in a sentence or two, which claim no more than their intervals allow."""
    results = material.results
    if not results.rounds:
        return results.under_way or "No round has ended yet, so that there is no result."
    if not results.moved:
        rates = ", ".join(write(one.rate.mean, "percent") for one in results.rounds)
        return (
            f"The policy is still the one that the programme began with: {counted(len(results.rounds), 'round')} "
            f"ended, and no new policy passed its check ({rates} of pairs)."
        )
    if material.headline is None:
        return "Its kept rounds won every pair of a check, so that no interval can be given."
    rate, judge = material.headline
    contest = material.contest
    if isinstance(contest, HeadToHead) and contest.rate is not None:
        where = f"{len(contest.prompts):,} prompts that nothing was trained on, by {judge}"
    else:
        where = f"prompts that nothing was trained on, by {judge}"
    said = say_win_rate("The last policy", "the one it began with", rate, where=where)
    return said if material.gold is None else f"{said} {_of_truth(material.gold)}"


def _of_truth(gold: Interval) -> str:
    figures = f"{write(gold.mean, 'percent')} (95% interval {bounds(gold, 'percent')})"
    clear = gold.low > 0.5 or gold.high < 0.5
    return f"By the embedded world's known truth it wins {figures}{'' if clear else ': no clear difference'}."


def sentences(material: Material) -> list[str]:
    """What was done, which rounds were kept, and what to know beside the result; two to four sentences."""
    results = material.results
    found = [_done(results)] if results.rounds else []
    found += [_outcomes(results)] if results.rounds else []
    if results.rounds and results.under_way:
        found.append(results.under_way)
    found += _watched(material)
    found += _spent(material)
    return found


def _done(results: Results) -> str:
    judgments = results.counted("judgments")
    pairs = sum(one.learnt for one in results.rounds)
    by = listed([f"{count:,} judgments by {KINDS[kind]}" for kind, count in judgments.items()])
    method = results.recipe.learn.optimise.replace("_", " ").upper()
    return (
        f"In {counted(len(results.rounds), 'round')} {pairs:,} pairs of its answers were judged ({by}), and "
        f"the policy learnt from them by {method}."
    )


def _outcomes(results: Results) -> str:
    """Which rounds were kept."""
    kept = [str(one.number) for one in results.kept]
    back = [str(one.number) for one in results.rounds if not one.promoted]
    if not back:
        return "Every round's policy passed its check and was kept." if len(kept) > 1 else "Its policy was kept."
    said = (
        f"Round{'s' if len(back) > 1 else ''} {listed(back)} did not pass the check and went back to the policy before"
    )
    return f"{said}; {'round' if len(kept) == 1 else 'rounds'} {listed(kept)} kept theirs." if kept else f"{said}."


def _watched(material: Material) -> list[str]:
    """Refusals and alarms in a sentence."""
    parts = []
    if isinstance(material.refusals, dict) and material.results.moved:
        parts.append(_refused(list(material.refusals.values())))
    rows, modes = alarms_of(material.results), modes_of(material.results)
    if rows:
        signs = listed(sorted({str(row["sign"]) for _, row in rows}))
        parts.append(f"the watch over training alarmed {counted(len(rows), 'time')} ({signs})")
    elif modes and set(modes.values()) != {"off"}:
        parts.append("the watch over training raised no alarm")
    if not parts:
        return []
    joined = ", and ".join(parts)
    return [f"{joined[0].upper()}{joined[1:]}."]


def _spent(material: Material) -> list[str]:
    """What it took of the machine and of people."""
    if isinstance(material.costs, Absent) or not material.results.rounds:
        return []
    total = material.costs.total
    parts = [f"{write(total.wall_seconds, 'seconds')} of computing"]
    parts += [f"{total.rater_hours:,.1f} hours of people's time"] if total.rater_judgments else []
    parts += [f"{total.judge_tokens:,} tokens of AI judges"] if total.judge_tokens else []
    parts += [money(total)] if money(total) != "–" else []
    return [f"All of it took {listed(parts)}."]


def _refused(reports: Sequence[RefusalReport]) -> str:
    before, after = (next(iter(one.rates.values())) for one in (reports[0], reports[-1]))
    unsafe, safe = (
        f"{write(now.mean, 'percent')} of {name} ({write(then.mean, 'percent')} at first)"
        for name, now, then in (
            ("unsafe requests", after.unsafe, before.unsafe),
            ("safe ones", after.safe, before.safe),
        )
    )
    return f"the policy now refuses {unsafe} and {safe}"
