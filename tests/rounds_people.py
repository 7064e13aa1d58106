"""Programmes that people judge, and people who do so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from django.db import connection

from feedback_factories import rater
from heedful.feedback.models import Batch, Programme, Rater
from heedful.feedback.recording import record


def recipe_of(of: Programme, **judge: float) -> dict[str, Any]:
    """Blocks of a recipe: one round, judged in a programme of the store by shares of people and AI."""
    shares = {"ai": 0.0, "people": 1.0, **judge}
    return {
        "rounds": 1,
        "judge": {**shares, "votes": 2},
        "check": {"judge": {**shares, "votes": 1}},
        "store": {"programme": of.slug, "database": f"sqlite:///{connection.settings_dict['NAME']}"},
    }


def judge_all(of: Programme, people: Sequence[Rater] | None = None) -> Callable[[float], None]:
    """Two people who judge all that is open whenever somebody waits: they like a short answer."""
    who_judges = list(people or [rater(of), rater(of)])

    def judge(seconds: float) -> None:
        for batch in Batch.objects.filter(programme=of, state="open"):
            for item in batch.items.all():
                texts = [entry.completion.text for entry in item.entries.order_by("index")]
                strength = -3 if len(texts[0]) <= len(texts[1]) else 2
                for who in who_judges[: batch.quota]:
                    record(item, who, {"strength": strength}, key=f"{who.pk}-{item.pk}")

    return judge
