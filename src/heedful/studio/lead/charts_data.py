"""What the charts show: each as a drawing, a sentence, and a table that says the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.formats import date_format
from django.utils.translation import gettext as _

from heedful.feedback import people, progress
from heedful.feedback.models import Programme, RaterKind
from heedful.feedback.rules import rules_of
from heedful.studio.lead.charts_svg import Chart, Pictured, cut
from heedful.studio.lead.words import name_of

DAYS = (7, 30, 90)


@dataclass(frozen=True)
class Figure(Pictured):
    """One chart with its table. `chart` is None while there is nothing to draw."""

    name: str
    title: str
    sentence: str
    chart: Chart | None
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def figures(programme: Programme, days: int) -> list[Figure]:
    """All charts of the last days."""
    series = progress.series(programme, days)
    by_day = [make(series) for make in BY_DAY.values()]
    return by_day + [make(programme) for make in OF_ALL.values()]


def figure(programme: Programme, name: str, days: int) -> Figure:
    """One chart.

    Raises:
        KeyError: there is none of that name.
    """
    if name in BY_DAY:
        return BY_DAY[name](progress.series(programme, days))
    return OF_ALL[name](programme)


def _labels(series: progress.Series) -> list[str]:
    return [date_format(day, "m-d") for day in series.days]


def _dates(series: progress.Series) -> list[str]:
    return [day.isoformat() for day in series.days]


def _table(dates: Sequence[str], *columns: Sequence[Any]) -> tuple[tuple[str, ...], ...]:
    """Rows of the days that have anything, the newest first."""
    rows = zip(dates, *columns, strict=True)
    kept = [row for row in rows if any(value not in ("", "0", None) for value in row[1:])]
    return tuple(tuple(str(value) for value in row) for row in reversed(kept))


def _judgments(series: progress.Series) -> Figure:
    kinds = list(series.judgments)
    totals = [sum(series.judgments[kind][i] for kind in kinds) for i in range(len(series.days))]
    chart = Chart("bars", _labels(series), totals, _("judgments")) if any(totals) else None
    columns = (_("Day"), _("All"), *(str(_(RaterKind(kind).label)) for kind in kinds))
    rows = _table(
        _dates(series), [str(total) for total in totals], *([str(n) for n in series.judgments[k]] for k in kinds)
    )
    return Figure(
        "judgments", _("Judgments a day"), _("Those that hold, by the day they were given."), chart, columns, rows
    )


def _seconds(series: progress.Series) -> Figure:
    values = series.median_seconds
    chart = Chart("line", _labels(series), values, _("seconds")) if any(v is not None for v in values) else None
    rows = _table(_dates(series), ["" if value is None else f"{value:.0f}" for value in values])
    sentence = _("Median active time of people. Very short times deserve a look.")
    return Figure("seconds", _("Seconds a judgment"), sentence, chart, (_("Day"), _("Median seconds")), rows)


def _agreement(series: progress.Series) -> Figure:
    shares = series.agreement
    chart = None
    if any(shares):
        chart = Chart(
            "line",
            _labels(series),
            [one.share * 100 if one else None for one in shares],
            "%",
            [one.interval.low * 100 if one else None for one in shares],
            [one.interval.high * 100 if one else None for one in shares],
            top=100,
        )
    rows = _table(
        _dates(series),
        [f"{one.share:.0%}" if one else "" for one in shares],
        [_between(one.interval.low, one.interval.high) if one else "" for one in shares],
        [f"{one.of:.0f}" if one else "" for one in shares],
    )
    columns = (_("Day"), _("Agreement"), _("interval (95%)"), _("Pairs"))
    sentence = _(
        "How often two raters say the same of an item; a tie is an answer of its own. Not corrected for chance."
    )
    return Figure("agreement", _("Agreement"), sentence, chart, columns, rows)


def _between(low: float, high: float) -> str:
    return _("%(low)s to %(high)s") % {"low": f"{low:.0%}", "high": f"{high:.0%}"}


def _gold(programme: Programme) -> Figure:
    """Each rater who judged gold, the least accurate first."""
    rows = [row for row in people.table(programme) if row.gold.interval is not None]
    rows.sort(key=lambda row: (row.gold.passed / row.gold.judged, name_of(row.rater)))
    floor = rules_of(programme.settings).gold_floor
    chart = None
    if rows:
        spans = [row.gold.interval for row in rows if row.gold.interval is not None]
        chart = Chart(
            "points",
            [cut(name_of(row.rater), 12) for row in rows],
            [100 * row.gold.passed / row.gold.judged for row in rows],
            "%",
            [100 * span.low for span in spans],
            [100 * span.high for span in spans],
            top=100,
            aim=100 * floor if floor else None,
        )
    table = tuple(
        (
            name_of(row.rater),
            f"{row.gold.passed / row.gold.judged:.0%}",
            _between(row.gold.interval.low, row.gold.interval.high) if row.gold.interval else "",
            str(row.gold.judged),
        )
        for row in rows
    )
    columns = (_("Rater"), _("Accuracy"), _("interval (95%)"), _("Gold items"))
    sentence = _("Share of gold answered acceptably. The dashed line is the accuracy that pauses a rater.")
    return Figure("gold", _("Gold accuracy"), sentence, chart, columns, table)


def _position(programme: Programme) -> Figure:
    """Each batch of comparisons: how often the answer shown first wins."""
    rows = [row for row in progress.overview(programme).batches if row.first_shown is not None][::-1]
    shares = [row.first_shown for row in rows if row.first_shown is not None]
    chart = None
    if rows:
        chart = Chart(
            "points",
            [cut(row.batch.name, 14) for row in rows],
            [100 * one.share for one in shares],
            "%",
            [100 * one.interval.low for one in shares],
            [100 * one.interval.high for one in shares],
            top=100,
            aim=50,
        )
    table = tuple(
        (row.batch.name, f"{one.share:.0%}", _between(one.interval.low, one.interval.high), f"{one.of:.0f}")
        for row, one in zip(rows, shares, strict=True)
    )
    columns = (_("Batch"), _("First shown wins"), _("interval (95%)"), _("Decided"))
    sentence = _("Order is random, so one half is right: an interval off the dashed line tells of a position bias.")
    return Figure("position", _("Position bias"), sentence, chart, columns, table)


BY_DAY = {"judgments": _judgments, "seconds": _seconds, "agreement": _agreement}
OF_ALL = {"gold": _gold, "position": _position}
NAMES = (*BY_DAY, *OF_ALL)
