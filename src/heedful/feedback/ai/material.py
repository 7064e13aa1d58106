"""What a judge is shown, and how it is marked off from what it is told to do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from heedful.data.records import MADE_HERE, Conversation, Origin
from heedful.errors import HeedfulError
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.files import sha256_json

LETTERS = "ABCDEFGHI"
assert len(LETTERS) == MAX_COMPLETIONS


@dataclass(frozen=True)
class Case:
    """A conversation and the answers that are to be judged, two to nine.

    `item` is the store's id where it came from there; `origin` the line of the file it stood in.

    Raises:
        HeedfulError: too few answers, or too many.
    """

    prompt: Conversation
    completions: tuple[str, ...]
    item: str = ""
    origin: Origin = MADE_HERE
    policies: tuple[str, ...] = ()
    """Who wrote each answer, where that is known; a judge never sees it."""
    purpose: str = "train"
    """Of the store's item: what is for checking, gold or tests never becomes a label to train on."""
    key: str = field(init=False)
    """Hex hash of what is judged, whatever the order of the answers."""

    def __post_init__(self) -> None:
        if not 2 <= len(self.completions) <= MAX_COMPLETIONS:
            raise HeedfulError(
                f"{len(self.completions)} answers to one prompt; a judge takes 2 to {MAX_COMPLETIONS}.",
                where=str(self.origin),
            )
        turns = [[turn.role, turn.content] for turn in self.prompt]
        object.__setattr__(self, "key", sha256_json([turns, sorted(self.completions)]))

    def orders(self, *, both: bool, seed: int, salt: str = "") -> list[tuple[int, ...]]:
        """The orders in which the answers are shown: one drawn by chance, and with `both` its reverse too.

        The draw depends on the texts and the seed alone: a run that goes on shows what the run before it showed.
        """
        if len(self.completions) == 2 and both:
            return [(0, 1), (1, 0)]
        draw = list(range(len(self.completions)))
        random.Random(f"{self.key} {seed} {salt}").shuffle(draw)
        first = tuple(draw)
        return [first, first[::-1]] if both else [first]


def shown(case: Case, order: Sequence[int]) -> str:
    """The conversation and the answers, lettered in an order, between lines that no text can forge.

    The mark in those lines is made from a hash of all that stands between them, so a text that holds it would have to
    hold its own hash.
    """
    mark = case.key[:16]
    parts = [f"=== conversation {mark} ==="]
    parts += [f"[{turn.role}]\n{turn.content}" for turn in case.prompt]
    for letter, index in zip(LETTERS, order, strict=False):
        parts += [f"=== answer {letter} {mark} ===", case.completions[index]]
    return "\n".join([*parts, f"=== end {mark} ==="])
