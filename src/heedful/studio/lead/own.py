"""A rater's own pages: what they judged and earned, what was said of it, what they choose."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.db.models import Sum
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import clock, erasure, gold, people, programmes, qualification, submission
from heedful.feedback.models import (
    Account,
    Assignment,
    Batch,
    GroupAnswer,
    Item,
    Judgment,
    Purpose,
    Qualification,
    Rater,
    Role,
    TaskKind,
)
from heedful.feedback.payloads import to_shown
from heedful.feedback.rules import rules_of
from heedful.studio.access import requires
from heedful.studio.asked import moment_of
from heedful.studio.consent import ConsentForm, keep_consent
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.items import excerpt
from heedful.studio.lead.judge_form import JudgeForm, ReasonForm
from heedful.studio.lead.shown import shown
from heedful.studio.lead.words import said
from heedful.studio.middleware import LANGUAGE
from heedful.studio.said import tell
from heedful.studio.security import limited

MINE = (Role.RATER, Role.ADJUDICATOR)
PAST = 30
CORRECTABLE = (TaskKind.PAIRWISE, TaskKind.RANKING, TaskKind.ATTRIBUTES, TaskKind.DEMONSTRATION, TaskKind.EDIT)


def me(request: Request) -> Rater:
    """The reader's rater record; 404 for a lead who has not judged here."""
    if request.rater is None:
        raise Http404
    return request.rater


@requires(*MINE)
def mine(request: Request, slug: str) -> HttpResponse:
    """Hours, pay by month, and what they judged, the newest first."""
    if request.rater is None:
        return render(request, "studio/lead/me_none.html")
    rater = me(request)
    before = moment_of(request.GET.get("before", ""))
    past = people.history(rater, PAST + 1, before)
    prompts = {item.pk: excerpt(item.prompt.messages) for item in _items(past)}
    rows = [(one, prompts[one.item], said(one.kind, one.shown), one.kind in CORRECTABLE) for one in past[:PAST]]
    context = {
        "rows": rows,
        "older": past[PAST - 1].given.isoformat() if len(past) > PAST else "",
        "newest": before is None,
        "months": people.pay_by_month(rater),
        "today": _hours(rater, timedelta(days=1)),
        "week": _hours(rater, timedelta(days=7)),
        "rate": people.pay_rate(rater),
        "rater": rater,
    }
    return render(request, "studio/lead/me.html", context)


def _items(past: list[people.Past]) -> Any:
    return Item.objects.filter(pk__in={one.item for one in past}).select_related("prompt")


def _hours(rater: Rater, length: timedelta) -> int:
    """Active milliseconds lately: today (UTC), or in so many days."""
    now = clock.now().astimezone(UTC)
    start = datetime(now.year, now.month, now.day, tzinfo=UTC) if length <= timedelta(days=1) else now - length
    rows = Assignment.objects.filter(rater=rater, shown__gte=start)
    return int(rows.aggregate(total=Sum("active_ms"))["total"] or 0)


def find(request: Request, key: UUID) -> Judgment:
    """A judgment of the reader's own; 404 for others'."""
    rows = Judgment.objects.filter(rater=me(request), retracts=False, assignment__isnull=False)
    return own(
        rows.select_related("item__prompt", "item__batch__guideline", "guideline", "rater"), request.programme, key
    )


@require_POST
@requires(*MINE)
def undo(request: Request, slug: str, judgment: UUID) -> HttpResponse:
    """Take a judgment back: its item lies before the rater again."""
    found = find(request, judgment)
    try:
        submission.undo(found, key=f"undo-{found.pk}")
    except HeedfulError as error:
        messages.error(request, tell(error))
        return redirect("me", request.programme.slug)
    messages.success(request, _("Your judgment is taken back. Here is the item again."))
    return redirect("rate", request.programme.slug)


class TextForm(forms.Form):
    """A text that was written or corrected."""

    text = forms.CharField(
        label=gettext_lazy("Your text"), strip=False, max_length=200_000, widget=forms.Textarea(attrs={"rows": 12})
    )


@require_http_methods(["GET", "HEAD", "POST"])
@requires(*MINE)
def correct(request: Request, slug: str, judgment: UUID) -> HttpResponse:
    """Say something else than before; the old row stays, superseded."""
    found = find(request, judgment)
    if found.kind not in CORRECTABLE:
        raise Http404
    if not hasattr(found, "current"):
        messages.error(request, _("This judgment was corrected or taken back since."))
        return redirect("me", request.programme.slug)
    form, reason = _forms(request, found)
    if request.method == "POST" and form.is_valid() and reason.is_valid():
        written = found.kind in (TaskKind.DEMONSTRATION, TaskKind.EDIT)
        payload = {} if written else form.payload()  # type: ignore[union-attr]
        text = form.cleaned_data["text"] if written else None
        try:
            submission.correct(found, payload, key=f"correct-{found.pk}", text=text, **reason.cleaned_data)
            messages.success(request, _("Your judgment is corrected."))
            return redirect("me", request.programme.slug)
        except HeedfulError as error:
            blame(reason, error)
    order = found.order or list(range(found.item.entries.count()))
    context = {"look": shown(found.item, order), "form": form, "reason": reason, "judgment": found}
    status = 422 if form.errors or reason.errors else 200
    return render(request, "studio/lead/me_correct.html", context, status=status)


def _forms(request: Request, found: Judgment) -> tuple[JudgeForm | TextForm, ReasonForm]:
    note = found.rationale.text if hasattr(found, "rationale") else ""
    data = request.POST or None
    reason = ReasonForm(data, initial={"rationale": note, "safety_flag": found.safety_flag})
    if found.kind in (TaskKind.DEMONSTRATION, TaskKind.EDIT):
        work = found.demonstration if found.kind == TaskKind.DEMONSTRATION else found.edit
        return TextForm(data, initial={"text": work.completion.text}), reason
    order = found.order or list(range(found.item.entries.count()))
    attributes = found.guideline.attributes
    before = JudgeForm.start(found.kind, to_shown(found.kind, found.payload, order), attributes)
    return JudgeForm(found.kind, len(order), attributes, data, initial=before), reason


class ContestForm(forms.Form):
    """Why the key is wrong, or the answer as good."""

    text = forms.CharField(
        label=gettext_lazy("Why your answer is right"), max_length=5000, widget=forms.Textarea(attrs={"rows": 3})
    )


class QuestionForm(forms.Form):
    """A question to whoever runs the programme."""

    text = forms.CharField(
        label=gettext_lazy("Your question"), max_length=5000, widget=forms.Textarea(attrs={"rows": 3})
    )


@requires(*MINE)
def feedback(request: Request, slug: str) -> HttpResponse:
    """Gold that may be shown, tests, calibration sessions, questions and answers."""
    return _feedback(request) if request.rater else render(request, "studio/lead/me_none.html")


def _feedback(request: Request, **sent: Any) -> HttpResponse:
    rater = me(request)
    outcomes = [
        {
            "outcome": outcome,
            "told": gold.explain(outcome),
            "excerpt": excerpt(outcome.gold_key.item.prompt.messages),
            "said": said(
                outcome.judgment.kind,
                to_shown(outcome.judgment.kind, outcome.judgment.payload, outcome.judgment.order),
            ),
        }
        for outcome in gold.visible_outcomes(rater)[:PAST]
    ]
    sessions = Batch.objects.filter(
        programme=request.programme,
        purpose=Purpose.CALIBRATION,
        opened_for_discussion__isnull=False,
        judgments__rater=rater,
    ).distinct()
    context = {
        "rater": rater,
        "outcomes": outcomes,
        "tests": qualification.standing(rater),
        "sessions": sessions.order_by("-opened_for_discussion"),
        "questions": rater.questions.select_related("item__prompt").order_by("-created")[:PAST],
        "contest": ContestForm(),
        "contest_for": None,
        "question": QuestionForm(),
        **sent,
    }
    wrong = any(getattr(form, "errors", None) for form in sent.values())
    return render(request, "studio/lead/me_feedback.html", context, status=422 if wrong else 200)


@limited("ask", 20, 300)
@require_POST
@requires(*MINE)
def contest(request: Request, slug: str, outcome: UUID) -> HttpResponse:
    """Say that a gold answer is wrong."""
    found = gold.visible_outcomes(me(request)).filter(pk=outcome).first()
    if found is None:
        raise Http404
    form = ContestForm(request.POST)
    if form.is_valid():
        try:
            gold.contest(found, form.cleaned_data["text"])
            messages.success(request, _("The manager will look at it and answer here."))
            return redirect("me_feedback", request.programme.slug)
        except HeedfulError as error:
            blame(form, error)
    return _feedback(request, contest=form, contest_for=found.pk)


@limited("ask", 20, 300)
@require_POST
@requires(*MINE)
def ask(request: Request, slug: str) -> HttpResponse:
    """Send a question to the manager."""
    form = QuestionForm(request.POST)
    if not form.is_valid():
        return _feedback(request, question=form)
    from heedful.studio.lead.questions import ask as keep

    keep(me(request), form.cleaned_data["text"])
    messages.success(request, _("Your question is sent. The answer will stand here."))
    return redirect("me_feedback", request.programme.slug)


@require_POST
@requires(*MINE)
def attempt(request: Request, slug: str, test: UUID) -> HttpResponse:
    """Begin a test: its items come next."""
    found = own(Qualification.objects.select_related("batch"), request.programme, test)
    try:
        qualification.start_attempt(found, me(request))
    except HeedfulError as error:
        messages.error(request, tell(error))
        return redirect("me_feedback", request.programme.slug)
    return redirect("rate", request.programme.slug)


class PreferencesForm(forms.Form):
    """How the studio is shown to somebody."""

    display_name = forms.CharField(label=gettext_lazy("Name that the lead sees"), max_length=120, required=False)
    language = forms.ChoiceField(label=gettext_lazy("Language of the pages"))
    shortcuts = forms.BooleanField(
        label=gettext_lazy("Keyboard shortcuts"),
        required=False,
        help_text=gettext_lazy("Single keys judge. Turn them off if a screen reader or an input method needs them."),
    )

    def __init__(self, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        field = self.fields["language"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = settings.LANGUAGES


def _choices(request: Request, data: Any = None) -> ConsentForm:
    """Groups and kinds of content; agreeing has a page of its own."""
    rater = me(request)
    known = {answer.question: answer.answer for answer in GroupAnswer.objects.filter(rater=rater)}
    form = ConsentForm(data, rater=rater, rules=rules_of(request.programme.settings), known=known)
    form.fields.pop("agree", None)
    return form


def _preferences(request: Request, **sent: Any) -> HttpResponse:
    names = ("display_name", "language", "shortcuts")
    context = {
        "rater": me(request),
        "choices": _choices(request),
        "preferences": PreferencesForm(initial={name: getattr(request.user, name) for name in names}),
        "asks_consent": bool(rules_of(request.programme.settings).consent_text),
        "agreed": programmes.has_consented(me(request)),
        **sent,
    }
    wrong = any(getattr(form, "errors", None) for form in sent.values())
    return render(request, "studio/lead/me_settings.html", context, status=422 if wrong else 200)


@requires(*MINE)
def preferences(request: Request, slug: str) -> HttpResponse:
    """Groups, opting out, consent, language, shortcuts, password."""
    return _preferences(request) if request.rater else render(request, "studio/lead/me_none.html")


@require_POST
@requires(*MINE)
def choose(request: Request, slug: str) -> HttpResponse:
    """Keep groups and kinds of content that are not wanted."""
    form = _choices(request, request.POST)
    if not form.is_valid():
        return _preferences(request, choices=form)
    rules = replace(rules_of(request.programme.settings), consent_text="")  # choosing is not agreeing
    keep_consent(me(request), rules, form.cleaned_data)
    messages.success(request, _("Your choices are kept."))
    return redirect("me_settings", request.programme.slug)


@require_POST
@requires(*MINE)
def prefer(request: Request, slug: str) -> HttpResponse:
    """Keep name, language and shortcuts; they are the account's, in every programme."""
    form = PreferencesForm(request.POST)
    if not form.is_valid():
        return _preferences(request, preferences=form)
    Account.objects.filter(pk=request.user.pk).update(**form.cleaned_data)
    translation.activate(form.cleaned_data["language"])
    messages.success(request, _("Your settings are kept."))
    response = redirect("me_settings", request.programme.slug)
    response.set_cookie(
        LANGUAGE,
        form.cleaned_data["language"],
        max_age=31_536_000,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )
    return response


@require_POST
@requires(*MINE)
def withdraw(request: Request, slug: str) -> HttpResponse:
    """No longer agree: no more work is given; what was judged stays, unless it is to be learnt from no more."""
    if request.POST.get("sure") != "yes":
        messages.error(request, _("Tick the box first. Nothing has changed."))
        return redirect("me_settings", request.programme.slug)
    rater = me(request)
    programmes.withdraw_consent(rater)
    if request.POST.get("judgments") == "yes":
        erasure.withdraw_judgments(rater)
        messages.success(request, _("What you judged is in no dataset that is made from now on."))
    messages.success(request, _("You no longer agree, and are given no more work. You can agree again at any time."))
    return redirect("me_settings", request.programme.slug)
