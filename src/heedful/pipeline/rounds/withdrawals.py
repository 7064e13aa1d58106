"""Which judgments in a programme's results were withdrawn since, as their raters were erased. Imports no torch.

The store is asked once in a command, and only where people have judged. A store that is not there is said; finished
results stand without it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from heedful.errors import HeedfulError
from heedful.pipeline.rounds.recipe import Programme
from heedful.pipeline.rounds.rows import read_said
from heedful.training.config.programme import Recipe
from heedful.training.progress import Display

JUDGMENTS = "judgments.jsonl"
STORED = ("human", "end_user", "demonstration")
"""Kinds of judgments that stand in the store."""


class Withdrawals:
    """Answers for one programme.

    Args:
        of: the programme of rounds.
        display: says that the store could not be asked.
    """

    def __init__(self, of: Programme, display: Display) -> None:
        self._of, self._display = of, display
        self._gone: dict[str, frozenset[str]] = {}

    def of(self, recipe: Recipe, place: Path, manifest: Mapping[str, Any]) -> dict[str, int]:
        """How many of a result's judgments were withdrawn, by the pseudonym of the rater."""
        counts = manifest.get("judgments", {})
        if not any(counts.get(kind) for kind in STORED) or not (place / JUDGMENTS).exists():
            return {}
        gone = self._withdrawn(recipe, str(manifest.get("store", {}).get("programme") or recipe.store.programme))
        said = read_said(place / JUDGMENTS) if gone else []
        return dict(Counter(one.rater for one in said if one.judgment in gone))

    def _withdrawn(self, recipe: Recipe, programme: str) -> frozenset[str]:
        if programme not in self._gone:
            from heedful.pipeline.rounds.store import open_store, readable

            try:
                with readable(recipe):
                    self._gone[programme] = open_store(recipe, self._of, self._display).withdrawn(programme)
            except HeedfulError as error:
                self._display.say(f"Whether raters were erased since could not be asked: {error.what}")
                self._gone[programme] = frozenset()
        return self._gone[programme]


def joined(*counts: Mapping[str, int]) -> dict[str, int]:
    """Counts by rater, added up."""
    found: Counter[str] = Counter()
    for one in counts:
        found.update(one)
    return dict(found)
