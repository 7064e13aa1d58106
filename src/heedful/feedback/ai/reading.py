"""What a reply says, or that it says nothing that can be read. Nothing is guessed: a letter or a form, whole, or none.

Scores and ranks go by letter, never by the order in which they stand, so no odd reply moves one to another answer.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from heedful.feedback.ai.asks import Reply
from heedful.feedback.ai.material import LETTERS

LEAST_MASS = 0.5
"""What must lie on the letters of the probability at their place: below it the model is saying something else."""
_THOUGHT = re.compile(r"\A\s*<think>.*?</think>", re.DOTALL)
_FENCE = re.compile(r"\A```(?:json)?[ \t]*\n(.*)\n```\Z", re.DOTALL | re.IGNORECASE)
_DRESS = " \t\r\n\"'*_`([{.:)]}▁Ġ"
"""What may stand around a letter: white space in a tokenizer's own spelling, quotes, emphasis, brackets."""


class UnreadableError(Exception):
    """A reply that cannot be read; `trouble` is a word for tables, the message says why, fit to tell the model."""

    def __init__(self, trouble: str, why: str) -> None:
        super().__init__(why)
        self.trouble = trouble


def checked(reply: Reply) -> str:
    """The reply's text without a thought that comes before it.

    Raises:
        UnreadableError: it was refused, or cut short.
    """
    if reply.finish == "refusal":
        raise UnreadableError("refused", "nothing was judged")
    if reply.finish == "length":
        raise UnreadableError("cut short", "the reply was too long and was cut off")
    return _THOUGHT.sub("", reply.text).strip()


def letter_logits(reply: Reply, count: int) -> dict[str, float]:
    """The log-probability of each of the first `count` letters, normalised over them, at the place of the answer.

    Tokens that differ in dress alone, as "A" and " A", are added up. A letter that is not among the alternatives
    listed is at most as likely as the last of these, and no likelier than what is left: it gets the smaller of the
    two, which errs towards an even verdict.

    Raises:
        UnreadableError: a refusal, no log-probabilities, another text than a letter, or too little of the probability
            on letters.
    """
    if reply.finish == "refusal":
        raise UnreadableError("refused", "nothing was judged")
    place = _place(reply)
    allowed = LETTERS[:count]
    mass = dict.fromkeys(allowed, 0.0)
    total = 0.0
    for token, value in reply.logprobs[place].items():
        chance = math.exp(value)
        total += chance
        bare = token.strip(_DRESS)
        if bare in mass and bare:
            mass[bare] += chance
    said = sum(mass.values())
    if said < LEAST_MASS:
        raise UnreadableError("unreadable", "the reply is not one letter")
    listed = min(math.exp(value) for value in reply.logprobs[place].values())
    floor = max(min(listed, max(1.0 - total, 0.0)), 1e-9)
    found = {letter: chance if chance > 0 else floor for letter, chance in mass.items()}
    whole = sum(found.values())
    return {letter: math.log(chance / whole) for letter, chance in found.items()}


def _place(reply: Reply) -> int:
    """Where the letter stands among the answer's tokens: the first that is more than dress."""
    if not reply.logprobs or len(reply.tokens) != len(reply.logprobs):
        raise UnreadableError("no log-probabilities", "the reply came without log-probabilities")
    for place, token in enumerate(reply.tokens):
        if token.strip(_DRESS):
            after = "".join(reply.tokens[place + 1 :]).lstrip(" \t▁Ġ")
            if after[:1].isalnum():  # "A good answer would", "A is better": a sentence, whose A may be an article
                break
            return place
    raise UnreadableError("unreadable", "the reply is not one letter")


def read_form(reply: Reply, fields: Sequence[str]) -> dict[str, Any]:
    """A JSON object with exactly these fields, alone or in a fence of its own.

    Raises:
        UnreadableError: anything else, a field twice included.
    """
    text = checked(reply)
    fenced = _FENCE.match(text)
    try:
        value = json.loads(fenced[1] if fenced else text, object_pairs_hook=_object, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UnreadableError("unreadable", f"the reply is not one JSON object ({error})") from error
    if not isinstance(value, dict) or set(value) != set(fields):
        raise UnreadableError("unreadable", f"the object must have the fields {', '.join(fields)} and no others")
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a field stands there twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def text_field(form: Mapping[str, Any], name: str) -> str:
    """A text of a form.

    Raises:
        UnreadableError: it is no text.
    """
    if not isinstance(form[name], str):
        raise UnreadableError("unreadable", f"{name} must be a text")
    return str(form[name])


def whole_field(form: Mapping[str, Any], name: str, low: int, high: int) -> int:
    """A whole number of a form, within bounds.

    Raises:
        UnreadableError: it is none, or out of bounds.
    """
    value = form[name]
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UnreadableError("unreadable", f"{name} must be a whole number from {low} to {high}")
    return value


def choice_field(form: Mapping[str, Any], name: str, known: Sequence[str]) -> str:
    """One of several words.

    Raises:
        UnreadableError: it is none of them.
    """
    value = form[name]
    if not isinstance(value, str) or value not in known:
        raise UnreadableError("unreadable", f"{name} must be one of {', '.join(known)}")
    return value


def ranks_field(form: Mapping[str, Any], name: str, count: int) -> tuple[int, ...]:
    """Ranks by letter, A first, from groups of letters, best first: [["B"], ["A", "C"]] is 2, 1, 2.

    Raises:
        UnreadableError: not groups of letters, a letter twice, or one missing.
    """
    groups = form[name]
    wrong = UnreadableError("unreadable", f"{name} must be a list of lists that holds each letter once, best first")
    if not isinstance(groups, list) or not all(isinstance(group, list) and group for group in groups):
        raise wrong
    said = [letter for group in groups for letter in group]
    if any(not isinstance(letter, str) for letter in said) or sorted(said) != list(LETTERS[:count]):
        raise wrong
    ranks, before = dict.fromkeys(LETTERS[:count], 0), 0
    for group in groups:
        ranks |= dict.fromkeys(group, before + 1)
        before += len(group)
    return tuple(ranks[letter] for letter in LETTERS[:count])
