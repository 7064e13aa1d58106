"""What every way of keeping a judgment shares: what came, checked; the retry that is known; the rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from django.db import IntegrityError

from heedful.errors import HeedfulError
from heedful.feedback import events, statements
from heedful.feedback.conflict import Conflict
from heedful.feedback.leases import hold_item, milliseconds
from heedful.feedback.models import (
    Completion,
    CurrentJudgment,
    Demonstration,
    Edit,
    Guideline,
    Item,
    ItemCompletion,
    Judgment,
    Rationale,
    Slot,
    SlotState,
    TaskKind,
)
from heedful.feedback.payloads import from_shown, parse, stored
from heedful.feedback.rules import Rules
from heedful.feedback.texts import clean, clean_json

WRITTEN = (TaskKind.DEMONSTRATION, TaskKind.EDIT)
LONGEST_RATIONALE = 20_000


class Said:
    """What came with a submission, checked; its digest tells a retry from something else under the same key."""

    def __init__(
        self,
        payload: Mapping[str, Any],
        key: str,
        rationale: str,
        safety_flag: bool,
        active_ms: int,
        text: str | None,
    ) -> None:
        if not isinstance(payload, Mapping):
            raise HeedfulError("a payload is a JSON object.", where="payload")
        if not isinstance(safety_flag, bool):
            raise HeedfulError(
                "{safety_flag!r} is neither true nor false.", where="safety_flag", safety_flag=safety_flag
            )
        self.payload: dict[str, Any] = clean_json(dict(payload), "payload")
        self.key = clean(key, "key", longest=80, empty=False)
        self.rationale = clean(rationale, "rationale", longest=LONGEST_RATIONALE)
        self.safety_flag = safety_flag
        self.active_ms = milliseconds(active_ms)
        self.text = None if text is None else clean(text, "text", empty=False)

    def digest(self, act: str, subject: Any, *more: Any) -> str:
        """Of all but the time, which a retry may count anew."""
        said = [self.payload, self.rationale, self.safety_flag, self.text]
        return events.digest_of([act, str(subject), *more, *said])

    def check(self, rules: Rules) -> None:
        if rules.require_rationale and not self.rationale.strip():
            raise HeedfulError("say why.", where="rationale", mend="This programme asks for a reason each time.")


EARLIER = "SELECT {j} FROM feedback_judgment j WHERE j.rater_id = %s AND j.idempotency_key = %s"


def earlier(rater: Any, key: str, digest: str) -> Judgment | None:
    """The judgment that came under this key before.

    Raises:
        Conflict: it said something else.
    """
    found = next((one for (one,) in statements.rows(EARLIER, [rater, key], j=Judgment)), None)
    if found is not None and found.request_sha256 != digest:
        raise Conflict("this key was used for another submission.", where="key", mend="Reload the page.")
    return found


def payload_of(
    item: Item, guideline: Any, said: Said, order: Sequence[int] | None, rater: Any
) -> tuple[dict[str, Any], Completion | None]:
    """What is kept of a payload, and the completion that was written; `order` is None for the item's own order."""
    if item.kind in WRITTEN:
        if said.payload:
            raise HeedfulError("a {kind} is a text, no payload.", where="payload", kind=item.kind)
        if said.text is None:
            raise HeedfulError("the text is missing.", where="text")
        entry = ItemCompletion.objects.filter(item=item).select_related("completion").order_by("index").first()
        if item.kind == TaskKind.EDIT and entry is not None and entry.completion.text == said.text:
            raise HeedfulError("nothing is changed.", where="text", mend="Correct the answer, or pass the item.")
        made = Completion.objects.create(prompt_id=item.prompt_id, text=said.text, author_id=rater)
        sha256 = hashlib.sha256(said.text.encode()).hexdigest()
        written = {"completion": str(made.pk), "sha256": sha256}
        return stored(parse(item.kind, written, completions=1)), made
    if said.text is not None:
        raise HeedfulError("a {kind} judgment takes no text.", where="text", kind=item.kind)
    count = len(order) if order is not None else ItemCompletion.objects.filter(item=item).count()
    points = []
    if item.kind == TaskKind.ATTRIBUTES:
        points = Guideline.objects.values_list("attributes", flat=True).get(pk=guideline)
    own = said.payload if order is None else from_shown(item.kind, said.payload, order)
    return stored(parse(item.kind, own, completions=count, attributes=points)), None


def keep(
    judgment: Judgment,
    item: Item,
    rater: Any,
    guideline: Any,
    slot: Slot | None,
    said: Said,
    completion: Completion | None,
) -> None:
    """Write a judgment and all that goes with it. The item's row is held; a conflict ends the transaction.

    Raises:
        Conflict: the rater's judgment of this item holds already.
    """
    judgment.programme_id, judgment.batch_id = item.programme_id, slot.batch_id if slot else item.batch_id
    judgment.item, judgment.rater_id, judgment.kind, judgment.guideline_id = item, rater, item.kind, guideline
    judgment.safety_flag, judgment.idempotency_key = said.safety_flag, said.key
    current = CurrentJudgment(
        judgment=judgment,
        slot=slot,
        item=item,
        rater_id=rater,
        purpose=judgment.purpose,
        pass_number=judgment.pass_number,
        guideline_id=guideline,
        judge_template=judgment.judge_template,
        judge_order=judgment.judge_order,
    )
    try:
        statements.insert(judgment)
        statements.insert(current)
    except IntegrityError as error:
        raise Conflict(
            "this rater's judgment of the item is there already.", where="item", mend="Correct that one."
        ) from error
    if slot is not None:
        slot.state, slot.holder, slot.lease_until = SlotState.DONE, judgment.assignment_id, None
        slot.save(update_fields=["state", "holder", "lease_until"])
    if said.rationale:
        statements.insert(Rationale(judgment=judgment, text=said.rationale))
    if completion is not None and item.kind == TaskKind.DEMONSTRATION:
        Demonstration.objects.create(judgment=judgment, completion=completion)
    elif completion is not None:
        original = ItemCompletion.objects.filter(item=item).order_by("index")[0].completion_id
        Edit.objects.create(judgment=judgment, original_id=original, completion=completion)


def tell_of(kind: str, judgment: Judgment, slot: Slot | None, **ids: Any) -> None:
    events.record(
        kind,
        programme=judgment.programme_id,
        actor=judgment.rater_id,
        digest=events.digest_of(judgment.payload),
        judgment=judgment,
        item=judgment.item_id,
        rater=judgment.rater_id,
        slot=slot,
        **ids,
    )


def holding(judgment: Judgment) -> tuple[Item, CurrentJudgment]:
    """A judgment's item, its row held, and the row that says that it holds.

    Raises:
        Conflict: another has taken its place, or it was undone.
    """
    item = hold_item(judgment.item_id)
    found = CurrentJudgment.objects.filter(judgment=judgment).first()
    if found is None:
        raise Conflict("this judgment holds no longer.", where="judgment", mend="Reload the page.")
    return item, found
