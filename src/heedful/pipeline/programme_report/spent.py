"""What a programme cost, and what its last policy was made from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heedful.pipeline.costs import ProgrammeCosts, RoundCost, Spent
from heedful.pipeline.lineage import Lineage
from heedful.pipeline.programme_report.improved import absent
from heedful.pipeline.programme_report.material import Absent, Material
from heedful.pipeline.programme_report.reading import KINDS
from heedful.pipeline.provenance.records import PEOPLE
from heedful.pipeline.report_data import write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import data_table
from heedful.pipeline.report_svg import share_bar

LEAST_ENERGY = 0.001
"""Watt-hours below which no figure is worth writing."""
BY = {**KINDS, "gold": "the world's truth", "end_user": "end users", "demonstration": "people who wrote"}


# --- cost ---


def energy(watt_hours: float) -> str:
    """Energy as people read it: 3.2 Wh, or 1.4 kWh."""
    if watt_hours < LEAST_ENERGY:
        return f"under {LEAST_ENERGY:g} Wh"
    return f"{write(watt_hours / 1000, 'number')} kWh" if watt_hours >= 1000 else f"{write(watt_hours, 'number')} Wh"


def money(spent: Spent) -> str:
    """People's pay and what AI judges were paid, by currency; a dash where nothing was paid."""
    told = [f"{value:,.2f}\N{NO-BREAK SPACE}{currency}" for currency, value in spent.rater_money.items() if value]
    told += [f"{spent.judge_money:,.2f} for AI judges"] if spent.judge_money else []
    return ", ".join(told) or "–"


COLUMNS: tuple[tuple[str, Callable[[Spent], float | bool], Callable[[Spent], str]], ...] = (
    ("Computing", lambda one: True, lambda one: write(one.wall_seconds, "seconds")),
    ("Processor", lambda one: one.cpu_seconds, lambda one: write(one.cpu_seconds, "seconds")),
    ("Energy, estimated", lambda one: one.energy_wh, lambda one: energy(one.energy_wh)),
    ("People's time", lambda one: one.rater_judgments, lambda one: f"{one.rater_hours:,.1f} h"),
    ("AI judges' tokens", lambda one: one.judge_tokens, lambda one: write(one.judge_tokens, "count")),
    ("Money", lambda one: bool(one.judge_money or any(one.rater_money.values())), money),
)
"""Headings, whether a programme has any of it, and how it is written."""


def costs(material: Material) -> Safe:
    """What each round took and won, and what a point of win rate cost."""
    found = material.costs
    if isinstance(found, Absent):
        return absent(found)
    shown = [one for one in COLUMNS if one[1](found.total)]
    body = [_row(one, found, shown) for one in found.rounds]
    foot = element("tr", element("th", "All rounds", scope="row"), _amounts(found.total, shown), element("td", ""))
    heads = ("Round", *(name for name, _, _ in shown), "Won, in points above one half")
    caption = "A point is one in a hundred pairs that the new policy wins beyond the half that an equal one would."
    table = data_table(
        "Cost by round", caption, heads, body, numbers=tuple(range(2, len(shown) + 1)), foot=element("tfoot", foot)
    )
    return element(
        "div", table, [element("p", sentence) for sentence in _per_point(found)], _notes(found), _stages(found, shown)
    )


def _amounts(spent: Spent, shown: list[Any]) -> list[Safe]:
    return [element("td", said(spent), class_="n" if i else None) for i, (_, _, said) in enumerate(shown)]


def _row(one: RoundCost, found: ProgrammeCosts, shown: list[Any]) -> Safe:
    rest = _amounts(one.spent, shown)[1:]
    total = found.total.wall_seconds
    bar = share_bar(one.spent.wall_seconds / total if total else 0.0)
    gains = "; ".join(f"{gain.points:+.1f} by {BY.get(gain.by, gain.by)}".replace("-", "−") for gain in one.gains)
    back = " (rolled back)" if one.promoted is False else ""
    name = f"Round {one.number}" if one.number else "Before round 1"
    return element(
        "tr",
        element("th", name, scope="row"),
        element("td", shown[0][2](one.spent), bar),
        rest,
        element("td", f"{gains}{back}" or "–", class_="wide"),
    )


def _per_point(found: ProgrammeCosts) -> list[str]:
    """What a point of the kept rounds' gains cost."""
    told = []
    for by in found.judged_by:
        share = found.per_point(by)
        if share is None:
            told.append(f"The kept rounds won no point by {BY.get(by, by)}, so that a point has no price.")
            continue
        parts = [f"{write(share['wall_seconds'], 'seconds')} of computing"] if "wall_seconds" in share else []
        parts += [energy(share["energy_wh"])] if "energy_wh" in share else []
        parts += [f"{share['rater_hours']:.2f} hours of people's time"] if "rater_hours" in share else []
        parts += [f"{value:,.2f} {name}" for name, value in share.get("rater_money", {}).items()]
        parts += [f"{share['judge_tokens']:,.0f} tokens of AI judges"] if "judge_tokens" in share else []
        told.append(
            f"A point by {BY.get(by, by)} cost {', '.join(parts)}: the kept rounds won {found.won(by):.1f} points "
            "in all."
        )
    return told


def _notes(found: ProgrammeCosts) -> list[Safe]:
    told = []
    if found.unmeasured:
        told.append(
            f"{len(found.unmeasured)} stages were made before costs were written down, so that only their time is "
            "known."
        )
    if found.watts_per_core:
        watts = " and ".join(f"{one:g}" for one in found.watts_per_core)
        told.append(
            f"Energy is an estimate: processor time at {watts} watts a core, and what a GPU's driver counts; memory, "
            "cooling and the machine at rest are not in it."
        )
    return [element("p", sentence, class_="muted") for sentence in told]


def _stages(found: ProgrammeCosts, shown: list[Any]) -> Safe:
    rows = [(each.number, one) for each in found.rounds for one in each.stages]
    body = [
        element(
            "tr",
            element("th", f"{number}/{one.stage}", scope="row"),
            [
                element("td", said(one.spent) if one.measured or not i else "–", class_="n")
                for i, (_, _, said) in enumerate(shown)
            ],
            element("td", "" if one.done else "half made"),
        )
        for number, one in rows
    ]
    heads = ("Stage", *(name for name, _, _ in shown), "")
    numbers = tuple(range(1, len(shown) + 1))
    table = data_table("Cost by stage", "Every stage that was made.", heads, body, numbers=numbers)
    return element("details", element("summary", "By stage"), table)


# --- lineage ---


def lineage(material: Material) -> Safe:
    """From the last policy back to judgments, raters and rubrics."""
    found = material.lineage
    if isinstance(found, Absent):
        return absent(found)
    warned = [
        f"{one.name} rests on {one.judgments:,} judgments that their raters have had erased since."
        for one in found.withdrawn
    ]
    warned += [f"{file} is not what it was when this was made." for file in found.changed]
    terms = [(element("dt", name), element("dd", value)) for name, value in _terms(found).items()]
    return element(
        "div",
        [element("p", element("strong", sentence)) for sentence in warned],
        element("dl", terms, class_="words lineage"),
        element("details", element("summary", f"All {len(found.artifacts)} artifacts"), _artifacts(found)),
        element(
            "p",
            f"heedful lineage {material.results.folder.name}/{found.root} holds every file against its hash.",
            class_="muted",
        ),
    )


def _terms(found: Lineage) -> Mapping[str, str]:
    judgments = ", ".join(f"{count:,} by {BY.get(kind, kind)}" for kind, count in found.by_kind.items())
    users = {one.rater for one in found.raters if one.kind == "end_user"}
    others = {one.rater for one in found.raters if one.kind not in (*PEOPLE, "end_user")}
    raters = [f"{found.people:,} people"] if found.people else []
    raters += [f"{len(users):,} end users"] if users else []
    raters += [f"{len(others)} simulated or AI raters: {', '.join(sorted(others)[:8])}"] if others else []
    rubrics = ", ".join(f"{one.programme} version {one.version} ({one.judgments:,})" for one in found.guidelines)
    judges = ", ".join(dict.fromkeys(one.name for one in found.judges))
    snapshots = ", ".join(f"{one.id} ({one.judgments:,} judgments, {one.sha256[:12]})" for one in found.snapshots)
    code = {str(one.facts["code"].get("heedful")) for one in found.artifacts if isinstance(one.facts.get("code"), dict)}
    ends = "; ".join(f"{name}: {why}" for name, why in found.ends.items())
    told = {
        "Policy": found.root,
        "Made from": f"{len(found.artifacts) - 1} artifacts",
        "Judgments": judgments or "none",
        "Raters": "; ".join(raters) or "none is named",
        "Rubrics": rubrics,
        "AI judges": judges,
        "Constitutions": ", ".join(found.constitutions),
        "Snapshots of the store": snapshots,
        "heedful": ", ".join(sorted(code)),
        "Where it ends": ends,
    }
    return {name: value for name, value in told.items() if value}


def _artifacts(found: Lineage) -> Safe:
    body = [
        element(
            "tr",
            element("th", one.name, scope="row"),
            element("td", one.kind),
            element("td", ", ".join(f"{link.role}: {link.name}" for link in one.made_from) or "–", class_="wide"),
            element("td", element("code", one.sha256[:12] or "–")),
        )
        for one in found.artifacts
    ]
    heads = ("Artifact", "Kind", "Made from", "SHA-256")
    return data_table("Artifacts", "Each before what it was made from; of hashes the first 12 digits.", heads, body)
