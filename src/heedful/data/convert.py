"""Rows of each known format to records. What a row lacks or holds wrongly is an error with its place.

Every function takes a row and its origin and returns the row's records. In formats with two sides, record
`a` is the side that is preferred (either side where it is a tie).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

from heedful.data.records import (
    Conversation,
    Demonstration,
    Labelled,
    Message,
    Origin,
    Preference,
    Prompt,
    Ranking,
    Record,
)
from heedful.data.turns import (
    DIFFERING_PROMPTS,
    EMPTY_PROMPT,
    NO_VERDICT,
    BadContentError,
    conversation,
    hh_turns,
    in_turn,
    is_hh,
    json_list,
    message_turns,
    prompt_of,
    split_answer,
    text_of,
    wrong_type,
)
from heedful.errors import HeedfulError

Row = dict[str, Any]

STRONGEST = 3.0
"""The largest strength of a preference, either way."""

_PROMPT_NAMES = ("question", "instruction", "query", "input")
"""What files call a column that their authors mean as the prompt."""


def number(row: Row, key: str, origin: Origin, *, default: float | None = None) -> float:
    """A finite number of a row (or its text, as CSV has it).

    Raises:
        HeedfulError: it is missing without a default, or no finite number.
    """
    value = row.get(key, default)
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            raise wrong_type(origin, key, value, "a number") from None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise wrong_type(origin, key, value, "a finite number")
    return float(value)


def _oriented(prompt: Conversation, a: str, b: str, probability: float, origin: Origin, **more: Any) -> Preference:
    if probability < 0.5:
        a, b, probability = b, a, 1.0 - probability
    return Preference(prompt, a, b, probability=probability, origin=origin, **more)


def heedful_preference(row: Row, origin: Origin) -> list[Record]:
    """Heedful's own: prompt (messages), a, b, probability, votes, margin, weight, strength, consensus, posterior, made.

    Other keys are errors.
    """
    return [
        Preference(
            prompt_of(row["prompt"], "prompt", origin),
            text_of(row["a"], "a", origin),
            text_of(row["b"], "b", origin),
            margin=number(row, "margin", origin, default=0.0),
            origin=origin,
            strength=None if row.get("strength") is None else _strength(row, "strength", origin),
            made=_made(row.get("made"), origin),
            **_said(row, origin),
        )
    ]


def _said(row: Row, origin: Origin) -> dict[str, Any]:
    """What heedful's exports say of a preference: probability, votes, weight, consensus, posterior."""
    probability = number(row, "probability", origin, default=1.0)
    votes = number(row, "votes", origin, default=1)
    weight = number(row, "weight", origin, default=1.0)
    if not 0.0 <= probability <= 1.0:
        raise HeedfulError(f"'probability' is {probability}.", where=str(origin), mend="It lies between 0 and 1.")
    if votes < 1 or votes != int(votes):
        raise HeedfulError(f"'votes' is {votes:g}.", where=str(origin), mend="It counts judgments: 1, 2, 3 ...")
    if weight <= 0:
        raise HeedfulError(f"'weight' is {weight}.", where=str(origin), mend="It must be above 0.")
    posterior = None if row.get("posterior") is None else number(row, "posterior", origin)
    if posterior is not None and not 0.0 <= posterior <= 1.0:
        raise HeedfulError(f"'posterior' is {posterior}.", where=str(origin), mend="It lies between 0 and 1.")
    return {
        "probability": probability,
        "votes": int(votes),
        "weight": weight,
        "consensus": text_of(row["consensus"], "consensus", origin) if row.get("consensus") else "",
        "posterior": posterior,
    }


def _made(value: Any, origin: Origin) -> tuple[tuple[str, str | float], ...]:
    """How a pair was made: an object of names with texts or finite numbers (what Parquet left empty is not there)."""
    if value is None or value == "":
        return ()
    if not isinstance(value, dict):
        raise wrong_type(origin, "made", value, "an object of names and values")
    found: list[tuple[str, str | float]] = []
    for name, item in value.items():
        if item is None:
            continue
        finite = not isinstance(item, float) or math.isfinite(item)
        if isinstance(item, bool) or not isinstance(item, str | int | float) or not finite:
            raise wrong_type(origin, f"made.{name}", item, "a text or a finite number")
        found.append((str(name), item))
    return tuple(found)


def _strength(row: Row, key: str, origin: Origin) -> float:
    strength = number(row, key, origin)
    if abs(strength) > STRONGEST:
        raise HeedfulError(f"{key!r} is {strength:g}.", where=str(origin), mend="It lies between -3 and 3.")
    return strength


def helpsteer_preference(row: Row, origin: Origin) -> list[Record]:
    """prompt, response_1, response_2, preference_strength: -3 is response 1 by far, 0 a tie, 3 response 2 by far."""
    prompt = prompt_of(row["prompt"], "prompt", origin)
    first, second = (text_of(row[key], key, origin) for key in ("response_1", "response_2"))
    if row["preference_strength"] is None:
        raise BadContentError(NO_VERDICT)
    strength = -_strength(row, "preference_strength", origin)
    if strength < 0:
        return [Preference(prompt, second, first, origin=origin, strength=-strength)]
    return [Preference(prompt, first, second, 1.0 if strength > 0 else 0.5, origin=origin, strength=abs(strength))]


def explicit_preference(row: Row, origin: Origin) -> list[Record]:
    """prompt, chosen, rejected. Each may be text or messages; message sides may repeat the prompt.

    Equal ratings of both sides (`score_chosen`, `score_rejected`, or Argilla's `chosen-rating`) are a tie.
    """
    sides = [_side(row["prompt"], row[key], key, origin) for key in ("chosen", "rejected")]
    return [_pair(row, sides, origin)]


def _side(prompt: Any, value: Any, key: str, origin: Origin) -> tuple[Conversation, str]:
    """The conversation before a side's answer, and the answer."""
    before = prompt_of(prompt, "prompt", origin)
    if isinstance(value, str):
        if is_hh(prompt):
            value = value.removeprefix(" ")
        return before, value
    turns = message_turns(value, key, origin, answers=True)
    if turns[0].role == "assistant":
        return split_answer(before + turns)
    if turns[: len(before)] != before and (isinstance(prompt, list) or before[0] not in turns[:2]):
        raise BadContentError(DIFFERING_PROMPTS)
    return split_answer(turns)


def _pair(row: Row, sides: list[tuple[Conversation, str]], origin: Origin) -> Preference:
    (prompt, chosen), (other, rejected) = sides
    if prompt != other:
        raise BadContentError(DIFFERING_PROMPTS)
    margin = number(row, "margin", origin) if row.get("margin") is not None else 0.0
    if isinstance(row.get("consensus"), str) and row.get("probability") is not None:
        return Preference(prompt, chosen, rejected, margin=margin, origin=origin, **_said(row, origin))
    return Preference(prompt, chosen, rejected, probability=_tie(row, origin), margin=margin, origin=origin)


def _tie(row: Row, origin: Origin) -> float:
    for keys in (("score_chosen", "score_rejected"), ("chosen-rating", "rejected-rating")):
        if all(row.get(key) is not None for key in keys):
            high, low = (number(row, key, origin) for key in keys)
            return 0.5 if high == low else 1.0
    return 1.0


def implicit_preference(row: Row, origin: Origin) -> list[Record]:
    """chosen, rejected: whole conversations (messages, HH-RLHF strings), or texts with a common beginning."""
    chosen, rejected = row["chosen"], row["rejected"]
    if isinstance(chosen, str) and not is_hh(chosen) and not is_hh(rejected):
        rejected = text_of(rejected, "rejected", origin)
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), -1)
        shared = min(len(chosen), len(rejected)) if shared < 0 else shared
        shared -= chosen[:shared].endswith(" ")
        _check_no_prompt(row, chosen[:shared], origin)
        if not chosen[:shared].strip():
            raise BadContentError(DIFFERING_PROMPTS)
        prompt = (Message("user", chosen[:shared]),)
        return [_pair(row, [(prompt, chosen[shared:]), (prompt, rejected[shared:])], origin)]
    if is_hh(chosen) and is_hh(rejected):
        sides = [split_answer(hh_turns(value)) for value in (chosen, rejected)]
        pair = _pair(row, sides, origin)
        in_turn((*pair.prompt, Message("assistant", pair.a)))
        return [pair]
    sides = [split_answer(conversation(row[key], key, origin)) for key in ("chosen", "rejected")]
    return [_pair(row, sides, origin)]


def _check_no_prompt(row: Row, shared: str, origin: Origin) -> None:
    """Refuse to take what two answers begin with for a prompt that stands in a column of its own."""
    for name in _PROMPT_NAMES:
        value = row.get(name)
        if isinstance(value, str) and value.strip() and value.strip() not in shared:
            raise HeedfulError(
                f"the column {name!r} looks like the prompt, which 'chosen' and 'rejected' do not begin with.",
                where=str(origin),
                mend=f"Rename {name!r} to 'prompt'; if it is no prompt, give it another name.",
            )


def unpaired(row: Row, origin: Origin) -> list[Record]:
    """prompt, completion, label: one answer with a thumb up or down."""
    prompt, completion = _side(row["prompt"], row["completion"], "completion", origin)
    return [Labelled(prompt, completion, _boolean(row, "label", origin), origin)]


def _boolean(row: Row, key: str, origin: Origin) -> bool:
    value = row[key]
    if isinstance(value, str) and value.lower() in ("true", "false", "0", "1"):
        return value.lower() in ("true", "1")
    if isinstance(value, bool) or value in (0, 1):
        return bool(value)
    raise wrong_type(origin, key, value, "true or false")


def prompt_completion(row: Row, origin: Origin) -> list[Record]:
    """prompt, completion: text or messages."""
    return [Demonstration(*_side(row["prompt"], row["completion"], "completion", origin), origin)]


def columns_completion(prompt_key: str, answer_key: str) -> Any:
    """A converter of rows with a question in one text column and its answer in another."""

    def convert(row: Row, origin: Origin) -> list[Record]:
        prompt = prompt_of(row[prompt_key], prompt_key, origin)
        return [Demonstration(prompt, text_of(row[answer_key], answer_key, origin), origin)]

    return convert


def columns_prompt(key: str) -> Any:
    """A converter of rows that hold only a prompt."""

    def convert(row: Row, origin: Origin) -> list[Record]:
        return [Prompt(prompt_of(row[key], key, origin), origin)]

    return convert


def conversations(key: str) -> Any:
    """A converter of rows that hold one conversation; one that ends with the user is a prompt."""

    def convert(row: Row, origin: Origin) -> list[Record]:
        value = row[key]
        turns = conversation(json_list(value, key, origin), key, origin)
        if turns[-1].role == "assistant":
            return [Demonstration(*split_answer(turns), origin)]
        if not any(turn.role in ("user", "tool") for turn in turns):
            raise BadContentError(EMPTY_PROMPT)
        return [Prompt(turns, origin)]

    return convert


def _instruction(row: Row, origin: Origin) -> Conversation:
    text = text_of(row["instruction"], "instruction", origin)
    more = row.get("input")
    if more:
        text = f"{text}\n\n{text_of(more, 'input', origin)}"
    return (Message("user", text),)


def alpaca(row: Row, origin: Origin) -> list[Record]:
    """instruction, output, and an optional input that follows the instruction."""
    return [Demonstration(_instruction(row, origin), text_of(row["output"], "output", origin), origin)]


def alpaca_eval(row: Row, origin: Origin) -> list[Record]:
    """instruction, output_1, output_2, preference: 1 prefers the first, 2 the second, between them a share.

    AlpacaEval writes a judge's certainty as a number from 1 to 2, so that `2 - preference` is the
    probability that output 1 is preferred; 1.5 (and AlpacaFarm's 0) is a tie.
    """
    first, second = (text_of(row[key], key, origin) for key in ("output_1", "output_2"))
    if row["preference"] is None:
        raise BadContentError(NO_VERDICT)
    preference = number(row, "preference", origin)
    preference = 1.5 if preference == 0 else preference
    if not 1.0 <= preference <= 2.0:
        raise HeedfulError(
            f"'preference' is {preference}.", where=str(origin), mend="It lies between 1 (output_1) and 2 (output_2)."
        )
    return [_oriented(_instruction(row, origin), first, second, 2.0 - preference, origin)]


def arena(row: Row, origin: Origin) -> list[Record]:
    """prompt, response_a, response_b (lists of turns in JSON) and three winner columns; ties are kept."""
    flags = [_boolean(row, key, origin) for key in ("winner_model_a", "winner_model_b", "winner_tie")]
    if sum(flags) != 1:
        raise HeedfulError(
            "exactly one of winner_model_a, winner_model_b and winner_tie must be 1.",
            where=str(origin),
            mend="Correct the row.",
        )
    prompts = json_list(row["prompt"], "prompt", origin)
    sides = []
    for key in ("response_a", "response_b"):
        answers = ["" if text is None else text for text in json_list(row[key], key, origin)]
        if len(answers) != len(prompts) or not prompts:
            raise HeedfulError(
                f"{len(prompts)} prompts, but {len(answers)} answers in {key!r}.",
                where=str(origin),
                mend="Correct the row.",
            )
        turns: Conversation = ()
        for question, answer in zip(prompts, answers, strict=True):
            turns += (
                Message("user", text_of("" if question is None else question, "prompt", origin)),
                Message("assistant", text_of(answer, key, origin)),
            )
        sides.append(split_answer(turns))
    (prompt, a), (other, b) = sides
    if prompt != other:
        raise BadContentError(DIFFERING_PROMPTS)
    return [_oriented(prompt, a, b, 1.0 if flags[0] else 0.0 if flags[1] else 0.5, origin)]


def arena_conversations(row: Row, origin: Origin) -> list[Record]:
    """conversation_a, conversation_b (messages) and winner: model_a, model_b, tie or tie (bothbad)."""
    winner = text_of(row["winner"], "winner", origin)
    known = {"model_a": 1.0, "model_b": 0.0, "tie": 0.5, "tie (bothbad)": 0.5, "bothbad": 0.5, "both_bad": 0.5}
    if winner not in known:
        raise HeedfulError(
            f"'winner' is {winner!r}.", where=str(origin), mend="Known: model_a, model_b, tie, tie (bothbad)."
        )
    keys = ("conversation_a", "conversation_b")
    sides = [split_answer(message_turns(json_list(row[key], key, origin), key, origin)) for key in keys]
    (prompt, a), (other, b) = sides
    if prompt != other:
        raise BadContentError(DIFFERING_PROMPTS)
    return [_oriented(prompt, a, b, known[winner], origin)]


def ultrafeedback(row: Row, origin: Origin) -> list[Record]:
    """instruction and completions, each with a response and aspect ratings: a pair of each two completions.

    An answer's score is the mean of its aspects' ratings (`overall_score` is known to hold errors). The
    C(K,2) pairs of one prompt share the weight 1; equal scores are a tie.
    """
    return ranked_pairs(ultrafeedback_ranking(row, origin))


def ultrafeedback_ranking(row: Row, origin: Origin) -> Ranking:
    """The same as one ranking of the completions, with the ratings of each aspect."""
    prompt = _instruction({"instruction": row["instruction"]}, origin)
    rated: list[tuple[str, dict[str, list[float]]]] = []
    for index, item in enumerate(json_list(row["completions"], "completions", origin)):
        place = f"completions[{index}]"
        if not isinstance(item, dict) or "response" not in item:
            raise wrong_type(origin, place, item, "an object with a 'response'")
        ratings = _ratings(item.get("annotations"), place, origin)
        if ratings:
            rated.append((text_of(item["response"], f"{place}.response", origin), ratings))
    if len(rated) < 2:
        raise BadContentError(NO_VERDICT)
    scores = [_mean([value for values in ratings.values() for value in values]) for _, ratings in rated]
    names = sorted({name for _, ratings in rated for name in ratings})
    return Ranking(
        prompt,
        tuple(text for text, _ in rated),
        ranked(scores),
        tuple((name, tuple(_mean(ratings.get(name)) for _, ratings in rated)) for name in names),
        origin=origin,
    )


def ranked(scores: list[float]) -> tuple[float, ...]:
    """Ranks of scores, the best 1, as in 1, 2, 2, 4."""
    return tuple(1.0 + sum(other > score for other in scores) for score in scores)


def mean_rating(annotations: Any, place: str, origin: Origin) -> float | None:
    """The mean of an answer's aspect ratings, as UltraFeedback writes them; None where none is given.

    Raises:
        HeedfulError: they are no object of aspects, or a rating is no number.
    """
    values = [value for values in _ratings(annotations, place, origin).values() for value in values]
    return _mean(values) if values else None


def _ratings(annotations: Any, place: str, origin: Origin) -> dict[str, list[float]]:
    """The ratings of each aspect that has any."""
    if not isinstance(annotations, dict):
        raise wrong_type(origin, f"{place}.annotations", annotations, "an object of aspects")
    ratings: dict[str, list[float]] = {}
    for aspect, value in annotations.items():
        parts = value if isinstance(value, list) else [value]
        for part in parts:
            rating = part.get("Rating") if isinstance(part, dict) else None
            if rating not in (None, "N/A"):
                ratings.setdefault(aspect, []).append(number({aspect: rating}, aspect, origin))
    return ratings


def _mean(values: list[float] | None) -> float:
    return sum(values) / len(values) if values else math.nan


def ranking(row: Row, origin: Origin) -> Ranking:
    """prompt, completions, ranks (1 the best, equal ranks a tie), and optional attributes and weight.

    Raises:
        HeedfulError: fewer than two completions, another number of ranks or ratings, or one that is no finite number.
    """
    prompt = prompt_of(row["prompt"], "prompt", origin)
    given = json_list(row["completions"], "completions", origin)
    completions = tuple(_completion(value, f"completions[{i}]", origin) for i, value in enumerate(given))
    if len(completions) < 2:
        raise HeedfulError(
            f"{len(completions)} completions make no ranking.", where=str(origin), mend="Give two or more."
        )
    ranks = _numbers(row["ranks"], "ranks", len(completions), origin)
    attributes = row.get("attributes") or {}
    if not isinstance(attributes, dict):
        raise wrong_type(origin, "attributes", attributes, "an object of lists")
    weight = number(row, "weight", origin, default=1.0)
    if weight <= 0:
        raise HeedfulError(f"'weight' is {weight}.", where=str(origin), mend="It must be above 0.")
    rated = tuple(
        (str(name), _numbers(values, f"attributes.{name}", len(completions), origin, missing=True))
        for name, values in sorted(attributes.items())
    )
    return Ranking(prompt, completions, ranks, rated, weight, origin)


def _completion(value: Any, key: str, origin: Origin) -> str:
    """An answer as text, or as one message of the assistant."""
    if not isinstance(value, list):
        return text_of(value, key, origin)
    turns = message_turns(value, key, origin, answers=True)
    if len(turns) != 1 or turns[0].role != "assistant":
        raise HeedfulError(f"{key} is no single answer.", where=str(origin), mend="Give one assistant message.")
    return turns[0].content


def _numbers(value: Any, key: str, count: int, origin: Origin, *, missing: bool = False) -> tuple[float, ...]:
    found = json_list(value, key, origin)
    if len(found) != count:
        raise HeedfulError(
            f"{count} completions, but {len(found)} {key}.", where=str(origin), mend="Give one for each completion."
        )
    return tuple(
        math.nan if missing and one is None else number({f"{key}[{i}]": one}, f"{key}[{i}]", origin)
        for i, one in enumerate(found)
    )


def ranking_preferences(row: Row, origin: Origin) -> list[Record]:
    """The pairs of a `ranking` row, with the votes and consensus that heedful's exports say of it."""
    pairs = ranked_pairs(ranking(row, origin))
    if not isinstance(row.get("consensus"), str):
        return pairs
    said = _said({key: value for key, value in row.items() if key in ("votes", "consensus")}, origin)
    own = {name: said[name] for name in ("votes", "consensus")}
    return [replace(pair, **own) if isinstance(pair, Preference) else pair for pair in pairs]


def ranked_pairs(record: Ranking) -> list[Record]:
    """A preference of each two answers of a ranking; they share its weight. Equal ranks are a tie."""
    pairs = list(itertools.combinations(zip(record.completions, record.ranks, strict=True), 2))
    weight = record.weight / len(pairs)
    return [
        _oriented(record.prompt, a, b, 0.5 if x == y else float(x < y), record.origin, weight=weight)
        for (a, x), (b, y) in pairs
    ]
