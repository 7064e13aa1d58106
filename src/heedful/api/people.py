"""Judgments from Python: models that judge, and how far raters agree."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

from heedful.api.objects import Rows, configured, display, model_name, objects, refuse, rows_name
from heedful.core.statistics import Interval
from heedful.data.held import Holding
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from heedful.feedback.reliability import Reliability

Judge: TypeAlias = str | tuple[Any, Any] | Callable[[Sequence[list[dict[str, str]]]], Sequence[str]]
"""MODEL@URL, hf:FOLDER, `(model, tokenizer)`, or a function from conversations to one text each."""

COLUMNS = ("item", "rater", "value")


@dataclass(frozen=True)
class Agreement:
    """How far raters agree on the same items. Intervals hold 95%, over items."""

    raw: Interval
    """Share of pairs of judgments of one item that say the same."""
    alpha: Interval
    """Krippendorff's: 1 is perfect, 0 is chance. Its bounds are nan where the items are too few to tell."""
    items: int
    """Items with two judgments or more."""
    judgments: int
    raters: int


def judge(
    data: Rows, judges: Judge | Sequence[Judge], *, out: str | os.PathLike[str], quiet: bool = False, **settings: Any
) -> dict[str, Any]:
    """Models judge answers; both orders are asked and averaged, and every reply is kept in `out` before it is used.

    Args:
        data: comparisons, rankings, or prompts with a completion a row.
        judges: who judges, one or several: MODEL@URL of an OpenAI-compatible server, hf:FOLDER or `(model, tokenizer)`
            for a model in this process, or a function that takes conversations (lists of `{"role", "content"}`) and
            returns one text each. A function tells no log-probabilities: judge with `way="verdict"` or another.
        out: folder for judgments.jsonl, the labels, judge.json and the ledger. Calling again goes on, and asks nobody
            twice.
        quiet: show no progress on standard error.
        settings: of `heedful judge --help`: `way`, `people`, `constitution`, `rubric`, `seed` and others.

    Returns:
        what judge.json says: `judges` with their figures, `labels` (how many), `files` by what they hold.

    Raises:
        HeedfulError: nothing to judge, a judge that cannot answer as it must, or an unknown setting.
    """
    from heedful.cli.judge import JudgeConfig, judged_by

    panel = judges if isinstance(judges, list) else [judges]
    with objects() as holding:
        given = {"data": rows_name(holding, data), "out": out, "judge": [_judge_name(holding, one) for one in panel]}
        if "people" in settings and not isinstance(settings["people"], str):
            settings["people"] = rows_name(holding, settings["people"])
        config = configured(JudgeConfig, "heedful.judge", {**given, **settings})
        return judged_by(config, display(quiet))


def _judge_name(holding: Holding, given: Any) -> str:
    if isinstance(given, str):
        return given
    if isinstance(given, tuple) or not callable(given) or hasattr(given, "state_dict"):
        return f"hf:{model_name(holding, given)}"
    from heedful.models.holding import code_sha256

    return holding.keep("judge", code_sha256(given), given)


@overload
def agreement(judgments: str, **settings: Any) -> Reliability: ...
@overload
def agreement(
    judgments: Iterable[Mapping[str, Any]], *, level: Literal["nominal", "ordinal", "interval", "ratio"] = "nominal"
) -> Agreement: ...
def agreement(judgments: Any, **settings: Any) -> Any:
    """How far raters agree: of judgments that you hold, or of a programme of the studio with all that it knows.

    Args:
        judgments: rows with `item`, `rater` and `value` (a name or a number); or a programme's short name.
        settings: of rows, `level` of measurement: nominal, ordinal, interval or ratio. Of a programme, those of
            `heedful agreement --help`: `database`, `population`, `samples` and others.

    Returns:
        of rows an `Agreement`; of a programme what `heedful agreement --json` prints, as a dataclass.

    Raises:
        HeedfulError: a row that lacks a column, a rater who judged an item twice, nothing that two judged; no such
            programme.
    """
    if isinstance(judgments, str):
        from heedful.cli.agreement import AgreementConfig, measured

        refuse("heedful.agreement", settings, ("html",))
        return measured(configured(AgreementConfig, "heedful.agreement", {"programme": judgments, **settings}))
    return _of_rows(list(judgments), **settings)


def _of_rows(rows: list[Any], *, level: Any = "nominal") -> Agreement:
    from heedful.core.agreement import alpha, raw, tabulate

    for number, row in enumerate(rows, start=1):
        lacking = [name for name in COLUMNS if not isinstance(row, Mapping) or name not in row]
        if lacking:
            raise HeedfulError(
                f"row {number} has no {', no '.join(lacking)}.",
                where="heedful.agreement",
                mend='Write {"item": 17, "rater": "ann", "value": "a"}.',
            )
    try:
        votes = tabulate(*([row[name] for row in rows] for name in COLUMNS))
        shares, corrected = raw().interval(votes), alpha(level).interval(votes)
    except ValueError as error:
        raise HeedfulError(
            f"{error}.", where="heedful.agreement", mend="Two raters or more, on two items or more, once each."
        ) from error
    return Agreement(shares, corrected, votes.items, votes.judgments, len({str(row["rater"]) for row in rows}))
