"""The sections of the report, each from its part of the data to markup."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from heedful.core.statistics import Interval
from heedful.pipeline.report_data import (
    COLUMNS,
    ControlRow,
    Curve,
    Explanation,
    Figure,
    FindingRow,
    Kind,
    MethodRow,
    Number,
    ReportData,
    SampleAnswer,
    SampleRow,
    StageRow,
    Table,
    bounds,
    write,
)
from heedful.pipeline.report_forest import forest
from heedful.pipeline.report_html import Safe, element
from heedful.pipeline.report_svg import chart, finite, is_dense, range_bar, share_bar, swatch

DASH = "–"
DENSE_NOTE = "Line: mean of neighbouring points; band: their range."


def headline_figures(figures: tuple[Figure, ...]) -> Safe:
    """The large figures, each with its interval, its goal and whether it was reached."""
    return element("ul", [_figure(figure) for figure in figures], class_="figures")


def _figure(figure: Figure) -> Safe:
    interval = figure.value if isinstance(figure.value, Interval) else None
    middle = interval.mean if interval else float(figure.value)  # type: ignore[arg-type]
    parts = [
        element("span", figure.label, class_="name"),
        element("span", write(middle, figure.kind), class_="value"),
    ]
    goal = figure.goal.value if figure.goal else None
    if interval and figure.kind == "percent":
        parts.append(range_bar(interval, chance=figure.chance, goal=goal))
    if interval:
        parts.append(element("span", f"95% interval {bounds(interval, figure.kind)}", class_="small"))
    if figure.note:
        parts.append(element("span", figure.note, class_="small"))
    if figure.goal:
        reached = figure.goal.reached_by(figure.value)
        verdict = figure.goal.words(figure.value, figure.kind)
        parts.append(element("span", verdict, class_=f"verdict {'good' if reached else 'bad'}"))
    return element("li", parts, class_="figure")


def methods(data: ReportData) -> Safe:
    """The table of methods by split."""
    extra = list(dict.fromkeys(name for row in data.methods for name in row.more))
    headings = ["Method", "Win rate", *(column.heading for column in COLUMNS), *extra]
    head = element("thead", element("tr", [_heading(name, i) for i, name in enumerate(headings)], class_="pinned"))
    splits = dict.fromkeys(row.split for row in data.methods)
    bodies = [_split(split, [r for r in data.methods if r.split == split], extra) for split in splits]
    note = f" Intervals: {data.interval_note}." if data.interval_note else ""
    words = f"Each method against the baseline, ties counting half; the dashed mark is one half.{note}"
    meaning = [_term(column.heading, column.meaning) for column in COLUMNS]
    key = element("details", element("summary", "What the columns mean"), element("dl", meaning, class_="words"))
    return element("div", _scroll("Methods by split", element("table", _caption(words), head, bodies)), key)


def _caption(words: str) -> Safe:
    return element("caption", element("span", words, class_="told"))


def _term(name: str, words: str) -> tuple[Safe, Safe]:
    """A term and its meaning, for a definition list."""
    return element("dt", name), element("dd", words)


def _heading(name: str, position: int) -> Safe:
    return element("th", name, scope="col", class_="n" if position > 1 else None)


def _split(split: str, rows: list[MethodRow], extra: list[str]) -> Safe:
    label = element("span", split, class_="label")
    span = 2 + len(COLUMNS) + len(extra)
    title = element("tr", element("th", label, colspan=span, scope="rowgroup"), class_="split")
    return element("tbody", title, [_method(row, extra) for row in rows])


def _method(row: MethodRow, extra: list[str]) -> Safe:
    cells = [_cell(column.of(row), column.kind) for column in COLUMNS]
    cells += [_cell(row.more.get(name)) for name in extra]
    first = element("th", row.method, scope="row")
    return element("tr", first, element("td", _rate(row.win_rate)), cells, class_="pinned")


def _rate(rate: Interval | None, mood: str | None = None) -> Safe:
    if rate is None:
        return element("span", "the baseline", class_="muted")
    words = element("span", bounds(rate, "percent"), class_="bounds")
    return element(
        "div",
        element("span", write(rate.mean, "percent")),
        range_bar(rate, chance=0.5, mood=mood),
        words,
        class_="rate",
    )


def _cell(value: Number | str | None, kind: Kind = "number") -> Safe:
    return element("td", _shown(value, kind), class_="n")


def _shown(value: Number | str | None, kind: Kind = "number") -> list[Safe | str]:
    if value is None:
        return [
            element("span", DASH, class_="muted", aria_hidden="true"),
            element("span", "none", class_="unseen"),
        ]
    if isinstance(value, str):
        return [value]
    if isinstance(value, Interval):
        return [write(value.mean, kind), element("span", bounds(value, kind), class_="bounds")]
    return [write(float(value), kind)]


def explanations(rows: tuple[Explanation, ...]) -> Safe:
    """What the figures mean, in words."""
    blocks = [(element("h3", row.heading), [element("p", text) for text in row.paragraphs]) for row in rows]
    return element("div", blocks)


def curves(data: ReportData, prefix: str = "") -> Safe:
    """The plots, those of a group side by side, and their tables.

    Args:
        prefix: of the plots' ids, where a page has several such sections.
    """
    groups = dict.fromkeys(curve.group for curve in data.curves)
    ordered = [curve for group in groups for curve in data.curves if curve.group == group]
    charts = element("div", [_plot(curve, f"{prefix}curve-{i}") for i, curve in enumerate(ordered)], class_="charts")
    wide = [forest(plot, f"{prefix}forest-{i}") for i, plot in enumerate(data.forests)]
    if not data.tables and not wide:
        return charts
    return element(
        "div",
        wide,
        charts if ordered else None,
        [(element("h3", table.name), _figures(table)) for table in data.tables],
    )


def _figures(table: Table) -> Safe:
    name_kind, *kinds = table.kinds
    body = []
    for name, *values in table.rows:
        head = element("th", _shown(name, name_kind), scope="row")
        body.append(element("tr", head, [_cell(value, kind) for value, kind in zip(values, kinds, strict=True)]))
    numbers = tuple(range(1, len(table.headings)))
    return data_table(table.name, table.caption, table.headings, body, numbers=numbers)


def _plot(curve: Curve, name: str) -> Safe:
    dense = any(is_dense(series) for series in curve.series.values())
    note = " ".join(filter(None, [curve.note, DENSE_NOTE if dense else ""]))
    group = element("span", curve.group, class_="group")
    caption = element("figcaption", group, curve.name, element("span", note, class_="muted") if note else None)
    names = [element("li", swatch(i), name_) for i, name_ in enumerate(curve.series)]
    legend = element("ul", names, class_="legend")
    return element("figure", caption, chart(curve, name), legend, _values(curve))


def _values(curve: Curve) -> Safe | None:
    """The plot's figures as a small table, for those who cannot see or would rather read."""
    rows = []
    for name, series in curve.series.items():
        points = finite(series)
        if points:
            low, high = min(points, key=lambda p: p[1]), max(points, key=lambda p: p[1])
            cells = [points[0][1], low[1], high[1], points[-1][1]]
            row = [element("td", write(value, "number"), class_="n") for value in cells]
            rows.append(element("tr", element("th", name, scope="row"), row))
    if not rows:
        return None
    heads = [
        _heading(title, i + 1 if i else 0) for i, title in enumerate(("Line", "first", "lowest", "highest", "last"))
    ]
    caption = _caption(f"{curve.y_label} against {curve.x_label}")
    table = element("table", caption, element("thead", element("tr", heads)), element("tbody", rows))
    return element("details", element("summary", "Figures"), table)


def samples(data: ReportData) -> Safe:
    """Answers side by side."""
    note = element("p", data.sample_note, class_="muted") if data.sample_note else None
    rows = [_sample(row, i + 1, len(data.samples)) for i, row in enumerate(data.samples)]
    return element("div", note, rows)


def _sample(row: SampleRow, number: int, total: int) -> Safe:
    turns = [
        element(
            "div",
            element("span", turn.role, class_="who"),
            _said(turn.content),
            class_="turn",
        )
        for turn in row.prompt
    ]
    best = preferred(row.answers)
    answers = [_answer(answer, answer is best) for answer in row.answers]
    title = element("h3", f"Prompt {number} of {total}{', ' if row.split else ''}{row.split}")
    return element("article", title, turns, element("div", answers, class_="answers"), class_="sample")


def _said(words: str) -> Safe:
    """A text as it was written: its line breaks kept, its direction its own."""
    return element("p", words, class_="said", dir="auto")


def preferred(answers: tuple[SampleAnswer, ...]) -> SampleAnswer | None:
    """The answer that its first judge scores highest; None where several share the top or few are scored."""
    scored = [(next(iter(answer.scores.values())), answer) for answer in answers if answer.scores]
    if len(scored) < 2:
        return None
    top = max(score for score, _ in scored)
    best = [answer for score, answer in scored if score >= top - 1e-9]
    return best[0] if len(best) == 1 else None


def _answer(answer: SampleAnswer, best: bool) -> Safe:
    judge = next(iter(answer.scores), "")
    badge = element("span", f"preferred by {judge}", class_="verdict good") if best else None
    empty = element("p", "(an empty answer)", class_="muted")
    body = _said(answer.text) if answer.text.strip() else empty
    cut = None if answer.finished else element("p", "cut off at the length limit", class_="muted")
    scores = {name: write(score, "hundredths") for name, score in answer.scores.items()}
    heading = element("h4", element("span", answer.method), badge)
    return element("div", heading, body, cut, pairs(scores), class_="answer best" if best else "answer")


def pairs(values: Mapping[str, Number | str]) -> Safe | None:
    """Names and values in a row, as a definition list."""
    items = [element("div", _term(name, _told(value))) for name, value in values.items()]
    return element("dl", items, class_="pairs") if items else None


def _told(value: Number | str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Interval):
        return f"{write(value.mean, 'number')} ({bounds(value, 'number')})"
    return write(float(value), "number")


def controls(rows: tuple[ControlRow, ...]) -> Safe:
    """Runs that must not win, and whether they behaved."""
    body = [
        element(
            "tr",
            element("th", row.name, scope="row"),
            element("td", _rate(row.win_rate, "even" if row.as_expected else "bad")),
            element("td", row.expected, class_="wide"),
            element("td", _behaved(row)),
        )
        for row in rows
    ]
    heads = ("Control", "Win rate", "Expected", "Outcome")
    caption = "If these came out otherwise, the result above would mean nothing."
    return data_table("Controls", caption, heads, body)


def _behaved(row: ControlRow) -> Safe:
    word, mood = ("as expected", "good") if row.as_expected else ("not as expected", "bad")
    return element("span", word, class_=f"verdict {mood}")


def findings(rows: tuple[FindingRow, ...]) -> Safe:
    """What was odd in the data."""
    body = [
        element(
            "tr",
            element("th", row.source, scope="row"),
            element("td", row.kind),
            element("td", write(row.count, "count"), class_="n"),
            element("td", row.action),
            element("td", _lines(row), class_="wide"),
        )
        for row in rows
    ]
    heads = ("Source", "Finding", "Count", "Done", "Lines")
    caption = "What the files held that training could not use as it was."
    return data_table("Data findings", caption, heads, body, numbers=(2,))


def _lines(row: FindingRow) -> str:
    if not row.lines:
        return DASH
    shown = ", ".join(str(line) for line in row.lines[:8])
    rest = row.count - min(len(row.lines), 8)
    return f"{shown} and {write(rest, 'count')} more" if rest > 0 else shown


def stages(rows: tuple[StageRow, ...], lineage: Mapping[str, str]) -> Safe:
    """What each stage cost and was made from."""
    total = sum(row.seconds for row in rows)
    peaks = [row.peak_memory for row in rows if row.peak_memory is not None]
    foot = element(
        "tfoot",
        element(
            "tr",
            element("th", "All stages", scope="row"),
            element("td", write(total, "seconds")),
            element("td", write(max(peaks), "bytes") if peaks else DASH, class_="n"),
            element("td", ""),
            element("td", ""),
        ),
    )
    body = [_stage(row, total) for row in rows]
    heads = ("Stage", "Wall time", "Memory so far", "Figures", "Made from")
    caption = "What each stage cost, found, and was made from. Hashes are SHA-256, their first 12 digits."
    table = data_table("Stages", caption, heads, body, numbers=(2,), foot=foot) if rows else None
    terms = [_term(name, value) for name, value in lineage.items()]
    whole = [_term(f"{row.name}, {name}", element("code", h)) for row in rows for name, h in row.hashes.items()]
    hashes = element("details", element("summary", "Hashes in full"), element("dl", whole, class_="words"))
    return element(
        "div",
        table,
        hashes if whole else None,
        element("dl", terms, class_="words lineage") if terms else None,
    )


def _stage(row: StageRow, total: float) -> Safe:
    share = row.seconds / total if total > 0 else 0.0
    hashes = [
        element("div", element("dt", name), element("dd", element("code", value[:12])))
        for name, value in row.hashes.items()
    ]
    return element(
        "tr",
        element("th", row.name, scope="row"),
        element("td", write(row.seconds, "seconds"), share_bar(share)),
        element("td", DASH if row.peak_memory is None else write(row.peak_memory, "bytes"), class_="n"),
        element("td", pairs(row.figures), class_="wide"),
        element("td", element("dl", hashes, class_="pairs") if hashes else DASH, class_="wide"),
    )


def data_table(
    name: str,
    caption: str,
    heads: Iterable[str],
    body: list[Safe],
    *,
    numbers: tuple[int, ...] = (),
    foot: Safe | None = None,
) -> Safe:
    """A table with a caption that scrolls sideways by itself; `numbers` are the columns set to the right."""
    row = [element("th", h, scope="col", class_="n" if i in (numbers or ()) else None) for i, h in enumerate(heads)]
    head = element("thead", element("tr", row))
    return _scroll(name, element("table", _caption(caption), head, element("tbody", body), foot))


def _scroll(name: str, table: Safe) -> Safe:
    """A table that scrolls sideways by itself, by keyboard too."""
    return element("div", table, class_="scroll", role="region", aria_label=name, tabindex=0)
