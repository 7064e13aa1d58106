"""The parts of the page on trust: each what to do, then a picture, and a table that says the same."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from heedful.core.agreement_advice import DIFFERENT, on_batches
from heedful.core.groups import Difference
from heedful.core.statistics import Interval
from heedful.feedback.group_figures import GroupFigures
from heedful.feedback.reliability import AgreementRow, Reliability
from heedful.studio.lead.charts_svg import Chart, Pictured
from heedful.studio.lead.trust_words import aspect, ends, number, part, percent, topic
from heedful.studio.said import say

MOST = 12
"""Rows of a picture and its table."""
Row = tuple[str, ...]


@dataclass(frozen=True)
class Section(Pictured):
    """One part of the page. `chart` is None where a table says all."""

    name: str
    title: str
    do: str
    """What to do, one sentence."""
    note: str
    """What the figures are."""
    chart: Chart | None
    columns: Row
    rows: tuple[Row, ...]


def sections(found: Reliability) -> list[Section]:
    """Every part that has something to show.

    Args:
        found: raters in it go by their ids, which are not shown here.
    """
    makers = (_kinds, _others, _ceiling, _attributes, _rankings, _sources, _time, _batches)
    made = [section for make in makers if (section := make(found)) is not None]
    for number_of, figures in enumerate(found.groups or ()):
        made += _group(figures, f"groups-{number_of}")
    return made


def _spread(
    labels: Sequence[str], values: Sequence[Interval], unit: str = "%", scale: float = 100, **more: float | None
) -> Chart:
    """Values with their intervals, beneath each other."""

    def finite(numbers: Sequence[float]) -> list[float | None]:
        return [scale * value if math.isfinite(value) else None for value in numbers]

    low, high = finite([one.low for one in values]), finite([one.high for one in values])
    return Chart("rows", labels, finite([one.mean for one in values]), unit, low, high, **more)  # type: ignore[arg-type]


def _agreement_row(name: str, row: AgreementRow) -> Row:
    alpha = number(row.alpha.mean) if row.alpha is not None else "—"
    return name, percent(row.raw.mean), ends(row.raw), alpha, ends(row.alpha, number), f"{row.items:,}"


def _agreement_columns(first: str) -> Row:
    return (
        first,
        _("Say the same"),
        _("interval (95%)"),
        _("Beyond chance, α"),
        _("interval (95%)"),
        _("Judged twice"),
    )


def _kinds(found: Reliability) -> Section | None:
    if not found.kinds:
        return None
    names = [aspect(row.of) for row in found.kinds]
    note = _(
        "How often two raters of an item say the same. α corrects that for chance: 1 is perfect, 0 what chance alone "
        "gives. Where nearly all answers are alike, α is near 0 however well raters agree."
    )
    chart = _spread(names, [row.raw for row in found.kinds], bottom=0, top=100)
    rows = tuple(_agreement_row(name, row) for name, row in zip(names, found.kinds, strict=True))
    return Section("agreement", _("Do raters agree?"), say(found.kinds[0].do), note, chart,
        _agreement_columns(_("On")), rows)  # fmt: skip


def _others(found: Reliability) -> Section | None:
    """The comparisons beside what others have published."""
    own = found.ceiling.agreement if found.ceiling is not None else None
    if own is None:
        return None
    values = [own]
    for one in found.anchors:
        margin = one.margin if one.margin is not None else float("nan")
        values.append(Interval(one.agreement, one.agreement - margin, one.agreement + margin))
    names = [_("Yours, ties left out"), *(_(one.name) for one in found.anchors)]
    people = [one.agreement for one in found.anchors if one.of_people]
    if own.high < min(people):
        do = _("Lower than all of these: begin with the rubric and a calibration session.")
    elif own.low > max(people):
        do = _("Higher than all of these: make sure that the items are not too easy, and that nobody copies.")
    else:
        do = _("Much as others report: read the disagreements before you try to remove them.")
    rows = tuple(
        (name, percent(value.mean), ends(value), source)
        for name, value, source in zip(names, values, ["", *(one.source for one in found.anchors)], strict=True)
    )
    note = _(
        "Other tasks, other people: a comparison, not a target. Always taking the longer answer agrees with people "
        "nearly as often as they do with each other."
    )
    chart = _spread(names, values, bottom=50, top=100)
    columns = (_("Agreement"), _("Share"), _("interval (95%)"), _("Source"))
    return Section("others", _("Beside what others report"), do, note, chart, columns, rows)


def _ceiling(found: Reliability) -> Section | None:
    if found.ceiling is None:
        return None
    one = found.ceiling
    names = [_("Two raters agree"), _("The best reward model"), _("… over the interval")]
    values = [
        one.agreement,
        Interval(float("nan"), one.ceiling.low, one.ceiling.high),
        Interval(float("nan"), one.widest.low, one.widest.high),
    ]
    rows = tuple((name, percent(value.mean), ends(value)) for name, value in zip(names, values, strict=True))
    note = _(
        "How often any reward model can say what a single rater says. The low end holds if items are clear or coin "
        "tosses, the high end if all are equally hard; agreement alone cannot tell which."
    )
    chart = _spread(names, values, bottom=50, top=100)
    columns = ("", _("Share"), _("range or interval"))
    return Section("ceiling", _("How good a reward model can be"), say(one.do), note, chart, columns, rows)


def _attributes(found: Reliability) -> Section | None:
    rows = [row for row in found.attributes if row.alpha is not None]
    if not rows:
        return None
    rows.sort(key=lambda row: (not math.isfinite(row.alpha.mean), row.alpha.mean) if row.alpha else (True, 0.0))
    lowest = rows[0]
    do = _("Begin with “%(name)s”, on which raters agree least. %(do)s") % {"name": lowest.of, "do": say(lowest.do)}
    shown = [(row.of, row.alpha) for row in rows[:MOST] if row.alpha is not None and math.isfinite(row.alpha.mean)]
    chart = _spread([name for name, _a in shown], [alpha for _n, alpha in shown], "α", 1, bottom=None, top=1, aim=0.667)
    note = _(
        "α of the points, in which 4 beside 5 is a small miss. From the dashed line on they are good enough to train "
        "on."
    )
    return Section("attributes", _("Attributes"), do, note, chart if shown else None,
        (*_agreement_columns(_("On")), _("What to do")),
        tuple((*_agreement_row(row.of, row), say(row.do)) for row in rows[:MOST]))  # fmt: skip


def _rankings(found: Reliability) -> Section | None:
    if found.rankings is None:
        return None
    told = found.rankings
    do = _("Too few rankings to say: have more items ranked by two raters.")
    if told.rho.low > 0.5:
        do = _("Raters order the answers much alike: whole rankings are worth their time.")
    elif told.rho.high < 0.5:
        do = _("Raters order the answers differently: ask for the best alone, or for comparisons of two.")
    rows = (
        (_("Kendall's W"), number(told.w.mean), ends(told.w, number), f"{told.items:,}"),
        (_("Correlation of two raters"), number(told.rho.mean), ends(told.rho, number), f"{told.items:,}"),
    )
    columns = (_("Whole rankings"), _("Figure"), _("interval (95%)"), _("Items"))
    note = _("1 where all rank alike. By chance the correlation is 0, and W one over the number of raters.")
    return Section("rankings", _("Rankings"), do, note, None, columns, rows)


def _sources(found: Reliability) -> Section | None:
    if len(found.sources) < 2:
        return None
    names = [part(row.part) for row in found.sources]
    rows = tuple((name, percent(row.raw.mean), ends(row.raw), f"{row.items:,}")
        for name, row in zip(names, found.sources, strict=True))  # fmt: skip
    columns = (_("Raters"), _("Say the same"), _("interval (95%)"), _("Judged twice"))
    note = _("Raters of one kind with each other, and people with machines, on the same items.")
    do = say(found.sources_do) if found.sources_do else _("Keep checking a sample of each kind's items against people.")
    chart = _spread(names, [row.raw for row in found.sources], bottom=0, top=100)
    return Section("sources", _("By source"), do, note, chart, columns, rows)


def _time(found: Reliability) -> Section | None:
    if not found.time:
        return None
    shares = [row.raw for row in found.time]
    chart = None
    if len(shares) > 1:
        low = [100 * one.low if math.isfinite(one.low) else None for one in shares]
        high = [100 * one.high if math.isfinite(one.high) else None for one in shares]
        labels = [row.part[5:] for row in found.time]
        chart = Chart("line", labels, [100 * one.mean for one in shares], "%", low, high, top=100)
    rows = tuple((row.part, percent(row.raw.mean), ends(row.raw), f"{row.items:,}") for row in reversed(found.time))
    columns = (_("From"), _("Say the same"), _("interval (95%)"), _("Judged twice"))
    note = _("Items by the day of their last judgment.")
    return Section("time", _("Over time"), say(found.time_do), note, chart, columns, rows)


def _batches(found: Reliability) -> Section | None:
    if len(found.batches) < 2:
        return None
    rows = sorted(found.batches, key=lambda row: row.raw.mean)[:MOST]
    whole = next((row.raw.mean for row in found.kinds if row.of == rows[0].of), float("nan"))
    do = say(on_batches(rows[0].raw, rows[0].part, whole))
    chart = _spread([row.part for row in rows], [row.raw for row in rows], bottom=0, top=100)
    table = tuple(_agreement_row(row.part, row) for row in rows)
    note = _("The lowest first, %(most)d at most.") % {"most": MOST}
    return Section("batches", _("By batch"), do, note, chart, _agreement_columns(_("Batch")), table)


def _group(figures: GroupFigures, name: str) -> list[Section]:
    title = _("Groups by %(question)s") % {"question": figures.question}
    shares = figures.shares.shares if figures.shares is not None else {}
    rows = tuple((str(answer), percent(share)) for answer, share in shares.items())
    do = say(figures.do)
    if len(shares) < 2:
        do = _("Nothing can be said of groups yet without telling of single people: invite more raters of each.")
    parts = [_("Groups of fewer than five raters, and what would give them away, are left out.")]
    if rows:
        parts.append(_("From the dashed line on one group decides what all seem to prefer."))
    if figures.omnibus is not None:
        one = figures.omnibus
        parts.append(
            _("Within a group raters agree in %(within)s of pairs, between groups in %(between)s (p = %(p)s).")
            % {"within": percent(one.within), "between": percent(one.between), "p": f"{one.p:.3f}"}
        )
    chart = Chart(
        "rows", [row[0] for row in rows], [100 * share for share in shares.values()], "%", top=100, aim=200 / 3
    )
    made = [
        Section(name, title, do, " ".join(parts), chart if rows else None,
            (_("Group"), _("Share of the labels")), rows)
    ]  # fmt: skip
    if figures.topics:
        made.append(_differences(figures, f"{name}-likes"))
    return made


def _differences(figures: GroupFigures, name: str) -> Section:
    """What groups like. Single items are counted and not named: what raters said of one is told on its page alone."""
    shown = figures.topics[:MOST]
    differing = sum(one.adjusted_p <= DIFFERENT for one in (*figures.topics, *figures.items))
    tested = len(figures.topics) + len(figures.items)
    do = _("Nothing to do: no difference goes beyond chance, though small ones may hide in few raters.")
    if differing:
        do = ngettext(
            "%(count)d of %(all)d differences goes beyond chance: say so where you describe the data.",
            "%(count)d of %(all)d differences go beyond chance: say so where you describe the data.",
            differing,
        ) % {"count": differing, "all": tested}
    items = sum(one.adjusted_p <= DIFFERENT for one in figures.items)
    note = _(
        "A group's mean less that of all others; right of the dashed line the group likes it more. p-values are "
        "corrected for how many differences were looked at (Benjamini and Hochberg); of %(items)d single items "
        "%(differ)d differ."
    ) % {"items": len(figures.items), "differ": items}
    names = [_likes(one) for one in shown]
    chart = _spread(names, [one.difference for one in shown], "", 1, bottom=None, top=None, aim=0)
    rows = tuple(
        (likes, number(one.mean), number(one.others), number(one.difference.mean), ends(one.difference, number),
            f"{one.adjusted_p:.3f}", _("differs") if one.adjusted_p <= DIFFERENT else _("not told apart"))
        for likes, one in zip(names, shown, strict=True)
    )  # fmt: skip
    columns = (_("Group and liking"), _("Group"), _("Others"), _("Difference"), _("interval (95%)"), "p", _("Verdict"))
    return Section(name, _("What they like, by %(question)s") % {"question": figures.question}, do, note, chart,
        columns, rows)  # fmt: skip


def _likes(one: Difference) -> str:
    return _("%(group)s: %(topic)s") % {"group": one.group, "topic": topic(str(one.topic))}
