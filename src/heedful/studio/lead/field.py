"""What came from use: how much of it is kept, thumbs up over time by model, and the items, to be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django import forms
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from heedful.feedback import field_figures
from heedful.feedback.models import CurrentJudgment, FieldKind, Item, Role
from heedful.feedback.rules import rules_of
from heedful.studio.access import requires
from heedful.studio.lead.charts import days_of, drawn
from heedful.studio.lead.charts_data import DAYS
from heedful.studio.lead.charts_svg import Chart, Pictured
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.items import excerpt
from heedful.studio.lead.words import said

MODELS = 4
"""Models whose thumbs are drawn over time: those of which most was received."""
SHOWN = 25
"""Items on a page."""


class FieldFilter(forms.Form):
    """Which of the items are shown. Read from the address."""

    model = forms.ChoiceField(label=gettext_lazy("Model"), required=False)
    kind = forms.ChoiceField(label=gettext_lazy("What users did"), required=False)

    def __init__(self, models: list[str], *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        for name, choices in (
            ("model", [(one, one) for one in models]),
            ("kind", [(value, _(str(label))) for value, label in FieldKind.choices]),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("all")), *choices]


@dataclass(frozen=True)
class Thumbs(Pictured):
    """Thumbs up of one model over time."""

    policy: str
    points: tuple[field_figures.Point, ...]

    @property
    def chart(self) -> Chart | None:  # type: ignore[override]
        """None where there is one point or none: the table says it."""
        if len(self.points) < 2:
            return None
        spans = [point.thumbs.interval for point in self.points]
        return Chart(
            "line",
            [date_format(point.begins, "m-d") for point in self.points],
            [100 * one.mean for one in spans],
            "%",
            [100 * one.low for one in spans],
            [100 * one.high for one in spans],
            top=100,
        )


@dataclass(frozen=True)
class Row:
    """One item of the list."""

    item: Item
    excerpt: str
    policy: str
    said: str


def thumbs_of(request: Request, policy: str) -> Thumbs:
    """A model's thumbs in the days that the address asks for."""
    return Thumbs(policy, tuple(field_figures.over_time(request.programme, policy, days_of(request))))


@requires(Role.MANAGER)
def field(request: Request, slug: str) -> HttpResponse:
    """The figures, the settings that decide what is kept, and the newest items."""
    days = days_of(request)
    figures = field_figures.overview(request.programme, days)
    models = [row.policy for row in figures.models]
    form = FieldFilter(models, request.GET)
    chosen = {"policy": "", "kind": ""}
    if form.is_valid():
        chosen = {"policy": form.cleaned_data["model"], "kind": form.cleaned_data["kind"]}
    page = page_of(request, field_figures.items(request.programme, **chosen), SHOWN)
    kept = request.GET.copy()
    kept.pop("page", None)
    context = {
        "figures": figures,
        "rules": rules_of(request.programme.settings),
        "thumbs": [one for one in (thumbs_of(request, policy) for policy in models[:MODELS]) if one.points],
        "days": days,
        "choices": DAYS,
        "form": form,
        "page": page,
        "rows": rows_of(list(page.object_list)),
        "kept": kept.urlencode(),
        "any": figures.total.received > 0 or page.paginator.count > 0,
        "narrowed": any(chosen.values()),
    }
    return render(request, "studio/lead/field.html", context)


def rows_of(items: list[Item]) -> list[Row]:
    """Items with what was said of them, in one query more."""
    current = CurrentJudgment.objects.filter(item__in=items).select_related("judgment__field_event")
    judgments = {row.item_id: row.judgment for row in current}
    rows = []
    for item in items:
        one = judgments.get(item.pk)
        event = getattr(one, "field_event", None)
        words = "—" if one is None else said(one.kind, one.payload)
        if event is not None and event.kind == FieldKind.REGENERATION:
            words = _("kept the new answer")
        rows.append(Row(item, excerpt(item.prompt.messages), event.policy if event else "", words))
    return rows


@requires(Role.MANAGER)
def field_chart(request: Request, slug: str) -> HttpResponse:
    """The picture of one model's thumbs over time."""
    policy = request.GET.get("policy", "")
    if not policy:
        raise Http404
    return drawn(request, lambda: thumbs_of(request, policy))
