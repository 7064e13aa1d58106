"""What a report shows, as plain typed values: fill these, hand them to `build_report`.

Nothing here knows how a figure was made. Shares and rates are fractions (0.79, not 79); an `Interval` is
shown with its bounds, a bare number without. A None is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from heedful.core.statistics import Interval
from heedful.data.records import Conversation

Kind: TypeAlias = Literal["percent", "number", "tenths", "hundredths", "thousandths", "count", "seconds", "bytes"]
"""How to write a number: 0.794 as 79.4%, with three significant digits, with fixed decimals (so that a
column lines up), 12480 as 12,480, 312.4 as 5 min 12 s, 1288490188 as 1.2 GiB."""

Number: TypeAlias = float | Interval


@dataclass(frozen=True)
class Goal:
    """What a figure was meant to reach; `at_most` for costs, where less is better."""

    value: float
    at_most: bool = False

    def reached_by(self, value: Number) -> bool:
        """Whether the figure (an interval's middle) reaches the goal."""
        middle = value.mean if isinstance(value, Interval) else value
        return middle <= self.value if self.at_most else middle >= self.value

    def words(self, value: Number, kind: Kind) -> str:
        """The goal and whether `value` reaches it: "goal 80.0%: reached"."""
        limit = f"{'at most ' if self.at_most else ''}{write(self.value, kind)}"
        return f"goal {limit}: {'reached' if self.reached_by(value) else 'not reached'}"


@dataclass(frozen=True)
class Figure:
    """One of the large figures at the top. `chance` marks where nothing would have been learnt (0.5)."""

    label: str
    value: Number
    kind: Kind
    note: str = ""
    goal: Goal | None = None
    chance: float | None = None


@dataclass(frozen=True)
class MethodRow:
    """One method on one split of prompts. `win_rate` is None for the baseline that the others are held to.

    `kl` is in nats per completion, `words` the mean length in words, `entropy` in nats per token. `more`
    holds further columns by their heading; a heading that only some rows know shows dashes in the rest.
    """

    method: str
    split: str
    win_rate: Interval | None
    correct: Number | None
    gold: Number | None
    kl: Number | None
    words: float | None
    distinct_2: float | None
    entropy: float | None
    more: Mapping[str, Number | str] = field(default_factory=dict)


@dataclass(frozen=True)
class Column:
    """A column of the table of methods: its heading, its field, how to write it, what it means."""

    heading: str
    field: str
    kind: Kind
    meaning: str

    def of(self, row: MethodRow) -> Number | None:
        """The row's value in this column."""
        return getattr(row, self.field)


COLUMNS = (
    Column("Correct", "correct", "percent", "the share of right answers among those that can be right or wrong"),
    Column("Gold", "gold", "hundredths", "the mean score of the final judge, on which nothing was trained"),
    Column("KL", "kl", "hundredths", "how far the policy moved from its reference, in nats per completion"),
    Column("Words", "words", "tenths", "the mean length of an answer"),
    Column("Distinct-2", "distinct_2", "thousandths", "different word pairs over all: low when answers repeat"),
    Column(
        "Entropy",
        "entropy",
        "hundredths",
        "how undecided the policy is, in nats per token: near nought, it always says the same",
    ),
)


@dataclass(frozen=True)
class Series:
    """Points of a line in the order in which they were made. Points that are not finite leave gaps.

    `bounds`, where given, are the ends of each point's interval, drawn as an upright stroke through it.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    bounds: tuple[tuple[float, float], ...] = ()

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise ValueError(f"a series needs as many x ({len(self.x)}) as y ({len(self.y)})")
        if self.bounds and len(self.bounds) != len(self.y):
            raise ValueError(f"a series needs as many bounds ({len(self.bounds)}) as y ({len(self.y)})")


@dataclass(frozen=True)
class Curve:
    """One plot: series by name, against a shared x and y. `group` is the heading it stands under."""

    group: str
    name: str
    x_label: str
    y_label: str
    series: Mapping[str, Series]
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table beneath the plots: its name, what its figures are, a column for each heading. The first names the row."""

    name: str
    caption: str
    headings: tuple[str, ...]
    kinds: tuple[Kind, ...]
    rows: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class ForestRow:
    """One line of a forest plot: an interval, its mood ("good", "bad" or "even"), and further marks by name."""

    label: str
    interval: Interval
    mood: str = "even"
    marks: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Forest:
    """Intervals below each other on one scale, with a line where there is no difference; `kind`: how to write them."""

    name: str
    x_label: str
    rows: tuple[ForestRow, ...]
    note: str = ""
    line: float = 0.0
    kind: Kind = "hundredths"


@dataclass(frozen=True)
class SampleAnswer:
    """A method's answer, with scores by judge ("gold", "proxy"); the first judge decides who is preferred."""

    method: str
    text: str
    scores: Mapping[str, float]
    finished: bool = True


@dataclass(frozen=True)
class SampleRow:
    """One prompt and what each method answered."""

    prompt: Conversation
    split: str
    answers: tuple[SampleAnswer, ...]


@dataclass(frozen=True)
class ControlRow:
    """A run that must not win (or must lose), and whether it behaved. `expected` is in plain words."""

    name: str
    expected: str
    win_rate: Interval
    as_expected: bool


@dataclass(frozen=True)
class FindingRow:
    """Something odd in a data file: what, how often, what was done, and in which lines (some of them)."""

    source: str
    kind: str
    count: int
    action: str
    lines: tuple[int, ...] = ()


@dataclass(frozen=True)
class Explanation:
    """What a run's figures mean, in plain words: a heading and its paragraphs."""

    heading: str
    paragraphs: tuple[str, ...]


@dataclass(frozen=True)
class LabelRow:
    """A figure of the labels: an interval (bounds that are not finite are not shown), or a range in words."""

    name: str
    value: Interval | str
    meaning: str
    kind: Kind = "percent"


@dataclass(frozen=True)
class Labels:
    """How far the labels that a run learnt from can be trusted: what to do, figures, and what they rest on."""

    do: str
    rows: tuple[LabelRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class StageRow:
    """What a stage cost and what it was made from.

    `peak_memory` in bytes, of the whole process up to the stage's end; `hashes` by name, in full.
    """

    name: str
    seconds: float
    peak_memory: int | None
    figures: Mapping[str, Number | str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. Empty parts leave no trace on it.

    Args:
        title: of the page. subtitle: what was run, with which seeds, on what and when.
        headline: the result in a plain sentence or two; `say_win_rate` words one.
        figures: the large figures beneath it.
        methods: the table of methods by split, in the order to show; splits appear as they first come.
        interval_note: what the intervals are ("95%, bootstrap over 54 facts").
        explanations: what the figures mean, in words.
        forests, curves, tables: plots and what stands beneath them, under `curves_title`; where they are the result
            itself (`curves_lead`) they come first.
        samples, controls, findings, stages: the other sections.
        sample_note: how the samples were picked.
        labels: how far raters agreed on what was learnt from; None where that is not known.
        lineage: versions, seeds, commands and the like, by name.
    """

    title: str
    subtitle: str
    headline: str
    figures: tuple[Figure, ...] = ()
    methods: tuple[MethodRow, ...] = ()
    interval_note: str = ""
    explanations: tuple[Explanation, ...] = ()
    forests: tuple[Forest, ...] = ()
    curves: tuple[Curve, ...] = ()
    tables: tuple[Table, ...] = ()
    curves_title: str = "Training curves"
    curves_lead: bool = False
    samples: tuple[SampleRow, ...] = ()
    sample_note: str = ""
    controls: tuple[ControlRow, ...] = ()
    findings: tuple[FindingRow, ...] = ()
    stages: tuple[StageRow, ...] = ()
    lineage: Mapping[str, str] = field(default_factory=dict)
    labels: Labels | None = None


def say_win_rate(policy: str, baseline: str, rate: Interval, *, where: str) -> str:
    """A win rate in one plain sentence, which claims no more than its interval allows.

    Args:
        rate: shares from 0 to 1. where: on which prompts, as it reads after "on" ("unseen phrasings").
    """
    figures = f"{write(rate.mean, 'percent')} of pairs on {where}"
    interval = f"(95% interval {bounds(rate, 'percent')})"
    if rate.low > 0.5:
        return f"{policy} is preferred to {baseline} in {figures} {interval}: better than chance can explain."
    if rate.high < 0.5:
        return f"{policy} is preferred to {baseline} in only {figures} {interval}: it became worse."
    return f"{policy} is preferred to {baseline} in {figures} {interval}: the two cannot be told apart."


def write(value: float, kind: Kind) -> str:
    """A number as people read it.

    >>> write(0.794, "percent"), write(1234.5678, "number"), write(312.4, "seconds")
    ('79.4%', '1,235', '5 min 12 s')
    """
    if value != value:
        return "not a number"
    if value in (float("inf"), float("-inf")):
        return "∞" if value > 0 else "−∞"
    text = _WRITERS[kind](value)
    if text.startswith("-"):
        return f"−{text[1:]}" if any(digit in text for digit in "123456789") else text[1:]
    return text


def bounds(interval: Interval, kind: Kind) -> str:
    """An interval's bounds: "76.1% to 82.5%"."""
    return f"{write(interval.low, kind)} to {write(interval.high, kind)}"


def _number(value: float) -> str:
    """Three significant digits, never in powers of ten within everyday sizes."""
    size = abs(value)
    if size == 0 or size >= 1000:
        return f"{value:,.0f}"
    if size < 1e-3:
        return f"{value:.2g}"
    decimals = 0 if size >= 100 else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{decimals}f}"


def _seconds(value: float) -> str:
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    hours, minutes, seconds = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"


def _bytes(value: float) -> str:
    unit, size = next((u, s) for u, s in _UNITS if value >= s or s == 1)
    return f"{value / size:.1f} {unit}" if size > 1 else f"{value:.0f} bytes"


_UNITS = (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10), ("bytes", 1))

_WRITERS = {
    "percent": lambda value: f"{100 * value:.1f}%",
    "number": _number,
    "tenths": lambda value: f"{value:,.1f}",
    "hundredths": lambda value: f"{value:,.2f}",
    "thousandths": lambda value: f"{value:,.3f}",
    "count": lambda value: f"{value:,.0f}",
    "seconds": _seconds,
    "bytes": _bytes,
}
