"""The rows of each export format, from judged items. Needs no Django."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from heedful.feedback.export_consensus import Consensus
from heedful.feedback.export_votes import (
    ADJUDICATOR,
    SHARE,
    VERDICT,
    Judged,
    Pair,
    Text,
    best,
    labels,
    margin_named,
    orders,
    pairs,
)

Row = dict[str, Any]
END_USER = "end_user"
TIES = "ties"
"""What a row of the file beside is called in a format that cannot say a tie."""


@dataclass(frozen=True)
class Options:
    """What an export says beyond its format."""

    margin: str = "none"
    """A name of `MARGINS`."""
    attribute: str = ""
    """Compare answers of the attributes task by this attribute, or by the "mean" of all; empty: not at all."""
    best: bool = False
    """Of sft: the preferred answers of comparisons too."""
    consensus: Consensus | None = None
    """What a model of the raters says of the pairs; by default the shares of the votes stand."""

    def __post_init__(self) -> None:
        margin_named(self.margin)


@dataclass
class Tally:
    """What went in and what was left out."""

    left_out: Counter[str] = field(default_factory=Counter)
    judgments: int = 0
    raters: Counter[str] = field(default_factory=Counter)
    """Votes by kind of rater."""
    items: int = 0

    def used(self, judged: Judged) -> None:
        """Count an item that gave a row."""
        self.items += 1
        self.judgments += sum(len(vote.payloads) for vote in judged.votes) + len(judged.work)
        self.raters.update(vote.kind for vote in judged.votes)
        self.raters.update(work.kind for work in judged.work)


def said(text: Text) -> list[Row]:
    """A completion as messages."""
    return [{"role": "assistant", "content": text.text}]


def prompt_of(judged: Judged) -> list[Row]:
    """A prompt as messages."""
    return [{"role": message["role"], "content": message["content"]} for message in judged.messages]


def made(judged: Judged) -> Row:
    """How an item came about that no rater was asked, as `heedful.data.records.Preference.made` says it."""
    return {"made": {"by": END_USER, "event": judged.event}} if judged.event else {}


@dataclass(frozen=True)
class Compared:
    """Two texts of an item, the preferred one first."""

    judged: Judged
    first: Text
    second: Text
    pair: Pair


def comparisons(judged: Judged, options: Options, tally: Tally) -> Iterator[Compared]:
    """The pairs of an item: those that votes compare, and each edit over its original."""
    found = [
        Compared(judged, judged.answers[p.first], judged.answers[p.second], p)
        for p in (_agreed(judged, pair, options.consensus) for pair in pairs(judged, options.attribute))
    ]
    found += [
        Compared(judged, work.text, work.original, Pair(0, 1, 1.0, 1, 0.0, 1.0, (work.rater,), "edit"))
        for work in judged.work
        if work.original is not None
    ]
    for one in found:
        if one.first.erased or one.second.erased:
            tally.left_out["erased"] += 1
        elif one.first.text.strip() == one.second.text.strip():
            tally.left_out["equal texts"] += 1
        else:
            yield one


def _agreed(judged: Judged, pair: Pair, consensus: Consensus | None) -> Pair:
    """The pair as the consensus has it, the preferred one first; a verdict stays what it is."""
    low, high = sorted((pair.first, pair.second))
    found = None if consensus is None else consensus.pairs.get((judged.item, low, high))
    if consensus is None or found is None or pair.consensus != SHARE:
        return pair
    first = pair.first if found.probability == 0.5 else low if found.probability > 0.5 else high
    p, posterior = found.probability, found.posterior
    if first != low:
        p, posterior = 1 - p, None if posterior is None else 1 - posterior
    return replace(
        pair,
        first=first,
        second=low + high - first,
        probability=p,
        strength=pair.strength if first == pair.first else -pair.strength,
        consensus=consensus.method,
        posterior=posterior,
    )


def preference(one: Compared, options: Options) -> tuple[str, Row]:
    """A TRL preference; a tie goes to the file beside, as heedful's own says it."""
    if one.pair.probability == 0.5:
        return TIES, heedful(one, options)[1]
    row: Row = {"prompt": prompt_of(one.judged), "chosen": said(one.first), "rejected": said(one.second)}
    if options.margin != "none":
        row["margin"] = _margin(one, options)
    row |= {"probability": one.pair.probability, "votes": one.pair.votes, "weight": one.pair.weight}
    return "", row | _how(one) | {"raters": list(one.pair.raters), "item": one.judged.item} | made(one.judged)


def heedful(one: Compared, options: Options) -> tuple[str, Row]:
    """Heedful's own preference, which says ties too, and of the pairwise task the strength."""
    strength = {"strength": one.pair.strength} if one.judged.kind == "pairwise" and one.judged.votes else {}
    return "", {
        "prompt": prompt_of(one.judged),
        "a": one.first.text,
        "b": one.second.text,
        "probability": one.pair.probability,
        "votes": one.pair.votes,
        "margin": _margin(one, options),
        "weight": one.pair.weight,
    } | strength | _how(one) | made(one.judged)


def _how(one: Compared) -> Row:
    """How the probability was come by."""
    posterior = {} if one.pair.posterior is None else {"posterior": one.pair.posterior}
    return {"consensus": one.pair.consensus} | posterior


def _margin(one: Compared, options: Options) -> float:
    return margin_named(options.margin)(one.pair.strength)


def _preferences(
    say: Callable[[Compared, Options], tuple[str, Row]],
) -> Callable[[Judged, Options, Tally], Iterator[tuple[str, Row]]]:
    def rows(judged: Judged, options: Options, tally: Tally) -> Iterator[tuple[str, Row]]:
        if judged.kind == "attributes" and not options.attribute:
            tally.left_out["attributes, and none is named"] += 1
        for one in comparisons(judged, options, tally):
            yield say(one, options)

    return rows


def ranking(judged: Judged, options: Options, tally: Tally) -> Iterator[tuple[str, Row]]:
    """A ranking a vote, which share the weight 1; of the attributes task with its points, ranked by the one named."""
    if judged.kind == "attributes" and not options.attribute:
        tally.left_out["attributes, and none is named"] += 1
        return
    if any(answer.erased for answer in judged.answers):
        tally.left_out["erased"] += 1
        return
    said_by = [(vote, orders(judged, vote, options.attribute)) for vote in judged.votes]
    found = [(vote, ordered) for vote, ordered in said_by if ordered is not None]
    for vote, ordered in found:
        row: Row = {"prompt": prompt_of(judged), "completions": [answer.text for answer in judged.answers]}
        row |= {"ranks": ordered.ranks, "weight": 1 / len(found), "votes": 1}
        row["consensus"] = VERDICT if vote.kind == ADJUDICATOR else SHARE
        row |= {"attributes": ordered.attributes} if ordered.attributes else {}
        yield "", row | {"item": judged.item}


def unpaired(judged: Judged, options: Options, tally: Tally) -> Iterator[tuple[str, Row]]:
    """One answer with true or false."""
    found = [(judged.answers[index], label) for index, label in labels(judged, options.attribute).items()]
    if judged.votes and not found:
        tally.left_out["neither good nor bad"] += 1
    for work in judged.work:
        if work.original is not None:
            found += [(work.text, True), (work.original, False)]
    for text, label in found:
        if text.erased:
            tally.left_out["erased"] += 1
        else:
            row: Row = {"prompt": prompt_of(judged), "completion": said(text), "label": label, "item": judged.item}
            yield "", row | made(judged)


def sft(judged: Judged, options: Options, tally: Tally) -> Iterator[tuple[str, Row]]:
    """Demonstrations, edits, and the preferred answers where they are asked for."""
    found = [(work.text, "edit" if work.original is not None else "demonstration") for work in judged.work]
    if options.best and judged.votes:
        index = best(judged)
        if index is None:
            tally.left_out["no clear winner"] += 1
        else:
            found.append((judged.answers[index], "best"))
    for text, source in found:
        if text.erased:
            tally.left_out["erased"] += 1
        else:
            row: Row = {"prompt": prompt_of(judged), "completion": said(text), "source": source, "item": judged.item}
            yield "", row | made(judged)


Rows = Callable[[Judged, Options, Tally], Iterator[tuple[str, Row]]]
FORMATS: dict[str, Rows] = {
    "trl-preference": _preferences(preference),
    "heedful": _preferences(heedful),
    "ranking": ranking,
    "unpaired": unpaired,
    "sft": sft,
}
"""Training formats that say what people judged. `prompt-only` and `raw` are made elsewhere."""


def rows_of(judged: Judged, name: str, options: Options, tally: Tally) -> Iterator[tuple[str, Row]]:
    """(file, row) of an item in a format; the file is empty for the export itself, or `TIES`."""
    if judged.erased:
        tally.left_out["erased"] += 1
        return
    rows = FORMATS[name](judged, options, tally)
    first = next(rows, None)
    if first is not None:
        tally.used(judged)
        yield from itertools.chain([first], rows)
