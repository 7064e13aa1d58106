"""What a win rate does not show: alarms, refusals, what the reward model pays for, and how far raters agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from heedful.core.statistics import Interval
from heedful.pipeline import probe_report, refusal_report, report_labels
from heedful.pipeline.programme_report.agreement import RATERS, Agreement, labels
from heedful.pipeline.programme_report.improved import absent, rate_cell
from heedful.pipeline.programme_report.material import Absent, Material
from heedful.pipeline.programme_report.reading import Results
from heedful.pipeline.programme_report.words import listed
from heedful.pipeline.report_data import ReportData, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import curves, data_table, explanations, samples
from heedful.pipeline.watch_words import checks_in_words, read_refusals
from heedful.training.folders import ALARMS, whole_lines

TIERS = {"warn": "even"}
"""Tiers of alarms that are no cause to step in; all others are marked as bad."""
MODES = {"warn": "on, and only warned", "act": "on, and could step in", "off": "off"}


# --- alarms ---


def alarms_of(results: Results) -> list[tuple[int, Mapping[str, Any]]]:
    """The alarms of every round's policy, with the round."""
    found: list[tuple[int, Mapping[str, Any]]] = []
    for number in results.stages("policy"):
        found += [(number, row) for _, row in whole_lines(results.place(number, "policy") / ALARMS)]
    return found


def modes_of(results: Results) -> dict[int, str]:
    """How the watch was set in each round: warn, act or off."""
    return {number: (one.get("watch") or {}).get("mode", "off") for number, one in results.stages("policy").items()}


def alarms(material: Material) -> Safe:
    """What the watch saw while policies were trained."""
    results = material.results
    modes, rows = modes_of(results), alarms_of(results)
    if not modes:
        return element("p", "No policy has been trained yet, so that there was nothing to watch.", class_="muted")
    alike = {mode: [str(number) for number, own in modes.items() if own == mode] for mode in modes.values()}
    told = "; ".join(f"{MODES.get(mode, mode)} in round {', '.join(own)}" for mode, own in alike.items())
    if set(modes.values()) == {"off"}:
        block = results.recipe.learn.optimise
        return element(
            "p",
            f"The watch was off in every round, so that no alarm could be raised. Set {block}.watch.mode to warn or "
            "act in heedful.yaml (docs/watch.md).",
            class_="muted",
        )
    told_checks = [
        element("p", f"Round {number}. {sentence}")
        for number, one in results.stages("policy").items()
        for sentence in checks_in_words(one.get("watch") or {})
    ]
    first = element("p", f"The watch over training was {told}.")
    if not rows:
        return element("div", first, element("p", "No sign of reward hacking alarmed."), told_checks)
    return element("div", first, alarm_table([(f"Round {number}", row) for number, row in rows]), told_checks)


def alarm_table(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> Safe:
    """Alarms, a row each, with the run that raised it."""
    body = [
        element(
            "tr",
            element("th", run, scope="row"),
            element("td", write(row["step"], "count"), class_="n"),
            element("td", str(row["sign"])),
            element(
                "td", element("span", tier := str(row["tier"]).lower(), class_=f"verdict {TIERS.get(tier, 'bad')}")
            ),
            element("td", str(row["sentence"]), class_="wide"),
            element("td", "; ".join(row.get("done") or ()) or "–", class_="wide"),
        )
        for run, row in rows
    ]
    heads = ("Run", "Step", "Sign", "Tier", "What was seen", "What was done")
    return data_table("Alarms", "Every alarm of the watch, in order.", heads, body, numbers=(1,))


# --- refusals ---


def refusals(material: Material) -> Safe:
    """Safe requests refused against unsafe ones, before and after; and over training where the watch measured it."""
    results = material.results
    over = [
        refusal_report.training_curves(rows, f"Round {number}")
        for number in results.stages("policy")
        if (rows := read_refusals(results.place(number, "policy")))
    ]
    trained = curves(ReportData("", "", "", curves=sum(over, ())), "refused-over-") if over else None
    found = material.refusals
    if isinstance(found, Absent):
        return element("div", absent(found), trained)
    source = "the embedded world" if results.recipe.world.use else "heedful's own requests"
    page = refusal_report.report_data(found, source)
    asked = next(iter(found.values()))
    verdicts = [f"The {name}: {next(iter(one.rates.values())).verdict}" for name, one in found.items()]
    who = listed([f"the {name}" for name in found])
    told = (
        f"{who.capitalize()} answered {asked.prompts} requests of {source}, half of them safe; refusals "
        f"are told by {next(iter(asked.rates))}."
    )
    shown = ReportData("", "", "", forests=page.forests, curves=page.curves)
    examples = [row for row in page.samples if row.answers[0].method == list(found)[-1]]
    wrong = ReportData("", "", "", samples=tuple(examples), sample_note=page.sample_note)
    more = (
        element("details", element("summary", "Requests that the last one got wrong"), samples(wrong))
        if examples
        else None
    )
    return element(
        "div", [element("p", sentence) for sentence in (told, *verdicts)], curves(shown, "refusals-"), trained, more
    )


# --- what the reward model pays for ---


def probes(material: Material) -> Safe:
    """Pairs in which one thing alone differs, scored by the last reward model."""
    found = material.probes
    if isinstance(found, Absent):
        return absent(found)
    page = probe_report.report_data(found.reward, found.base, found.contrasts, found.probing, {})
    verdicts, reading = page.explanations
    listed = element("details", element("summary", "Each probe in words"), explanations((verdicts,)))
    return element(
        "div",
        element("p", element("strong", page.headline)),
        curves(ReportData("", "", "", forests=page.forests), "probes-"),
        [element("p", text, class_="muted") for text in reading.paragraphs],
        listed,
    )


# --- agreement ---


def agreement(material: Material) -> Safe:
    """How far raters agree in each round, and what that says of the labels."""
    rows = material.agreements
    if not rows:
        return element("p", "Nobody has judged anything yet.", class_="muted")
    overall = labels(material.results)
    parts = [report_labels.labels(overall)] if overall is not None else []
    if overall is None:
        alone = "Every pair was judged by one rater alone, so that nothing is known of how far raters agree: raise "
        parts.append(element("p", f"{alone}judge.votes in heedful.yaml.", class_="muted"))
    return element("div", _agreements(rows), parts)


def _agreements(rows: Sequence[Agreement]) -> Safe:
    body = [
        element(
            "tr",
            element("th", f"Round {one.number}, {'check' if one.stage == 'check' else 'training'}", scope="row"),
            element("td", RATERS[one.kind]),
            element("td", write(one.raters, "count"), class_="n"),
            element("td", write(one.pairs, "count"), class_="n"),
            element("td", write(one.judgments, "count"), class_="n"),
            element("td", write(one.ties / one.judgments, "percent"), class_="n"),
            _agreed(one.raw),
            element("td", "–" if one.beyond is None else write(one.beyond.mean, "hundredths"), class_="n"),
        )
        for one in rows
    ]
    heads = ("Given in", "By", "Raters", "Pairs", "Judgments", "Ties", "Two raters agree", "Beyond chance")
    caption = "Ties are left out of agreement. Beyond chance is Krippendorff's α: 1 perfect, 0 chance."
    return data_table("Agreement by round", caption, heads, body, numbers=(2, 3, 4, 5, 7))


def _agreed(raw: Interval | None) -> Safe:
    if raw is None:
        return element("td", "one vote a pair", class_="muted")
    return element("td", rate_cell(raw, "even"))
