"""Acceptable answers of gold items: checking them, suggesting them, saying them in words.

A pattern speaks of an item's own indices, as payloads do; `heedful.feedback.payloads.matches` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _

from heedful.errors import HeedfulError
from heedful.feedback.payloads import STRENGTH

KINDS = ("pairwise", "ranking", "attributes")
"""Tasks whose answers can be right or wrong."""
FLAGS = ("both_bad", "both_good")


def check(
    kind: str, acceptable: Any, *, completions: int, attributes: Sequence[Mapping[str, Any]] = ()
) -> list[dict[str, Any]]:
    """The patterns, if an answer can match them.

    Args:
        kind: a task kind.
        acceptable: a list of patterns, one of which an answer must match.
        completions: K, how many completions the item has.
        attributes: of the guideline: "name" and "points".

    Raises:
        HeedfulError: no pattern, one that is malformed, or one that no answer or every answer matches; with the field.
    """
    if kind not in KINDS:
        raise HeedfulError(
            "a {kind} task has no right answer.",
            where="item",
            mend="Gold is for {known} tasks.",
            kind=kind,
            known=", ".join(KINDS),
        )
    if not isinstance(acceptable, list | tuple) or not acceptable:
        raise HeedfulError("no acceptable answer is given.", where="acceptable", mend="Give at least one.")
    checked = []
    for i, pattern in enumerate(acceptable):
        field = f"acceptable[{i}]"
        if not isinstance(pattern, Mapping):
            raise HeedfulError("an acceptable answer is a JSON object.", where=field)
        if kind == "pairwise":
            _check_pairwise(pattern, field)
        elif kind == "ranking":
            _check_ranking(pattern, field, completions)
        else:
            _check_attributes(pattern, field, completions, attributes)
        checked.append(dict(pattern))
    return checked


def _known(pattern: Mapping[str, Any], known: Sequence[str], field: str) -> None:
    for key in pattern:
        if key not in known:
            raise HeedfulError(
                "unknown field {key!r}.",
                where=f"{field}.{key}",
                mend="Known: {known}.",
                key=key,
                known=", ".join(known),
            )


def _range(value: Any, field: str, lowest: int, highest: int) -> tuple[int, int]:
    whole = isinstance(value, list | tuple) and len(value) == 2
    if not whole or not all(isinstance(end, int) and not isinstance(end, bool) for end in value):
        raise HeedfulError("a range is two whole numbers, the lower first.", where=field)
    low, high = value
    if not lowest <= low <= high <= highest:
        raise HeedfulError(
            "{low} to {high} is no range within {lowest} to {highest}.",
            where=field,
            low=low,
            high=high,
            lowest=lowest,
            highest=highest,
        )
    return low, high


def _check_pairwise(pattern: Mapping[str, Any], field: str) -> None:
    _known(pattern, ("strength", *FLAGS), field)
    low, high = _range(pattern.get("strength"), f"{field}.strength", -STRENGTH, STRENGTH)
    flags = [name for name in FLAGS if name in pattern]
    for name in flags:
        if not isinstance(pattern[name], bool):
            raise HeedfulError("a flag is true or false.", where=f"{field}.{name}")
    wanted = [name for name in flags if pattern[name]]
    if wanted and (len(wanted) > 1 or not low <= 0 <= high):
        raise HeedfulError("no answer can match this.", where=field, mend="Both bad, or both good, goes with a tie.")
    if (low, high) == (-STRENGTH, STRENGTH) and not flags:
        raise HeedfulError("every answer matches this.", where=f"{field}.strength", mend="Narrow the range.")


def _index(value: Any, completions: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < completions


def _check_ranking(pattern: Mapping[str, Any], field: str, completions: int) -> None:
    _known(pattern, ("best", "above"), field)
    best, above = pattern.get("best", ()), pattern.get("above", ())
    if not best and not above:
        raise HeedfulError("say which are best, or which stand above which.", where=field)
    if not isinstance(best, list | tuple) or not all(_index(i, completions) for i in best):
        raise HeedfulError("best holds indices from 0 to {most}.", where=f"{field}.best", most=completions - 1)
    if "best" in pattern and (not best or len(set(best)) == completions):
        raise HeedfulError("best names some of the answers, not all or none.", where=f"{field}.best")
    proper = isinstance(above, list | tuple) and all(
        isinstance(pair, list | tuple) and len(pair) == 2 and all(_index(i, completions) for i in pair)
        for pair in above
    )
    if not proper:
        raise HeedfulError("above holds pairs of indices, the better first.", where=f"{field}.above")
    below: dict[int, set[int]] = {i: {j for k, j in above if k == i} for i in range(completions)}
    left = set(below)
    while free := {i for i in left if not below[i] & left}:
        left -= free
    if left:
        raise HeedfulError("no ranking can match this: the pairs go round in a circle.", where=f"{field}.above")
    if best and all(any(j == i for _better, j in above) for i in best):
        raise HeedfulError("no ranking can match this: each of the best stands below another.", where=f"{field}.best")


def _check_attributes(
    pattern: Mapping[str, Any], field: str, completions: int, attributes: Sequence[Mapping[str, Any]]
) -> None:
    _known(pattern, ("scores",), field)
    points = {str(attribute["name"]): int(attribute.get("points", 5)) for attribute in attributes}
    scores = pattern.get("scores")
    if not isinstance(scores, Mapping) or not scores:
        raise HeedfulError("scores are an object of indices and ranges by attribute.", where=f"{field}.scores")
    narrowed = False
    for index, row in scores.items():
        place = f"{field}.scores.{index}"
        if not isinstance(index, str) or not index.isdecimal() or int(index) >= completions:
            raise HeedfulError("an index is a string from 0 to {most}.", where=place, most=completions - 1)
        if not isinstance(row, Mapping):
            raise HeedfulError("ranges are an object of attribute and range.", where=place)
        for name, ends in row.items():
            if name not in points:
                raise HeedfulError("the rubric has no attribute {name!r}.", where=f"{place}.{name}", name=name)
            narrowed |= _range(ends, f"{place}.{name}", 1, points[name]) != (1, points[name])
    if not narrowed:
        raise HeedfulError("every answer matches this.", where=f"{field}.scores", mend="Narrow a range.")


def suggest(kind: str, kept: Mapping[str, Any], attributes: Sequence[Mapping[str, Any]] = ()) -> list[dict[str, Any]]:
    """Acceptable answers that follow from a verdict, for a lead to correct.

    Pairwise: the same side, at any strength, or a tie with the same flags. Ranking: what is best there, above what
    is last. Attributes: each within one point.
    """
    if kind == "pairwise":
        strength = kept["strength"]
        if strength:
            return [{"strength": [1, STRENGTH] if strength > 0 else [-STRENGTH, -1]}]
        return [{"strength": [0, 0], **{name: True for name in FLAGS if kept.get(name)}}]
    if kind == "ranking":
        ranks = kept["ranks"]
        if len(set(ranks)) == 1:
            return []
        best = [i for i, rank in enumerate(ranks) if rank == 1]
        last = [i for i, rank in enumerate(ranks) if rank == max(ranks)]
        return [{"best": best, "above": [[i, j] for i in best for j in last]}]
    if kind == "attributes":
        most = {str(attribute["name"]): int(attribute.get("points", 5)) for attribute in attributes}
        rows = {
            str(i): {name: [max(1, value - 1), min(most.get(name, 5), value + 1)] for name, value in row.items()}
            for i, row in enumerate(kept["scores"])
        }
        return [{"scores": rows}]
    return []


def words(kind: str, pattern: Mapping[str, Any], order: Sequence[int]) -> str:
    """A pattern as a sentence, in the letters of whoever saw the item in this order.

    Args:
        kind: a task kind.
        pattern: of the item's own indices.
        order: the item's indices in the order shown; empty: their own order.
    """
    if kind == "pairwise":
        return _pairwise_words(pattern, order)
    if kind == "ranking":
        parts = []
        if pattern.get("best"):
            letters = ", ".join(sorted(_letter(i, order) for i in pattern["best"]))
            parts.append(_("best is one of: %(letters)s") % {"letters": letters})
        for i, j in pattern.get("above", ()):
            parts.append(_("%(better)s above %(worse)s") % {"better": _letter(i, order), "worse": _letter(j, order)})
        return "; ".join(parts)
    rows = sorted((_letter(int(index), order), row) for index, row in pattern["scores"].items())
    return "; ".join(
        _("%(letter)s: %(name)s %(low)d to %(high)d") % {"letter": letter, "name": name, "low": low, "high": high}
        for letter, row in rows
        for name, (low, high) in row.items()
    )


def _letter(index: int, order: Sequence[int]) -> str:
    return "ABCDEFGHI"[list(order).index(index) if order else index]


def _pairwise_words(pattern: Mapping[str, Any], order: Sequence[int]) -> str:
    low, high = pattern["strength"]
    if tuple(order) == (1, 0):
        low, high = -high, -low
    if pattern.get("both_bad"):
        tie = _("a tie, both bad")
    elif pattern.get("both_good"):
        tie = _("a tie, both good")
    else:
        tie = _("a tie")
    parts = []
    for letter, least, most in (("A", -min(high, -1), -low), ("B", max(low, 1), high)):
        if most >= 1 and least <= most:
            given = {"letter": letter, "least": least, "most": most}
            plain = (least, most) == (1, STRENGTH)
            parts.append((_("%(letter)s better") if plain else _("%(letter)s better by %(least)d to %(most)d")) % given)
    if low <= 0 <= high:
        parts.append(tie)
    return _(" or ").join(parts)
