"""Programmes side by side: the same figures as rows, the programmes as columns, their curves over each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.files import atomic_write
from heedful.pipeline.programme_report import improved
from heedful.pipeline.programme_report.curves import overlaid
from heedful.pipeline.programme_report.facts import Fact, facts
from heedful.pipeline.programme_report.material import Material
from heedful.pipeline.programme_report.page import subtitle
from heedful.pipeline.programme_report.reading import Results
from heedful.pipeline.programme_report.summary import headline
from heedful.pipeline.programme_report.words import listed
from heedful.pipeline.report import document
from heedful.pipeline.report_data import Forest, ForestRow, ReportData, bounds, write
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_sections import curves, data_table
from heedful.pipeline.report_svg import STYLES
from heedful.pipeline.run_folder import flat
from heedful.training.settings import plain

NO = "–"


def names_of(programmes: Sequence[Results]) -> list[str]:
    """A name for each programme: its own, or its folder where two are called alike.

    Raises:
        HeedfulError: the same folder twice.
    """
    folders = [one.folder for one in programmes]
    if len(set(folders)) < len(folders):
        raise HeedfulError("a programme is named twice.", where="compare", mend="Name each folder once.")
    for named in (
        [one.recipe.name for one in programmes],
        [one.name for one in folders],
        [f"{one.parent.name}/{one.name}" for one in folders],
    ):
        if len(set(named)) == len(named):
            return named
    return [str(one) for one in folders]


def write_comparison(path: Path, programmes: Mapping[str, Material]) -> None:
    """Write the page, atomically.

    Raises:
        HeedfulError: the folder cannot be written, or the disk is full.
    """
    with atomic_write(path) as file:
        file.write(comparison(programmes))


def comparison(programmes: Mapping[str, Material]) -> str:
    """The page. The same figures give the same bytes."""
    title = f"{listed(list(programmes))} side by side"
    header = element(
        "header",
        element("p", "heedful programme report", class_="eyebrow"),
        element("h1", title),
        element("p", "What the rounds of each programme brought, in the same figures.", class_="subtitle"),
        [
            element("p", element("strong", f"{name}. "), headline(one), class_="summary")
            for name, one in programmes.items()
        ],
        [element("p", sentence, class_="muted") for sentence in cautions(programmes)],
    )
    results = {name: one.results for name, one in programmes.items()}
    drawn = overlaid(results)
    more = f" The first {STYLES} programmes are drawn." if len(programmes) > STYLES else ""
    note = element("p", f"Rounds stand one behind another, those that were rolled back too.{more}", class_="muted")
    parts = [
        ("figures", "The same figures", _figures(programmes)),
        ("rates", "Last policy over the first", _rates(programmes)),
        ("curves", "Curves over each other", element("div", note, curves(ReportData("", "", "", curves=drawn)))),
        ("settings", "Settings that differ", _settings(results)),
    ]
    return document(title, header, parts)


def cautions(programmes: Mapping[str, Material]) -> list[str]:
    """What stands in the way of reading the columns against each other."""
    results = [one.results for one in programmes.values()]
    found = []
    if len({_first(one) for one in results}) > 1:
        found.append(
            "These programmes did not begin with the same policy, so that a higher win rate over its own first policy "
            "does not make one better than another. heedful compare sets their last policies against each other."
        )
    if len({_prompts(one) for one in results}) > 1:
        found.append("Their prompts differ too.")
    if len({one.headline[1] for one in programmes.values() if one.headline is not None}) > 1:
        found.append("Their last policies were not judged by the same raters.")
    return found


def _first(results: Results) -> str:
    """The content of the policy that a programme began with."""
    if not results.rounds:
        return ""
    return str(results.manifests[1, "check"]["record"]["inputs"]["last"]["sha256"])


def _prompts(results: Results) -> str:
    """What a programme's prompts are taken from: the world of a seed, or a file by its content."""
    record = results.manifests.get((1, "prompts"), {}).get("record", {})
    return str(record.get("inputs", {}).get("data", {}).get("sha256", results.recipe.world.seed))


def _figures(programmes: Mapping[str, Material]) -> Safe:
    columns = {name: {fact.name: fact for fact in facts(one)} for name, one in programmes.items()}
    rows = list(dict.fromkeys(name for column in columns.values() for name in column))
    body = []
    for row in rows:
        cells = [_cell(column.get(row)) for column in columns.values()]
        body.append(element("tr", element("th", row[0].upper() + row[1:], scope="row"), cells))
    caption = "Intervals are 95%. A dash: the programme has no such figure."
    return data_table("Figures", caption, ("Figure", *columns), body)


def _cell(fact: Fact | None) -> Safe:
    if fact is None:
        return element("td", NO)
    value = fact.value
    if isinstance(value, str):
        return element("td", value)
    if not isinstance(value, Interval):
        return element("td", write(value, fact.kind))
    if fact.kind == "percent":
        return element("td", improved.rate_cell(value))
    words = element("span", bounds(value, fact.kind), class_="bounds")
    return element("td", write(value.mean, fact.kind), words)


def _rates(programmes: Mapping[str, Material]) -> Safe:
    rows = []
    for name, one in programmes.items():
        if one.results.moved and one.headline is not None:
            marks = {} if one.gold is None else {improved.GOLD: one.gold.mean}
            rate, _ = one.headline
            rows.append(ForestRow(name, rate, improved.mood(rate), marks))
    if not rows:
        return element("p", "No programme has kept a round's policy yet.", class_="muted")
    x_label = "share of pairs that the last policy wins over its own first"
    return improved.plots("rates", Forest("Head to head", x_label, tuple(rows), line=improved.HALF, kind="percent"))


def differing(programmes: Mapping[str, Results]) -> dict[str, list[Any]]:
    """Settings of the recipes that are not the same in all, by dotted name; names of programmes do not count."""
    recipes = [flat(plain(one.programme.base)) for one in programmes.values()]
    keys = sorted({key for one in recipes for key in one} - {"name"})
    found = {key: [one.get(key) for one in recipes] for key in keys}
    return {key: values for key, values in found.items() if any(value != values[0] for value in values)}


def _settings(programmes: Mapping[str, Results]) -> Safe:
    rows = differing(programmes)
    if not rows:
        return element("p", "None: the recipes are the same.", class_="muted")
    body = [
        element(
            "tr", element("th", element("code", key), scope="row"), [element("td", _said(value)) for value in values]
        )
        for key, values in rows.items()
    ]
    heads = ("Setting", *programmes)
    made = data_table("Settings", "By the recipes as they are now; all other settings are alike.", heads, body)
    told = [element("li", f"{name}: {subtitle(one)}") for name, one in programmes.items()]
    return element("div", made, element("ul", told, class_="muted"))


def _said(value: Any) -> str:
    if value is None:
        return "not set"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
