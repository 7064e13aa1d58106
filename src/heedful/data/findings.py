"""What was found in the data that cannot be learnt from, counted by kind with line numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from heedful.data.records import Origin
from heedful.errors import HeedfulError

if TYPE_CHECKING:
    from rich.table import Table

OnBadRow = Literal["skip", "error", "truncate"]
Action = Literal["skipped", "truncated", "left out"]

MENDS = {
    "empty prompt": "Give it a message, or drop the row.",
    "empty answer": "Give both sides an answer, or drop the row.",
    "equal answers": "Both sides are the same text: drop the row.",
    "differing prompts": "Both sides must answer the same conversation: drop the row.",
    "ends with the user": "Let it end with an answer, or drop the row.",
    "turns out of order": "Human and Assistant must take turns, Human first: mend or drop the row.",
    "no verdict": "Nobody judged it: drop the row.",
    "broken text": "It holds half a character (an unpaired surrogate): mend or drop the row.",
    "over the window": "Raise --records.max-length, or cut such rows with --records.on-bad-row truncate.",
    "refused by the chat template": "Choose another --loading.template, or drop such rows.",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One row that was dealt with."""

    kind: str
    origin: Origin
    action: Action


@dataclass
class Findings:
    """The findings of one data source, in the order of its rows; `rows` counts the rows read."""

    rows: int = 0
    items: list[Finding] = field(default_factory=list)

    def add(self, kind: str, origin: Origin, action: Action) -> None:
        """Note that a row was dealt with."""
        self.items.append(Finding(kind, origin, action))

    def meet(self, kind: str, origin: Origin, on_bad_row: OnBadRow, *, cut: bool = False) -> None:
        """Deal with a bad row: note it, or raise where bad rows are errors.

        Args:
            cut: the row is kept, cut (only ever under "truncate").

        Raises:
            HeedfulError: `on_bad_row` is "error".
        """
        if on_bad_row == "error":
            mend = f"{MENDS[kind]} To go on without such rows: --records.on-bad-row skip."
            raise HeedfulError(f"{kind}.", where=str(origin), mend=mend)
        self.add(kind, origin, "truncated" if cut else "skipped")

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)

    def counts(self) -> dict[str, int]:
        """How many rows of each kind, the most frequent first."""
        counted: dict[str, int] = {}
        for item in self.items:
            counted[item.kind] = counted.get(item.kind, 0) + 1
        return dict(sorted(counted.items(), key=lambda pair: (-pair[1], pair[0])))

    def lines(self, kind: str) -> list[int]:
        """The lines of one kind's rows."""
        return [item.origin.line for item in self.items if item.kind == kind]

    def as_dict(self) -> dict[str, Any]:
        """For a report: the rows read, and by kind the count, the actions taken and the lines."""
        kinds = {}
        for kind, count in self.counts().items():
            actions: dict[str, int] = {}
            for item in self.items:
                if item.kind == kind:
                    actions[item.action] = actions.get(item.action, 0) + 1
            kinds[kind] = {"count": count, "actions": actions, "lines": self.lines(kind)}
        return {"rows": self.rows, "kinds": kinds}

    def summary(self, shown: int = 6) -> str:
        """One line: "6 of 1800 rows: 4 empty answer (lines 87, 517, 926, 1104), 2 ..."."""
        if not self.items:
            return f"nothing amiss in {self.rows} rows"
        kinds = ", ".join(
            f"{count} {kind} ({self._done(kind)}: lines {self._some(kind, shown)})"
            for kind, count in self.counts().items()
        )
        return f"{len({item.origin for item in self.items})} of {self.rows} rows: {kinds}"

    def _done(self, kind: str) -> str:
        return ", ".join(sorted({item.action for item in self.items if item.kind == kind}))

    def _some(self, kind: str, shown: int) -> str:
        lines = self.lines(kind)
        more = f" and {len(lines) - shown} more" if len(lines) > shown else ""
        return ", ".join(map(str, lines[:shown])) + more

    def table(self, shown: int = 12) -> Table:
        """A table for the terminal: kind, count, what was done, the first `shown` lines."""
        from rich.table import Table

        table = Table(title=f"Findings in {self.rows} rows", title_justify="left")
        for name in ("finding", "rows", "done", "lines"):
            table.add_column(name, justify="right" if name == "rows" else "left")
        for kind, count in self.counts().items():
            table.add_row(kind, str(count), self._done(kind), self._some(kind, shown))
        return table
