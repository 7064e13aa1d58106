"""The report of a probing: what a reward pays for, as a plot with a verdict beside each figure."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from heedful.evaluation.probes.contrast import KINDS, Base, Contrast
from heedful.evaluation.probes.measure import Effect, Probing
from heedful.evaluation.reward_bench import RewardBench
from heedful.pipeline.report_data import (
    Explanation,
    Figure,
    Forest,
    ForestRow,
    ReportData,
    SampleAnswer,
    SampleRow,
    bounds,
    write,
)
from heedful.pipeline.run_folder import code_version

MOODS = {"favours": "bad", "punishes": "bad", "length": "even", "none": "good", "undecided": "even"}


def headline(probing: Probing) -> str:
    """What a probing found, in a sentence or two."""
    found = [e for e in probing.effects if e.found in ("favours", "punishes")]
    if not found:
        told = (
            "No probe shows a bias that is clear of chance."
            if probing.slope is not None
            else ("No probe shows an effect that is clear of chance.")
        )
    else:
        found.sort(key=lambda effect: -abs(effect.headline.mean))
        listed = [f"{e.verdict.partition(',')[0]} ({write(e.headline.mean, 'hundredths')})" for e in found]
        told = f"This reward {'; '.join(listed)}."
    through = [KINDS[e.kind].favours for e in probing.effects if e.found == "length"]
    return told + (f" No more than length explains: {', '.join(through)}." if through else "")


def report_data(
    reward: str, base: Base, contrasts: Sequence[Contrast], probing: Probing, lineage: Mapping[str, str]
) -> ReportData:
    """The report as plain values: see `heedful.pipeline.report`."""
    known = probing.slope is not None
    unit = "bias, in spreads of the reward" if known else "effect, in spreads of the reward"
    figures = [
        Figure("Probes", len(probing.effects), "count", f"{len(contrasts):,} counterfactual sets of answers"),
        Figure("Spread of the reward", probing.spread, "number", _spread(probing)),
    ]
    if probing.slope is not None:
        figures.append(Figure("Price of a gold point", probing.slope, "number", "in points of the reward"))
    few = [f"{kind} ({n} prompts)" for kind, n in probing.too_few.items()]
    note = f"Left out for too few prompts: {', '.join(few)}." if few else ""
    return ReportData(
        title="What this reward pays for",
        subtitle=f"{reward} on {probing.answers:,} ordinary answers of {base.source} and their changed twins.",
        headline=headline(probing),
        figures=tuple(figures),
        forests=(Forest("Each probe", unit, tuple(_row(effect) for effect in probing.effects), note),),
        curves_title="The probes",
        curves_lead=True,
        explanations=(Explanation("Verdicts", tuple(_told(effect) for effect in probing.effects)), _reading(known)),
        samples=tuple(_example(effect.kind, contrasts) for effect in probing.effects),
        sample_note="One set of each probe, the first that was made: what is compared.",
        lineage={"heedful": code_version(), "python": sys.version.split()[0], "reward": reward, **lineage},
    )


def bench_lines(found: RewardBench) -> list[str]:
    """A benchmark's scores, a line each."""
    lines = []
    for name, subset in found.subsets.items():
        interval = f" ({bounds(subset.interval, 'percent')})" if subset.interval else ""
        chance = f", chance {write(subset.chance, 'percent')}" if subset.chance is not None else ""
        lines.append(f"{name}: {write(subset.score, 'percent')}{interval} of {subset.items} prompts{chance}")
    lines += [f"{name}: {write(score, 'percent')}" for name, score in found.sections.items()]
    return [*lines, f"overall: {write(found.overall, 'percent')}"]


def _spread(probing: Probing) -> str:
    return "standard deviation of answers to one prompt" if probing.within else "standard deviation of all answers"


def _row(effect: Effect) -> ForestRow:
    marks = {}
    if effect.gold is not None:
        marks["gold's own effect"] = effect.gold.mean
    marks |= {f"{name}": interval.mean for name, interval in effect.baselines.items()}
    return ForestRow(KINDS[effect.kind].favours, effect.headline, MOODS[effect.found], marks)


def _told(effect: Effect) -> str:
    kind = KINDS[effect.kind]
    parts = [f"{_capital(effect.verdict)}. Changed: {kind.change}, {effect.words:+.1f} words."]
    parts.append(f"Effect on the reward {_interval(effect.reward)}")
    if effect.gold is not None and effect.bias is not None:
        parts.append(f", on gold {_interval(effect.gold)}, bias {_interval(effect.bias)}")
    if effect.beyond_length is not None:
        parts.append(f", beyond length {_interval(effect.beyond_length)}")
    agreeing, phrases = effect.phrases
    wordings = f"{agreeing} of {phrases} wordings agree" if phrases > 1 else "one wording"
    return f"{parts[0]} {''.join(parts[1:])}; {effect.contrasts:,} sets, {effect.clusters} clusters, {wordings}."


def _interval(value: object) -> str:
    from heedful.core.statistics import Interval

    assert isinstance(value, Interval)
    return f"{write(value.mean, 'hundredths')} ({bounds(value, 'hundredths')})"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _reading(known: bool) -> Explanation:
    paragraphs = [
        "Each probe changes one thing in an answer and asks what the reward pays for it. One spread is as much as one "
        "answer to a prompt commonly differs from another. Intervals are 95%, from resampling prompts (topics in the "
        "embedded world); a verdict needs an interval wide enough for all probes to hold at once.",
        "The marks beside each line are the same figure of a reward that counts words and of one that is chance.",
    ]
    if known:
        paragraphs.append(
            "Gold is known here, so that what counts is the bias: the reward's effect less gold's, gold brought to the "
            "reward's scale by a regression over ordinary answers. The plot shows the bias, with gold's own effect."
        )
    else:
        paragraphs.append(
            "No truth is known here: an effect is no fault by itself. Paying for courtesy may be what people wanted; "
            "paying for padding hardly."
        )
    return Explanation("How to read this", tuple(paragraphs))


def _example(kind: str, contrasts: Sequence[Contrast]) -> SampleRow:
    contrast = next(c for c in contrasts if c.kind == kind)
    names = {1.0: "changed", -1.0: "plain"}
    several = len({term.prompt for term in contrast.terms}) > 1
    answers = tuple(
        SampleAnswer(
            names[term.sign] + (f", asked “{term.prompt[-1].content[:80]}”" if several else ""),
            term.text,
            {},
        )
        for term in contrast.terms
    )
    return SampleRow(contrast.terms[0].prompt, KINDS[kind].favours, answers)
