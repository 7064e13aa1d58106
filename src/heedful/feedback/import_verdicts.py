"""What a file already says of its answers, read as verdicts on the items that its rows become. Needs no Django."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heedful.data import convert
from heedful.data.records import Origin
from heedful.data.turns import json_list
from heedful.errors import HeedfulError, Sentence
from heedful.feedback.import_columns import LETTERS, key_of, value_of
from heedful.feedback.import_plan import KEPT_ASIDE, Plan
from heedful.feedback.import_rows import CONVERTED, verdict_format
from heedful.feedback.import_source import Problems, Row, read
from heedful.feedback.payloads import STRENGTH as STRONGEST

STRENGTH = 2
"""Of a verdict that says which answer is better and not by how much: "better", between slightly and much."""
TASKS = ("pairwise", "ranking")
_TIES = ("tie", "equal", "both", "same", "neither")
_SIDES = (("left", "a"), ("right", "b"))
_UNSUBMITTED = ("draft", "discarded", "pending")


@dataclass(frozen=True)
class Verdict:
    """What a file says of the answers of one item."""

    ranks: tuple[int, ...]
    """Of each answer in the item's own order, 1 the best, equal ranks a tie."""
    by: str = ""
    """Who said it, as the file names them by an id; empty where it does not."""
    both_bad: bool = False
    strength: int = STRENGTH
    """How much better the better one of two is, 1 to 3."""

    def payload(self, task: str) -> dict[str, Any]:
        """As a rater of the task would have said it."""
        if task == "ranking":
            return {"ranks": list(self.ranks)}
        first, second = self.ranks
        sign = (first > second) - (first < second)
        return {"strength": self.strength * sign, "both_bad": self.both_bad, "both_good": False}


Read = Callable[[Row, Sequence[str]], Iterator[Verdict]]


def look(made: Plan) -> tuple[Plan, list[tuple[Verdict, ...]]]:
    """Read the verdicts of a clean plan's file.

    Returns:
        the plan with what is wrong with its verdicts, and how many there are; the verdicts of each item in its order.

    Raises:
        HeedfulError: the format says nothing of its answers, or the task has no place for it.
    """
    reader = READERS.get(verdict_format(made.format, made.columns, made.mapping))
    if reader is None:
        raise HeedfulError(
            "the format {name!r} says nothing of which answer is better.",
            where="judgments_as",
            mend="Formats that do: {known}.",
            name=made.format,
            known=", ".join(READERS),
        )
    if made.task not in TASKS:
        raise HeedfulError(
            "the task {task} has no place for what the file says.",
            where="judgments_as",
            mend="Import it as {known}.",
            task=made.task,
            known=" or ".join(TASKS),
        )
    problems = Problems()
    found: list[tuple[Verdict, ...]] = []
    for line, row in read(made.source, problems, limit=made.limit):
        found.append(_of_row(reader, line, row, _names(made, row), problems))
    count, without = sum(map(len, found)), sum(not one for one in found)
    if not count and not problems.count:
        problems.add(0, "", "no row says which answer is better.", "Import it without its verdicts.")
    notes = [Sentence("{count} verdicts of the file become judgments.", count=count)]
    if without:
        notes.append(Sentence("{count} rows have no verdict that ranks all of their answers.", count=without))
    told = replace(
        made,
        problems=(*made.problems, *problems.first),
        problem_count=made.problem_count + problems.count,
        problem_kinds={**made.problem_kinds, **problems.kinds},
        notes=(*(note for note in made.notes if note != KEPT_ASIDE), *notes),
    )
    return told, found


def _of_row(reader: Read, line: int, row: Row, names: Sequence[str], problems: Problems) -> tuple[Verdict, ...]:
    try:
        verdicts = tuple(reader(row, names))
    except HeedfulError as error:
        problems.add(line, error.where, error.what, error.mend)
        return ()
    for index, one in enumerate(verdicts):
        if one.by in [other.by for other in verdicts[:index]]:
            problems.add(line, "", "one person gives two verdicts.", "Keep one.")
            return ()
    return verdicts


def _names(made: Plan, row: Row) -> Sequence[str]:
    """What the file calls the answers of a row, in the item's order."""
    if made.format in CONVERTED:
        return CONVERTED[made.format]
    if "completions" in made.mapping:
        listed = value_of(row, made.mapping["completions"])
        return [str(index) for index in range(len(listed))] if isinstance(listed, list) else []
    return [made.mapping[letter] for letter in LETTERS if letter in made.mapping]


def _ranked(scores: Sequence[float]) -> tuple[int, ...]:
    """Ranks of scores, the highest first; equal ones share a rank, as in 1, 2, 2, 4."""
    return tuple(1 + sum(other > own for other in scores) for own in scores)


def _won(index: int | None) -> tuple[int, int]:
    """Ranks of two answers of which one is better; None: neither."""
    return (1, 1) if index is None else (1, 2) if index == 0 else (2, 1)


def _number(row: Row, column: str, default: float | None = None) -> float:
    try:
        return convert.number(row, column, Origin("", 0), default=default)
    except HeedfulError as error:
        raise HeedfulError("it is no number.", where=column) from error


def _chosen(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """chosen over rejected; a tie where both have the same rating."""
    for keys in (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")):
        if all(row.get(key) not in (None, "") for key in keys) and _number(row, keys[0]) == _number(row, keys[1]):
            yield Verdict(_won(None))
            return
    yield Verdict(_won(list(names).index("chosen")))


def _heedful(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """The side that most votes preferred: one verdict, however many they were."""
    share = _number(row, "probability", 1.0)
    yield Verdict(_won(None if share == 0.5 else list(names).index("a" if share > 0.5 else "b")))


def _arena(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    columns = ("winner_model_a", "winner_model_b", "winner_tie")
    flags = [str(row.get(column)).strip().lower() in ("1", "1.0", "true") for column in columns]
    if sum(flags) != 1:
        raise HeedfulError("exactly one of the three winner columns must be 1.", where=columns[0])
    yield Verdict(_won(None if flags[2] else 0 if flags[0] else 1))


def _arena_conversations(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    winner = row.get("winner")
    known = {"model_a": 0, "model_b": 1, "tie": None}
    bad = {"tie (bothbad)", "bothbad", "both_bad"}
    if winner in bad:
        yield Verdict(_won(None), both_bad=True)
    elif winner in known:
        yield Verdict(_won(known[winner]))
    else:
        raise HeedfulError("it is none of model_a, model_b, tie and tie (bothbad).", where="winner")


def _alpaca_eval(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """1 prefers the first, 2 the second; 1.5 and 0 are ties. Rows that were not judged are empty."""
    if row.get("preference") in (None, ""):
        return
    preference = _number(row, "preference")
    if preference != 0 and not 1 <= preference <= 2:
        raise HeedfulError("it does not lie between 1 and 2.", where="preference")
    better = "output_2" if preference > 1.5 else "output_1"
    yield Verdict(_won(None if preference in (0, 1.5) else list(names).index(better)))


def _ultrafeedback(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """The mean of each answer's aspect ratings; none where an answer has no rating."""
    scores = []
    for index, answer in enumerate(json_list(row["completions"], "completions", Origin("", 0))):
        place = f"completions[{index}].annotations"
        annotations = answer.get("annotations") if isinstance(answer, dict) else None
        try:
            scores.append(convert.mean_rating(annotations or {}, place, Origin("", 0)))
        except HeedfulError as error:
            raise HeedfulError("its ratings cannot be read.", where=place) from error
    if scores and None not in scores:
        yield Verdict(_ranked([score for score in scores if score is not None]))


def _ranking(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """Ranks, 1 the best; none where they are missing."""
    if row.get("ranks") in (None, ""):
        return
    try:
        ranks = convert.ranking(row, Origin("", 0)).ranks
    except HeedfulError as error:
        raise HeedfulError("they do not rank each answer.", where="ranks") from error
    yield Verdict(_ranked([-rank for rank in ranks]))


def _helpsteer(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """-3 is response 1 by far, 0 a tie, 3 response 2 by far; none where nobody said."""
    if row.get("preference_strength") in (None, ""):
        return
    strength = _number(row, "preference_strength")
    if strength not in range(-STRONGEST, STRONGEST + 1):
        raise HeedfulError("it is no whole number from -3 to 3.", where="preference_strength")
    better = list(names).index("response_2" if strength > 0 else "response_1")
    yield Verdict(_won(None if strength == 0 else better), strength=abs(int(strength)))


def _label_studio(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """The pairwise result, or the choice, of each annotation that was not cancelled."""
    for index, annotation in enumerate(_objects(row.get("annotations"))):
        results = _objects(annotation.get("result"))
        said = next((one for one in results if one.get("type") in ("pairwise", "choices")), None)
        if said is None or annotation.get("was_cancelled"):
            continue
        (value,) = _objects([said.get("value")]) or ({},)
        choices = value.get("choices")
        word = value.get("selected") or (choices[0] if isinstance(choices, list) and len(choices) == 1 else None)
        by = annotation.get("completed_by")
        side = _side(word, names, f"annotations[{index}].result")
        yield Verdict(_won(side), _id(by.get("id") if isinstance(by, dict) else by))


def _argilla(row: Row, names: Sequence[str]) -> Iterator[Verdict]:
    """Responses that name an answer, or rank them; of Argilla 2 (by question) and 1 (by person)."""
    responses = row.get("responses")
    given: list[tuple[Row, Any]] = []
    if isinstance(responses, dict):
        given = [(one, one.get("value")) for listed in responses.values() for one in _objects(listed)]
    for one in _objects(responses):
        values = one.get("values")
        for said in values.values() if isinstance(values, dict) else ():
            given.append((one, said.get("value") if isinstance(said, dict) else said))
    for one, value in given:
        ranks = _ranks_in(value, names)
        if ranks is not None and str(one.get("status") or "").lower() not in _UNSUBMITTED:
            yield Verdict(ranks, _id(one.get("user_id")))


def _objects(value: Any) -> list[Row]:
    """The objects of a list; what is no list has none."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _ranks_in(value: Any, names: Sequence[str]) -> tuple[int, ...] | None:
    """What the answer to a question says of the answers; None where it is about something else."""
    known = {_plain(name): index for index, name in enumerate(names)}
    if isinstance(value, str):
        if len(names) == 2 and (_plain(value) in known or value.strip().lower() in _TIES):
            return _won(known.get(_plain(value)))
        return None
    if not isinstance(value, list) or len(value) != len(names):
        return None
    places: dict[int, int] = {}
    for position, one in enumerate(value, 1):
        word, rank = (one.get("value"), one.get("rank")) if isinstance(one, dict) else (one, position)
        index = known.get(_plain(word)) if isinstance(word, str) else None
        if index is None or not isinstance(rank, int):
            return None
        places[index] = rank
    return _ranked([-places[index] for index in range(len(names))]) if len(places) == len(names) else None


def _side(word: Any, names: Sequence[str], place: str) -> int | None:
    """Which of two answers a word names; None for a tie.

    Raises:
        HeedfulError: it names neither.
    """
    said = str(word).strip().lower()
    for index, (name, words) in enumerate(zip(names, _SIDES, strict=False)):
        if said in words or _plain(said) == _plain(name):
            return index
    if said not in _TIES:
        raise HeedfulError(
            "{word!r} names no answer.", where=place, mend="Known: left, right, tie, the column's name.", word=word
        )
    return None


def _plain(name: str) -> str:
    """A name without its container, case and punctuation: response-1 is response1."""
    return key_of(name) or name


def _id(value: Any) -> str:
    """Who judged, as an id that is no address: names and e-mail addresses stay in the file."""
    text = "" if value is None else str(value)
    return text if re.fullmatch(r"[A-Za-z0-9-]{1,40}", text) else ""


READERS: dict[str, Read] = {
    "heedful": _heedful,
    "trl-preference": _chosen,
    "trl-implicit": _chosen,
    "hh": _chosen,
    "argilla": _chosen,
    "ultrafeedback-binarized": _chosen,
    "ultrafeedback": _ultrafeedback,
    "arena": _arena,
    "arena-conversations": _arena_conversations,
    "alpaca-eval": _alpaca_eval,
    "ranking": _ranking,
    "helpsteer-preference": _helpsteer,
    "label-studio": _label_studio,
    "argilla-records": _argilla,
}
"""The formats that say which answer is better, and how each says it."""
