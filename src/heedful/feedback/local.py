"""The store reached at its database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heedful.feedback.client import Paging, short, warn_of_held_back
from heedful.feedback.setup import setup
from heedful.feedback.wire import (
    PAGE,
    BatchSpec,
    BatchStatus,
    ItemRow,
    Judge,
    JudgmentRow,
    NewItem,
    NewJudgment,
    SnapshotRow,
    Status,
    WorkRow,
)


class LocalClient(Paging):
    """A `FeedbackClient` on a database.

    Args:
        database: its address; by default DATABASE_URL, or feedback.db in the working folder.

    Raises:
        HeedfulError: the address is wrong, or this process already serves another database.
    """

    def __init__(self, database: str | None = None) -> None:
        setup(database)
        from heedful.feedback import pulls, services  # imports models, so only after the setup

        self._services: Any = services
        self._pulls: Any = pulls

    def status(self, programme: str) -> Status:
        """See FeedbackClient."""
        found: Status = self._services.status(self._services.programme_named(programme))
        return found

    def batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        found: BatchStatus = self._services.batch_status(self._batch(programme, batch))
        return found

    def _batch(self, programme: str, batch: str) -> Any:
        return self._services.batch_of(self._services.programme_named(programme), batch)

    def open_batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        found: BatchStatus = self._services.open_batch(self._batch(programme, batch))
        return found

    def pause_batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""
        found: BatchStatus = self._services.pause_batch(self._batch(programme, batch))
        return found

    def snapshot(self, programme: str, name: str, *, key: str = "", **filters: Any) -> SnapshotRow:
        """See FeedbackClient."""
        of = self._services.programme_named(programme)
        given = {what: list(value) for what, value in filters.items()}
        found: SnapshotRow = self._services.snapshot(of, name, key=short(key), **given)
        return found

    def export(self, programme: str, format: str, out: Path, **filters: Any) -> int:
        """See FeedbackClient."""
        from heedful.feedback.exports import export

        of = self._services.programme_named(programme)
        given = {name: value for name, value in filters.items() if value}
        if "snapshot" in given:
            given["snapshot"] = self._services.snapshot_of(of, given["snapshot"])
        report = export(of, format, out, record=True, **given)
        warn_of_held_back(len(report.held_back), ", ".join(report.held_back))
        return report.rows

    def withdrawn(self, programme: str) -> frozenset[str]:
        """See FeedbackClient."""
        found: frozenset[str] = self._services.withdrawn(self._services.programme_named(programme))
        return found

    def work(self, programme: str, batch: str) -> WorkRow:
        """See FeedbackClient."""
        found: WorkRow = self._services.work(self._batch(programme, batch))
        return found

    def _make_batch(self, programme: str, spec: BatchSpec, key: str) -> BatchStatus:
        found: BatchStatus = self._services.create_batch(self._services.programme_named(programme), spec, key=key)
        return found

    def _push(self, programme: str, batch: str, items: list[NewItem], key: str) -> None:
        self._services.push(self._batch(programme, batch), items, key=key)

    def _record(self, programme: str, judge: Judge, judgments: list[NewJudgment]) -> list[str]:
        made: list[str] = self._services.record(self._services.programme_named(programme), judge, judgments)
        return made

    def _items_page(self, programme: str, batch: str, after: str) -> tuple[list[ItemRow], str]:
        own = self._batch(programme, batch)
        rows, following = self._pulls.items_page(own, after=after, most=PAGE, policies=True)
        return rows, following

    def _judgments_page(self, programme: str, wanted: dict[str, Any], after: str) -> tuple[list[JudgmentRow], str]:
        of = self._services.programme_named(programme)
        names = self._pulls.pseudonyms(str(of.pk))
        chosen = self._pulls.Wanted(**wanted)
        rows, following = self._pulls.judgments_page(of, chosen, after=after, most=PAGE, names=names)
        return rows, following
