"""Pairs of answers that people are to judge blind, through the studio: pushed once, whoever asks again.

They have the purpose `check`, so that none of their judgments ever enters training. Which answer an item has first is a
coin of the two texts, the studio shows them in an order of its own, and whose they are is told to nobody. A push has a
key made of its texts: the same pairs again are the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heedful.data.records import Conversation
from heedful.feedback.client import FeedbackClient
from heedful.feedback.wire import BatchSpec, BatchStatus
from heedful.files import sha256_json
from heedful.pipeline.people_judge import CHECK, pair_item


@dataclass(frozen=True)
class Pair:
    """Our answer and theirs to one prompt."""

    prompt: Conversation
    ours: str
    theirs: str


@dataclass(frozen=True)
class Given:
    """One judgment of a pair: 1 for our answer, 0 for theirs, 1/2 for a tie; who gave it, and what they are."""

    won: float
    rater: str
    kind: str


@dataclass(frozen=True)
class Asked:
    """Pairs in a batch, an item for each two texts: `rows` are the places of those that it answers, by item."""

    batch: BatchStatus
    rows: tuple[tuple[int, ...], ...]


def ask(client: FeedbackClient, programme: str, pairs: Sequence[Pair], *, name: str, votes: int) -> Asked | None:
    """Have pairs judged: push them and open their batch, or find the batch that holds them already.

    Nobody is asked about two equal texts, nor twice about the same two.

    Args:
        name: of the batch, before a part of its key. votes: judgments for each pair.

    Returns:
        None where every pair is one of equal texts.

    Raises:
        HeedfulError: as the store does.
    """
    same: dict[tuple[Conversation, str, str], list[int]] = {}
    for row, pair in enumerate(pairs):
        if pair.ours != pair.theirs:
            first, second = sorted((pair.ours, pair.theirs))
            same.setdefault((pair.prompt, first, second), []).append(row)
    if not same:
        return None
    items = [pair_item(*key) for key in same]
    key = sha256_json([[item.messages, [one.text for one in item.completions]] for item in items])
    spec = BatchSpec(f"{name} {key[:8]}", purpose=CHECK, quota=votes)
    batch = client.push_items(programme, spec, items, key=f"check-{key}-{votes}")
    if batch.state == "staged":
        batch = client.open_batch(programme, batch.id)
    return Asked(batch, tuple(tuple(rows) for rows in same.values()))


def judgments_of(
    client: FeedbackClient, programme: str, pairs: Sequence[Pair], asked: Asked | None
) -> list[list[Given]]:
    """[n] the judgments of each pair so far; none of pairs of equal texts."""
    found: list[list[Given]] = [[] for _ in pairs]
    if asked is None:
        return found
    items = client.items(programme, asked.batch.id)
    places = {item.id: (rows, item.completions[0].text) for item, rows in zip(items, asked.rows, strict=True)}
    for judgment in client.judgments(programme, batch=asked.batch.id, purpose=CHECK):
        rows, first = places[judgment.item]
        strength = int(judgment.payload["strength"])
        won = 0.5 if strength == 0 else float(strength < 0)
        for row in rows:
            own = won if pairs[row].ours == first else 1 - won
            found[row].append(Given(own, judgment.rater, judgment.rater_kind))
    return found
