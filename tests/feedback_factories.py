"""Small programmes to test with, made through the ORM."""

from __future__ import annotations

import itertools
import secrets
from typing import Any

from heedful.data.records import Message, prompt_key
from heedful.feedback.models import (
    Account,
    Batch,
    BatchState,
    Completion,
    Guideline,
    Item,
    ItemCompletion,
    Membership,
    Programme,
    Prompt,
    Purpose,
    Rater,
    RaterKind,
    Role,
    Slot,
    TaskKind,
)

_numbers = itertools.count(1)
ATTRIBUTES = [
    {"name": "helpful", "title": "Helpful", "question": "Does it help?", "low": "no", "high": "very", "points": 5},
    {"name": "honest", "title": "Honest", "question": "Is it true?", "low": "no", "high": "very", "points": 5},
]


def account(name: str = "", **over: Any) -> Account:
    """An account with a password nobody knows; `force_login` it."""
    made = Account(username=name or f"person-{next(_numbers)}", **over)
    made.set_password(secrets.token_hex(8))
    made.save()
    return made


def programme(name: str = "", *, admin: Account | None = None, **settings: Any) -> Programme:
    """A programme with a guideline and an admin."""
    number = next(_numbers)
    made = Programme.objects.create(name=name or f"Programme {number}", slug=f"programme-{number}", settings=settings)
    Guideline.objects.create(programme=made, version=1, markdown="# Prefer what helps", attributes=ATTRIBUTES)
    Membership.objects.create(programme=made, account=admin or account(), role=Role.ADMIN)
    return made


def rater(of: Programme, *, kind: str = RaterKind.PERSON, **over: Any) -> Rater:
    """A rater; a person gets an account with the role."""
    if kind != RaterKind.PERSON:
        return Rater.objects.create(programme=of, kind=kind, name=over.pop("name", f"rater-{next(_numbers)}"), **over)
    own = over.pop("account", None) or account()
    Membership.objects.get_or_create(programme=of, account=own, role=Role.RATER)
    return Rater.objects.create(programme=of, account=own, kind=kind, **over)


def batch(of: Programme, *, purpose: str = Purpose.TRAIN, quota: int = 1, **over: Any) -> Batch:
    """An open batch without items."""
    given = {"state": BatchState.OPEN, "quota_cap": quota, "name": f"batch {next(_numbers)}", **over}
    guideline = given.pop("guideline", None) or of.guidelines.order_by("-version")[0]
    return Batch.objects.create(programme=of, purpose=purpose, quota=quota, guideline=guideline, **given)


def item(of: Batch, *, completions: int = 2, kind: str = TaskKind.PAIRWISE, **over: Any) -> Item:
    """An item with its free slots."""
    number = next(_numbers)
    text = over.pop("text", f"What is {number}?")
    messages = over.pop("messages", [{"role": "user", "content": text}])
    key = prompt_key(tuple(Message(m["role"], m["content"]) for m in messages))
    asked = Prompt.objects.create(programme=of.programme, messages=messages, key=key)
    answers = over.pop("answers", None) or [f"Answer {number}.{i}" for i in range(completions)]
    policies = over.pop("policies", None) or [f"policy-{i}" for i in range(len(answers))]
    made = Item.objects.create(
        programme=of.programme, batch=of, prompt=asked, kind=kind, purpose=of.purpose, position=number, **over
    )
    for index, (answer, policy) in enumerate(zip(answers, policies, strict=True)):
        completion = Completion.objects.create(prompt=asked, text=answer, policy=policy)
        ItemCompletion.objects.create(item=made, completion=completion, index=index)
    route = f"{made.language}|{made.expertise}" if made.language or made.expertise else ""
    for _ in range(of.quota):
        Slot.objects.create(
            item=made,
            batch=of,
            purpose=of.purpose,
            guideline=of.guideline,
            route=route,
            priority=made.priority,
            position=next(_numbers),
        )
    return made


def open_batch(of: Programme, items: int = 3, *, quota: int = 1, kind: str = TaskKind.PAIRWISE, **over: Any) -> Batch:
    """An open batch with items."""
    made = batch(of, quota=quota, **over)
    for _ in range(items):
        item(made, kind=kind)
    return made
