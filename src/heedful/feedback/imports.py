"""A file into the store: looked at first (`plan`), then staged as a batch, which is opened once it is right."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from django.db.models import Q

from heedful.errors import HeedfulError, Sentence
from heedful.feedback import content
from heedful.feedback import import_plan as dry
from heedful.feedback.import_judgments import Author, Imported
from heedful.feedback.import_plan import RAW, Plan, placed
from heedful.feedback.import_rows import Draft
from heedful.feedback.import_source import MAX_BYTES, Source
from heedful.feedback.import_verdicts import look
from heedful.feedback.models import Batch, Guideline, Programme, Rater
from heedful.feedback.raw_import import hindrance, restore

__all__ = ["RAW", "Author", "Plan", "Source", "earlier", "look", "plan", "restore", "stage"]


def plan(
    source: Source | Path | str,
    mapping: Mapping[str, str] | None = None,
    task: str | None = None,
    *,
    programme: Programme | None = None,
    limit: int = MAX_BYTES,
    most: int | None = None,
) -> Plan:
    """The dry run: see `heedful.feedback.import_plan.plan`. Nothing is written.

    Args:
        source: a file, or a `Source` of bytes with a name.
        mapping: targets and columns that win over the proposal.
        task: a task kind.
        programme: for which it is; named raters are looked up in it, and an earlier import of the file is noted.
        limit: bytes, unpacked.
        most: rows that are read.

    Raises:
        HeedfulError: the file is not there or of no known kind, or the mapping or task is none.
    """
    if programme is None:
        return _restorable(dry.plan(source, mapping, task, limit=limit, most=most))
    known = _raters(programme)
    made = dry.plan(source, mapping, task, limit=limit, most=most, known_rater=lambda name: known(name) is not None)
    if made.format == RAW:
        return _restorable(made)
    before = earlier(programme, made)
    if before is None:
        return made
    return replace(
        made, notes=(*made.notes, Sentence("This very file is here already, as the batch {name!r}.", name=before.name))
    )


def _restorable(made: Plan) -> Plan:
    """The plan of a raw export with the one problem that lies in the store, not in the file."""
    found = hindrance(made) if made.format == RAW else None
    if found is None:
        return made
    kinds = {**made.problem_kinds, f"{found.field}: {found.what}": 1}
    return replace(made, problems=(found, *made.problems), problem_count=made.problem_count + 1, problem_kinds=kinds)


def earlier(programme: Programme, made: Plan) -> Batch | None:
    """The batch that the same file became before."""
    return Batch.objects.filter(programme=programme, source_sha256=made.sha256).order_by("pk").first()


def _raters(programme: Programme) -> Callable[[str], str | None]:
    """Ids of a programme's raters by id, by the account's user name, or by an agent's own name."""
    found: dict[str, str] = {}
    rows = Rater.objects.filter(Q(account=None) | Q(account__erased=None), programme=programme, erased=None)
    for key, username, name in rows.values_list("pk", "account__username", "name"):
        found |= dict.fromkeys((one for one in (str(key), username, name) if one), str(key))
    return found.get


def stage(
    programme: Programme,
    made: Plan,
    *,
    name: str,
    task: str | None = None,
    purpose: str = "train",
    round: int = 1,
    quota: int = 1,
    quota_cap: int | None = None,
    guideline: Guideline | None = None,
    priority: int = 0,
    deadline: datetime | None = None,
    again: bool = False,
    judgments: Author | None = None,
    actor: Any = None,
) -> Batch:
    """Write a plan's items as a staged batch, all of them or none. `heedful.feedback.content.open_batch` opens it.

    Args:
        programme: for which it is.
        made: a plan without problems.
        name: of the batch.
        task: where it is another than the plan's, the file is looked at again.
        purpose, round, quota, quota_cap, guideline, priority, deadline: as `content.create_batch` takes them.
        again: take the same file a second time.
        judgments: of whom the file's verdicts become judgments; by default they are kept aside.
        actor: who asks, for the audit log.

    Raises:
        HeedfulError: the plan has problems, the file has changed or is here already, an item or a verdict does not
            fit, with its line and field, or the file has no verdicts.
    """
    if made.format == RAW:
        raise HeedfulError(
            "a raw export is a whole programme.", where=made.source.where, mend="Restore it where its programme is not."
        )
    if task is not None and task != made.task:
        made = dry.plan(made.source, made.mapping, task, limit=made.limit)
    made.require_clean()
    before = earlier(programme, made)
    if before is not None and not again:
        raise HeedfulError(
            "this very file is here already, as the batch {name!r}.",
            where=made.source.where,
            mend="Import it again only if its items are to be judged twice: again.",
            name=before.name,
        )
    beside = None
    if judgments is not None:
        made, verdicts = look(made)
        made.require_clean()
        beside = Imported(programme, judgments, verdicts, purpose=purpose, sha256=made.sha256)
    drafts = list(dry.drafts(made))
    known = _raters(programme)
    try:
        return content.create_batch(
            programme,
            name,
            purpose=purpose,
            round=round,
            quota=quota,
            quota_cap=quota_cap,
            guideline=guideline,
            priority=priority,
            deadline=deadline,
            source_sha256=made.sha256,
            items=(_item(made, draft, known) for draft in drafts),
            beside=beside,
            actor=actor,
        )
    except HeedfulError as error:
        raise placed(error, made, [draft.line for draft in drafts]) from error


def _item(made: Plan, draft: Draft, known: Callable[[str], str | None]) -> content.NewItem:
    origin: dict[str, Any] = {"file": made.source.name, "line": draft.line}
    answers = [content.NewCompletion(one.text, one.policy, source=one.source) for one in draft.answers]
    return content.NewItem(
        messages=draft.messages,
        completions=answers,
        kind=made.task,
        language=draft.language,
        expertise=draft.expertise,
        categories=list(draft.categories),
        named_raters=[known(name) or name for name in draft.raters],
        priority=draft.priority,
        source=origin | ({"columns": draft.source} if draft.source else {}),
    )
