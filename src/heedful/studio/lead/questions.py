"""Questions of raters, and the manager's answers."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from heedful.feedback import clock, events
from heedful.feedback.models import Item, Rater, RaterQuestion, Role
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.items import excerpt
from heedful.studio.lead.words import name_of


def ask(rater: Rater, text: str, item: Item | None = None) -> RaterQuestion:
    """Keep a question to the manager, perhaps about an item."""
    with transaction.atomic():
        made = RaterQuestion.objects.create(rater=rater, item=item, text=text)
        events.record("question.asked", programme=rater.programme_id, actor=rater, question=made, item=item)
    return made


def waiting(request: Request) -> int:
    """How many questions have no answer."""
    rows = RaterQuestion.objects.filter(rater__programme=request.programme, answered=None)
    return rows.exclude(text="").count()


class AnswerForm(forms.Form):
    """An answer; the rater reads it on their own page."""

    answer = forms.CharField(label=gettext_lazy("Answer"), max_length=5000, widget=forms.Textarea(attrs={"rows": 3}))


@requires(Role.MANAGER)
def questions(request: Request, slug: str) -> HttpResponse:
    """Questions, those without an answer first."""
    return _page(request, None, None)


def _page(request: Request, wrong: UUID | None, form: AnswerForm | None) -> HttpResponse:
    rows = RaterQuestion.objects.filter(rater__programme=request.programme).exclude(text="")
    rows = rows.select_related("rater__account", "item__prompt", "answered_by")
    open_ones = [
        {
            "question": row,
            "name": name_of(row.rater),
            "excerpt": excerpt(row.item.prompt.messages) if row.item else "",
            "form": form if row.pk == wrong else AnswerForm(prefix=str(row.pk)[-8:]),
        }
        for row in rows.filter(answered=None).order_by("created")
    ]
    page = page_of(request, rows.filter(answered__isnull=False).order_by("-answered"))
    context = {"open_ones": open_ones, "page": page, "past": [(row, name_of(row.rater)) for row in page.object_list]}
    return render(request, "studio/lead/questions.html", context, status=422 if wrong else 200)


@require_POST
@requires(Role.MANAGER)
def question_answer(request: Request, slug: str, question: UUID) -> HttpResponse:
    """Answer a question."""
    found = RaterQuestion.objects.filter(rater__programme=request.programme, pk=question).first()
    if found is None:
        raise Http404
    form = AnswerForm(request.POST, prefix=str(found.pk)[-8:])
    if not form.is_valid():
        return _page(request, found.pk, form)
    with transaction.atomic():
        found.answer, found.answered, found.answered_by = form.cleaned_data["answer"], clock.now(), request.user
        found.save(update_fields=["answer", "answered", "answered_by"])
        events.record("question.answered", programme=request.programme, actor=request.user, question=found)
    messages.success(request, _("The answer stands on the rater's page."))
    return redirect("questions", request.programme.slug)
