"""An item as somebody sees it who judges: letters, texts, rubric; no policies, no order of import."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from heedful.feedback.models import Item
from heedful.studio import task

Shown = dict[str, Any]


def shown(item: Item, order: Sequence[int]) -> Shown:
    """The context of `_look.html` for an item in an order of its answers: the first is A."""
    texts = {entry.index: entry.completion.text for entry in item.entries.select_related("completion")}
    answers = [texts[index] for index in order]
    found = task.shown(item.kind, item.prompt.messages, answers, item.batch.guideline, language=item.language)
    return found | {"categories": list(item.prompt.categories)}
