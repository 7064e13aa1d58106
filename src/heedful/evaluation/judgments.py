"""Judged pairs of answers by named models: from files of judgments, or from scores that a judge gave."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from heedful.data.convert import alpaca_eval, arena, arena_conversations
from heedful.data.read import read_rows
from heedful.data.records import Conversation, Origin, Preference, prompt_key
from heedful.data.turns import BadContentError, prompt_of, text_of
from heedful.errors import HeedfulError, nearest


@dataclass(frozen=True, slots=True)
class Judged:
    """Two models' answers to one prompt, and the share of a win that `a` has.

    `cluster` names what is resampled whole: the prompt, or its fact or topic. `topic` and `group` (of raters) are
    empty where a file tells of none. `won` is 1, 0, one half for a tie, or a judge's probability.
    """

    prompt: Conversation
    cluster: str
    model_a: str
    model_b: str
    a: str
    b: str
    won: float
    topic: str = ""
    group: str = ""

    def turned(self) -> Judged:
        """The same with the two sides exchanged."""
        return Judged(
            self.prompt, self.cluster, self.model_b, self.model_a, self.b, self.a, 1 - self.won, self.topic, self.group
        )


_ALPACA = ("instruction", "output_1", "output_2", "generator_1", "generator_2", "preference")
_ARENA = ("model_a", "model_b", "prompt", "response_a", "response_b", "winner_model_a", "winner_model_b", "winner_tie")
_TALKS = ("model_a", "model_b", "conversation_a", "conversation_b", "winner")
_OWN = ("model_a", "model_b", "prompt", "a", "b", "probability")


def _own(row: Mapping[str, Any], origin: Origin) -> list[Preference]:
    prompt = prompt_of(row["prompt"], "prompt", origin)
    value = row["probability"]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise HeedfulError(f"the probability is {value!r}.", where=str(origin), mend="It lies between 0 and 1.")
    return [Preference(prompt, text_of(row["a"], "a", origin), text_of(row["b"], "b", origin), float(value))]


@dataclass(frozen=True)
class _Form:
    """A sort of file: its columns, its reader, the columns of the models' names, and whether the second one won."""

    needed: tuple[str, ...]
    convert: Callable[[Any, Origin], list[Any]]
    first: str
    second: str
    second_won: Callable[[Mapping[str, Any]], bool]


_FORMS = (
    _Form(_ALPACA, alpaca_eval, "generator_1", "generator_2", lambda row: float(row["preference"]) > 1.5),
    _Form(_ARENA, arena, "model_a", "model_b", lambda row: str(row["winner_model_b"]).lower() in ("1", "1.0", "true")),
    _Form(_TALKS, arena_conversations, "model_a", "model_b", lambda row: row["winner"] == "model_b"),
    _Form(_OWN, _own, "model_a", "model_b", lambda row: False),
)


def read_judgments(path: str, *, split: str | None = None, limit: int | None = None) -> list[Judged]:
    """Judgments of named models: AlpacaEval's annotations, Chatbot Arena's battles, or heedful's own preferences with
    `model_a` and `model_b` added. Columns `topic`, `dataset` or `category` name the topic, `rater_group` the raters'.

    Raises:
        HeedfulError: no such file, no judgment in it, or a row of another form.
    """
    found = []
    for origin, row in read_rows(path, split=split):
        made = _judged(origin, row)
        if made is not None:
            found.append(made)
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise HeedfulError("there is no judgment in it.", where=path, mend="Name another file.")
    return found


def _judged(origin: Origin, row: Mapping[str, Any]) -> Judged | None:
    where = str(origin)
    form = next((form for form in _FORMS if all(key in row for key in form.needed)), None)
    if form is None:
        raise HeedfulError(
            "this row is no judgment of two named models.",
            where=where,
            mend=f"It needs {', '.join(_OWN)} (or AlpacaEval's or Chatbot Arena's columns).",
        )
    try:
        (record,) = form.convert(row, origin)
    except BadContentError:
        return None  # an empty answer, or a row without a verdict
    assert isinstance(record, Preference)
    names = str(row[form.first]), str(row[form.second])
    if names[0] == names[1]:
        raise HeedfulError(f"{names[0]!r} is compared with itself.", where=where, mend="Correct the row.")
    a, b, won = record.a, record.b, record.probability
    if form.second_won(row):  # records have the preferred answer first
        a, b, won = b, a, 1 - won
    topic = next((str(row[key]) for key in ("topic", "dataset", "category") if row.get(key)), "")
    group = str(row.get("rater_group") or "")
    return Judged(record.prompt, prompt_key(record.prompt), *names, a, b, won, topic, group)


def between(judgments: Sequence[Judged], models: Sequence[str]) -> list[Judged]:
    """The judgments among some models.

    Raises:
        HeedfulError: a model that nothing was judged of, or no judgment between two of them.
    """
    known = sorted({name for row in judgments for name in (row.model_a, row.model_b)})
    for name in models:
        if name not in known:
            raise HeedfulError(
                f"nothing was judged of {name!r}. {nearest(name, known)}".strip(), mend=f"Judged: {', '.join(known)}."
            )
    kept = [row for row in judgments if not models or {row.model_a, row.model_b} <= set(models)]
    if not kept:
        raise HeedfulError("no two of these models were judged against each other.", mend="Name others.")
    return kept


def judged_by_scores(
    prompts: Sequence[Conversation],
    answers: Mapping[str, Sequence[Sequence[str]]],
    scores: Mapping[str, Sequence[Sequence[float]]],
    *,
    clusters: Sequence[str] | None = None,
    topics: Sequence[str] | None = None,
    tie_margin: float = 1e-9,
) -> list[Judged]:
    """Every two models' k-th answers to each prompt, the higher score winning.

    Args:
        prompts: [P]. answers, scores: by model, [P][K] texts and scores; K is the same for all.
        clusters: [P] what is resampled whole; None takes prompts. topics: [P] their topics, if any.
        tie_margin: scores this near to each other tie.
    """
    found = []
    names = list(answers)
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            for p, prompt in enumerate(prompts):
                cluster = clusters[p] if clusters is not None else prompt_key(prompt)
                topic = topics[p] if topics is not None else ""
                rows = zip(answers[a][p], answers[b][p], scores[a][p], scores[b][p], strict=True)
                for first, second, x, y in rows:
                    won = 0.5 if abs(x - y) <= tie_margin else float(x > y)
                    found.append(Judged(prompt, cluster, a, b, first, second, won, topic))
    return found
