"""The list of items, found by filters and text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import render

from heedful.feedback.models import CurrentJudgment, Item, Role
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.items_query import ItemFilter

EXCERPT = 160


@dataclass(frozen=True)
class Row:
    """One line of the list."""

    item: Item
    excerpt: str
    judged: int
    flags: int


@requires(Role.MANAGER)
def items(request: Request, slug: str) -> HttpResponse:
    """Items, filtered. Reading changes nothing; the address holds the filter, so it can be kept."""
    form = ItemFilter(request.programme, request.GET)
    page = page_of(request, form.items())
    kept = request.GET.copy()
    kept.pop("page", None)
    context = {
        "form": form,
        "page": page,
        "rows": rows_of(page.object_list),
        "kept": kept.urlencode(),
        "any": form.narrowed or page.paginator.count > 0,
    }
    return render(request, "studio/lead/items.html", context)


def rows_of(found: Iterable[Item]) -> list[Row]:
    """Items with their counts of judgments, in two queries."""
    listed = list(found)
    counts: dict[UUID, dict[str, Any]] = {
        row["item"]: row
        for row in CurrentJudgment.objects.filter(item__in=listed)
        .values("item")
        .annotate(judged=Count("pk"), flags=Count("pk", filter=Q(judgment__safety_flag=True)))
    }
    none = {"judged": 0, "flags": 0}
    return [
        Row(item, excerpt(item.prompt.messages), *(counts.get(item.pk, none)[k] for k in ("judged", "flags")))
        for item in listed
    ]


def excerpt(messages: list[dict[str, str]]) -> str:
    """The beginning of a prompt's last message, on one line."""
    text = " ".join(messages[-1]["content"].split()) if messages else ""
    return text if len(text) <= EXCERPT else text[: EXCERPT - 1] + "…"
