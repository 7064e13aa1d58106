"""An item before it is in the store, and what can be wrong with it."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from heedful.errors import HeedfulError
from heedful.feedback.models import Batch, TaskKind
from heedful.feedback.payloads import COMPLETIONS
from heedful.feedback.texts import LONGEST_CONTENT, clean, clean_json
from heedful.feedback.wire import NewItem

ROLES = ("system", "user", "assistant", "tool")


def problem(new: NewItem, batch: Batch, raters: Collection[str], *, from_use: bool = False) -> HeedfulError | None:
    """The first thing wrong with an item, its field as `where`; None when it is well.

    Args:
        new: the item.
        batch: that it is meant for.
        raters: ids of the programme's raters, as text.
        from_use: it comes with what an end user said of it, and no rater is asked.
    """
    try:
        asked = new.kind != TaskKind.THUMB or from_use
        _require(asked, "no rater is asked for a thumb.", "kind", "End users give them: docs/in-the-field.md.")
        _check_prompt(new)
        _check_completions(new, batch)
        _check_routing(new, batch, raters)
    except HeedfulError as error:
        return error
    return None


def _require(ok: bool, what: str, field: str, mend: str = "", **values: Any) -> None:
    if not ok:
        raise HeedfulError(what, where=field, mend=mend, **values)


def _check_prompt(new: NewItem) -> None:
    _require(isinstance(new.messages, Sequence) and len(new.messages) > 0, "there is no prompt.", "messages")
    for i, message in enumerate(new.messages):
        where = f"messages[{i}]"
        _require(isinstance(message, Mapping), "a message is an object of role and content.", where)
        _require(set(message) == {"role", "content"}, "a message has a role and a content, nothing else.", where)
        _require(
            message["role"] in ROLES,
            "{role!r} is no role.",
            f"{where}.role",
            ", ".join(ROLES) + ".",
            role=message["role"],
        )
        before = i < len(new.messages) - 1
        clean(message["content"], f"{where}.content", longest=LONGEST_CONTENT, empty=before)
    last = new.messages[-1]["role"]
    _require(
        last in ("user", "tool"), "the last message is from {last!r}.", "messages", "End it with the user's.", last=last
    )


def _check_completions(new: NewItem, batch: Batch) -> None:
    _require(
        new.kind in TaskKind.values,
        "{kind!r} is no kind of task.",
        "kind",
        ", ".join(TaskKind.values) + ".",
        kind=new.kind,
    )
    low, high = COMPLETIONS[new.kind]
    count = len(new.completions)
    wanted = str(low) if low == high else f"{low} to {high}"
    _require(
        low <= count <= high,
        "{count} completions; {kind} takes {wanted}.",
        "completions",
        count=count,
        kind=new.kind,
        wanted=wanted,
    )
    for i, answer in enumerate(new.completions):
        where = f"completions[{i}]"
        clean(answer.text, f"{where}.text", longest=LONGEST_CONTENT)
        clean(answer.policy, f"{where}.policy", longest=300)
        clean_json(dict(answer.sampling), f"{where}.sampling")
        clean_json(dict(answer.source), f"{where}.source")
        own = answer.author is None or answer.author.programme_id == batch.programme_id
        _require(own, "its author is another programme's rater.", f"{where}.author")
    rubric = new.kind != TaskKind.ATTRIBUTES or bool(batch.guideline.attributes)
    _require(rubric, "the batch's guideline has no attributes.", "kind", "Publish one that has, and make a new batch.")


def _check_routing(new: NewItem, batch: Batch, raters: Collection[str]) -> None:
    clean(new.language, "language", longest=12)
    clean(new.expertise, "expertise", longest=60)
    for name in ("language", "expertise"):
        value = getattr(new, name)
        _require(
            "|" not in value and not value.startswith("@"), "{value!r} holds | or begins with @.", name, value=value
        )
    for i, category in enumerate(new.categories):
        clean(category, f"categories[{i}]", longest=60, empty=False)
    clean_json(dict(new.source), "source")
    whole = isinstance(new.priority, int) and not isinstance(new.priority, bool) and -1000 <= new.priority <= 1000
    _require(whole, "{priority!r} is no whole number from -1000 to 1000.", "priority", priority=new.priority)
    for i, key in enumerate(new.named_raters):
        try:
            known = str(uuid.UUID(str(key))) in raters
        except ValueError:
            known = False
        _require(known, "{key!r} is no rater of the programme.", f"named_raters[{i}]", key=key)
    named = len({str(key) for key in new.named_raters})
    _require(
        not named or named >= batch.quota,
        "{named} named raters for a quota of {quota}.",
        "named_raters",
        "Name as many as judgments are wanted, or lower the quota.",
        named=named,
        quota=batch.quota,
    )
