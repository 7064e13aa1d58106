"""How a training run reaches the store: its database, or a studio's API with a token. Needs no Django to import.

client = connect(studio="https://studio.example.org", token=...)
batch = client.push_items("shop", BatchSpec("round 2", round=2), items)
client.open_batch("shop", batch.id)
for preference in client.preferences("shop"): ...
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import uuid
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

from heedful.data.records import Message, Origin, Preference
from heedful.errors import HeedfulError
from heedful.feedback.wire import (
    CHUNK,
    CHUNK_BYTES,
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
    packed,
)

TOKEN_VARIABLE = "HEEDFUL_TOKEN"
_NUMBERED = re.compile(r"(item|judgment) (\d+), (.*)", re.DOTALL)


class FeedbackClient(Protocol):
    """What a pipeline and a monitor do with the store; the same whichever way it is reached.

    Every method names the programme by its slug. All raise HeedfulError (NotFoundError for what is not there,
    Conflict for a key that came with something else).
    """

    def status(self, programme: str) -> Status:
        """How far a programme and its batches are."""

    def batch(self, programme: str, batch: str) -> BatchStatus:
        """How far a batch is."""

    def push_items(
        self, programme: str, batch: BatchSpec | str, items: Iterable[NewItem], *, key: str = ""
    ) -> BatchStatus:
        """Add items to a new batch, or to one by its id. Raters see nothing of a new one until it is opened.

        With a key of one's own the whole push may be done again, and adds nothing twice.
        """

    def open_batch(self, programme: str, batch: str) -> BatchStatus:
        """Hand a batch out."""

    def pause_batch(self, programme: str, batch: str) -> BatchStatus:
        """Hand out no more of a batch for now."""

    def items(self, programme: str, batch: str) -> Iterator[ItemRow]:
        """A batch's items with their completions, in order."""

    def judgments(
        self,
        programme: str,
        *,
        batch: str = "",
        purpose: str = "train",
        kind: str = "",
        since: datetime | None = None,
        history: bool = False,
        surplus: bool = False,
        snapshot: str = "",
    ) -> Iterator[JudgmentRow]:
        """Judgments in the order in which they were made; by default those for training that hold and count.

        With a snapshot those of it alone; `history` and `surplus` too, all of it that was not erased since.
        """

    def preferences(
        self, programme: str, *, batches: Iterable[str] = (), rounds: Iterable[int] = (), snapshot: str = ""
    ) -> Iterator[Preference]:
        """What raters preferred, votes put together, ties included; judgments for training alone."""

    def withdrawn(self, programme: str) -> frozenset[str]:
        """Ids of judgments that nothing is to be learnt from any more, since their raters were erased."""

    def work(self, programme: str, batch: str) -> WorkRow:
        """People's hours on a batch, and what they are worth at the programme's rates."""

    def record(self, programme: str, judge: Judge, judgments: Iterable[NewJudgment]) -> list[str]:
        """Keep an agent's judgments; gives their ids."""

    def snapshot(
        self,
        programme: str,
        name: str,
        *,
        key: str = "",
        batches: Iterable[str] = (),
        rounds: Iterable[int] = (),
        raters: Iterable[str] = (),
    ) -> SnapshotRow:
        """Write down which judgments for training hold now."""

    def export(self, programme: str, format: str, out: Path, **filters: Any) -> int:
        """Write judgments to a file as `heedful export` does, with the record beside it; gives the number of rows.

        Warns (HeldBackWarning) where items of a snapshot are left out, since they have become gold or check.
        """


def connect(
    database: str | None = None, studio: str | None = None, token: str | None = None, *, allow_insecure: bool = False
) -> FeedbackClient:
    """A client for whichever is named; without either, for the database of DATABASE_URL or the working folder.

    Args:
        database: address of a database.
        studio: address of a studio.
        token: for the studio; by default that of the environment variable HEEDFUL_TOKEN.
        allow_insecure: speak to a studio that is not on this machine without TLS.

    Raises:
        HeedfulError: both are named, or the studio without a token or TLS.
    """
    if database and studio:
        raise HeedfulError("give a database or a studio, not both.", where="studio")
    if not studio:
        from heedful.feedback.local import LocalClient

        return LocalClient(database)
    from heedful.feedback.http import HttpClient

    return HttpClient(studio, token or os.environ.get(TOKEN_VARIABLE, ""), allow_insecure=allow_insecure)


class Paging(ABC):
    """What both clients do alike: cut what goes up into pieces, put together what comes down in pages."""

    @abstractmethod
    def _make_batch(self, programme: str, spec: BatchSpec, key: str) -> BatchStatus: ...

    @abstractmethod
    def _push(self, programme: str, batch: str, items: list[NewItem], key: str) -> None: ...

    @abstractmethod
    def _record(self, programme: str, judge: Judge, judgments: list[NewJudgment]) -> list[str]: ...

    @abstractmethod
    def _items_page(self, programme: str, batch: str, after: str) -> tuple[list[ItemRow], str]: ...

    @abstractmethod
    def _judgments_page(self, programme: str, wanted: dict[str, Any], after: str) -> tuple[list[JudgmentRow], str]: ...

    @abstractmethod
    def batch(self, programme: str, batch: str) -> BatchStatus:
        """See FeedbackClient."""

    @abstractmethod
    def export(self, programme: str, format: str, out: Path, **filters: Any) -> int:
        """See FeedbackClient."""

    def push_items(
        self, programme: str, batch: BatchSpec | str, items: Iterable[NewItem], *, key: str = ""
    ) -> BatchStatus:
        """See FeedbackClient."""
        key = short(key)
        made = batch if isinstance(batch, str) else self._make_batch(programme, batch, key).id
        before = 0
        for number, some in enumerate(pieces(items)):
            try:
                self._push(programme, made, some, f"{key}/{number}")
            except HeedfulError as error:
                raise moved(error, before) from error
            before += len(some)
        return self.batch(programme, made)

    def record(self, programme: str, judge: Judge, judgments: Iterable[NewJudgment]) -> list[str]:
        """See FeedbackClient."""
        made: list[str] = []
        for some in pieces(judgments):
            try:
                made += self._record(programme, judge, some)
            except HeedfulError as error:
                raise moved(error, len(made)) from error
        return made

    def items(self, programme: str, batch: str) -> Iterator[ItemRow]:
        """See FeedbackClient."""
        after = ""
        while True:
            rows, after = self._items_page(programme, batch, after)
            yield from rows
            if not after:
                return

    def judgments(
        self,
        programme: str,
        *,
        batch: str = "",
        purpose: str = "train",
        kind: str = "",
        since: datetime | None = None,
        history: bool = False,
        surplus: bool = False,
        snapshot: str = "",
    ) -> Iterator[JudgmentRow]:
        """See FeedbackClient."""
        wanted = {
            "batch": batch, "purpose": purpose, "kind": kind, "since": since, "history": history, "surplus": surplus,
            "snapshot": snapshot,
        }  # fmt: skip
        after = ""
        while True:
            rows, after = self._judgments_page(programme, wanted, after)
            yield from rows
            if not after:
                return

    def preferences(
        self, programme: str, *, batches: Iterable[str] = (), rounds: Iterable[int] = (), snapshot: str = ""
    ) -> Iterator[Preference]:
        """See FeedbackClient."""
        with tempfile.TemporaryDirectory(prefix="heedful-preferences-") as folder:
            path = Path(folder) / "preferences.jsonl"
            self.export(programme, "heedful", path, batches=list(batches), rounds=list(rounds), snapshot=snapshot)
            with open(path, encoding="utf-8") as file:
                for line, text in enumerate(file, 1):
                    row = json.loads(text)
                    prompt = tuple(Message(one["role"], one["content"]) for one in row.pop("prompt"))
                    made = tuple(row.pop("made", {}).items())
                    yield Preference(prompt, **row, made=made, origin=Origin(programme, line))


class HeldBackWarning(UserWarning):
    """An export of a snapshot is without items that have become gold or check since the snapshot was made."""


def warn_of_held_back(count: int, items: str) -> None:
    """Warn that so many items are not in an export; nothing where none is left out."""
    if count:
        what = f"{count} items of the snapshot have become gold or check since, and are not in the export: {items}."
        warnings.warn(what, HeldBackWarning, stacklevel=3)


def short(key: str) -> str:
    """A key as short as every studio takes it; a fresh one for none."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:48] if key else uuid.uuid4().hex


def pieces(given: Iterable[Any]) -> Iterator[list[Any]]:
    """Lists of what fits into one request."""
    some: list[Any] = []
    size = 0
    for one in given:
        own = len(packed(one))
        if some and (len(some) == CHUNK or size + own > CHUNK_BYTES):
            yield some
            some, size = [], 0
        some.append(one)
        size += own
    if some:
        yield some


def moved(error: HeedfulError, before: int) -> HeedfulError:
    """The same error, its item counted from the first of all pieces."""
    found = _NUMBERED.fullmatch(error.where)
    if not found or not before:
        return error
    where = f"{found[1]} {int(found[2]) + before}, {found[3]}"
    return type(error)(error.what, where=where, mend=error.mend)
