"""Finding items: filters and a search over their texts, all of it with bound parameters."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.db import models
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext_lazy as _

from heedful.feedback.models import (
    Batch,
    CurrentJudgment,
    Item,
    ItemCompletion,
    ItemState,
    Programme,
    Prompt,
    Purpose,
    TaskKind,
)
from heedful.feedback.rules import rules_of
from heedful.feedback.verdicts import disagree


class Said(models.Func):
    """The text of a conversation's messages, out of their JSON."""

    output_field = models.TextField()

    def as_sqlite(self, compiler: Any, connection: Any, **more: Any) -> tuple[str, Any]:
        """Of SQLite, which keeps letters outside ASCII escaped."""
        template = "(SELECT group_concat(json_extract(value, '$.content'), char(10)) FROM json_each(%(expressions)s))"
        return self.as_sql(compiler, connection, template=template, **more)

    def as_postgresql(self, compiler: Any, connection: Any, **more: Any) -> tuple[str, Any]:
        """Of PostgreSQL."""
        template = (
            "(SELECT string_agg(said.value ->> 'content', chr(10)) FROM jsonb_array_elements(%(expressions)s) AS said)"
        )
        return self.as_sql(compiler, connection, template=template, **more)


class ItemFilter(forms.Form):
    """What the list of items is narrowed to. Read from the address; nothing given: everything."""

    q = forms.CharField(label=_("Text"), required=False, max_length=200)
    batch = forms.ModelChoiceField(label=_("Batch"), queryset=Batch.objects.none(), required=False)
    state = forms.ChoiceField(label=_("State"), required=False)
    kind = forms.ChoiceField(label=_("Task"), required=False)
    purpose = forms.ChoiceField(label=_("Purpose"), required=False)
    disagreement = forms.BooleanField(label=_("Raters disagree"), required=False)
    flagged = forms.BooleanField(label=_("Flagged as unsafe"), required=False)

    def __init__(self, programme: Programme, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        self.programme = programme
        batch = self.fields["batch"]
        assert isinstance(batch, forms.ModelChoiceField)
        batch.queryset = programme.batches.order_by("-created")
        batch.label_from_instance = lambda one: one.name  # type: ignore[attr-defined]
        batch.empty_label = _("all")
        for name, choices in (("state", ItemState), ("kind", TaskKind), ("purpose", Purpose)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("all")), *((value, _(label)) for value, label in choices.choices)]

    def clean_q(self) -> str:
        """The text, without the NUL characters that no database takes."""
        return str(self.cleaned_data["q"]).replace("\0", "").strip()

    def items(self) -> QuerySet[Item]:
        """The items that it lets through, newest batch first, in the order of their import."""
        rows = self.programme.items.select_related("batch", "prompt").order_by("-batch__created", "position", "pk")
        if not self.is_valid():
            return rows.none()
        given = self.cleaned_data
        for name in ("batch", "state", "kind", "purpose"):
            if given[name]:
                rows = rows.filter(**{name: given[name]})
        if given["q"]:
            rows = rows.filter(_holds(given["q"]))
        if given["flagged"]:
            flags = CurrentJudgment.objects.filter(item=OuterRef("pk"), judgment__safety_flag=True)
            rows = rows.filter(Exists(flags))
        if given["disagreement"]:
            rows = rows.filter(_disputed(self.programme, rows))
        return rows

    @property
    def narrowed(self) -> bool:
        """Whether anything is asked for."""
        return self.is_valid() and any(self.cleaned_data.values())


def _holds(text: str) -> Q:
    prompts = Prompt.objects.alias(said=Said("messages")).filter(pk=OuterRef("prompt"), said__icontains=text)
    answers = ItemCompletion.objects.filter(item=OuterRef("pk"), completion__text__icontains=text)
    found = Q(Exists(prompts)) | Q(Exists(answers))
    try:
        return found | Q(pk=UUID(text))
    except ValueError:
        return found


def _disputed(programme: Programme, rows: QuerySet[Item]) -> Q:
    """Those whose raters disagree now, or did when a further slot was opened."""
    held = CurrentJudgment.objects.filter(item=OuterRef("pk"))
    sides = Exists(held.filter(judgment__payload__strength__gt=0)) & Exists(
        held.filter(judgment__payload__strength__lt=0)
    )
    threshold = rules_of(programme.settings).disagreement
    kinds = (TaskKind.RANKING, TaskKind.ATTRIBUTES)
    judged: dict[tuple[UUID, str], list[dict[str, Any]]] = {}
    current = CurrentJudgment.objects.filter(item__in=rows.filter(kind__in=kinds).order_by().values("pk"))
    for pk, kind, payload in current.values_list("item", "judgment__kind", "judgment__payload"):
        judged.setdefault((pk, kind), []).append(payload)
    apart = [pk for (pk, kind), payloads in judged.items() if disagree(kind, payloads, threshold)]
    return Q(extra_slots__gt=0) | Q(kind=TaskKind.PAIRWISE) & Q(sides) | Q(pk__in=apart)
