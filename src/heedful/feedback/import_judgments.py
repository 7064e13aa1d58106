"""Verdicts of an imported file as judgments of a rater who is named for it: never by themselves, never unseen."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Model

from heedful.errors import HeedfulError
from heedful.feedback import events
from heedful.feedback.import_verdicts import Verdict
from heedful.feedback.models import Batch, CurrentJudgment, Item, Judgment, Programme, Purpose, Rater, RaterKind
from heedful.feedback.payloads import parse, stored
from heedful.feedback.texts import clean

KINDS = (RaterKind.PERSON, RaterKind.AI, RaterKind.END_USER)
PURPOSES = (Purpose.TRAIN, Purpose.CHECK)
CHUNK = 500
"""Judgments that one event tells of."""


@dataclass(frozen=True)
class Author:
    """Whose judgments the verdicts of a file become."""

    name: str
    """Of the rater. Where a file tells people apart, each is a rater of this name and the file's own id of them."""
    kind: str
    """person, ai or end_user."""

    def __post_init__(self) -> None:
        clean(self.name, "judgments_as", longest=80, empty=False)
        if self.kind not in KINDS:
            raise HeedfulError(
                "say who gave the verdicts: {known}.",
                where="judgments_by",
                mend="They are exported, or left out, by that.",
                known=", ".join(map(str, KINDS)),
            )


class Imported:
    """The rows that verdicts become, beside a batch's items and in the same transaction.

    A judgment counts like any other in an export, and fills no place of its item: people are asked as often as the
    batch says. It has no assignment, no time and no order, for none of these is known.

    Args:
        programme: whose raters they are.
        author: whom they are said to be of.
        verdicts: of each item, in the items' order.
        purpose: of the batch.
        sha256: of the file.

    Raises:
        HeedfulError: the batch is for gold, a test or calibration.
    """

    def __init__(
        self,
        programme: Programme,
        author: Author,
        verdicts: Sequence[Sequence[Verdict]],
        *,
        purpose: str,
        sha256: str,
    ) -> None:
        if purpose not in PURPOSES:
            raise HeedfulError(
                "verdicts of a file are votes of a batch to train or to check.",
                where="judgments_as",
                mend="Leave it away, or choose another purpose.",
            )
        self.author, self.verdicts, self.sha256 = author, verdicts, sha256
        known = Rater.objects.filter(programme=programme, account=None, kind=author.kind, erased=None)
        self.raters = {rater.name: rater for rater in known}
        self.new: dict[str, Rater] = {}
        self.judgments: list[Judgment] = []
        self._programme = programme

    def rows(self, items: Sequence[Item]) -> list[Sequence[Model]]:
        """New raters, judgments, and which of them hold: all of them, for items that are not written yet."""
        current = []
        for item, verdicts in zip(items, self.verdicts, strict=True):
            for verdict in verdicts:
                self.judgments.append(self._judgment(item, verdict))
                current.append(_current(self.judgments[-1]))
        return [list(self.new.values()), self.judgments, current]

    def _judgment(self, item: Item, verdict: Verdict) -> Judgment:
        payload = stored(parse(item.kind, verdict.payload(item.kind), completions=len(verdict.ranks)))
        rater = self._rater(f"{self.author.name} {verdict.by}".strip())
        return Judgment(
            programme=self._programme,
            batch=item.batch,
            item=item,
            rater=rater,
            kind=item.kind,
            purpose=item.purpose,
            guideline=item.batch.guideline,
            payload=payload,
            idempotency_key=f"import/{item.pk}",
            request_sha256=events.digest_of(["import", str(item.pk), payload]),
        )

    def _rater(self, name: str) -> Rater:
        if name not in self.raters:
            made = Rater(programme=self._programme, kind=self.author.kind, name=name)
            self.raters[name] = self.new[name] = made
        return self.raters[name]

    def tell(self, batch: Batch, actor: object) -> None:
        """Write down, in the transaction, which judgments came with which file."""
        by_rater: dict[uuid.UUID, list[Judgment]] = {}
        for judgment in self.judgments:
            by_rater.setdefault(judgment.rater_id, []).append(judgment)
        for rater, own in by_rater.items():
            for start in range(0, len(own), CHUNK):
                events.record(
                    "judgments.imported",
                    programme=batch.programme_id,
                    actor=actor,
                    digest=self.sha256,
                    batch=batch,
                    rater=rater,
                    judgments=[judgment.pk for judgment in own[start : start + CHUNK]],
                )


def _current(judgment: Judgment) -> CurrentJudgment:
    return CurrentJudgment(
        judgment=judgment,
        item=judgment.item,
        rater=judgment.rater,
        purpose=judgment.purpose,
        guideline=judgment.guideline,
    )
