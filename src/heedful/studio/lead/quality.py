"""Gold items and their contests, tests that raters pass, calibration sessions."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import calibration as sessions
from heedful.feedback import gold as service
from heedful.feedback import patterns, qualification
from heedful.feedback.models import (
    ASKED,
    Batch,
    GoldOutcome,
    Programme,
    Purpose,
    Qualification,
    Rationale,
    Role,
)
from heedful.studio.access import requires
from heedful.studio.lead.batches import find as find_batch
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.items import excerpt
from heedful.studio.lead.shown import Shown, shown
from heedful.studio.lead.words import name_of, said
from heedful.studio.said import tell


@requires(Role.MANAGER)
def gold(request: Request, slug: str) -> HttpResponse:
    """Every item with a key, and how raters do on it: one that most fail may have a wrong key."""
    rows = [
        (
            row,
            excerpt(row.key.item.prompt.messages),
            [patterns.words(row.key.item.kind, one, ()) for one in row.key.acceptable],
        )
        for row in service.keys(request.programme)
    ]
    return render(request, "studio/lead/gold.html", {"rows": rows, "waiting": sum(row[0].waiting for row in rows)})


class ContestForm(forms.Form):
    """The answer to a contest."""

    answer = forms.CharField(
        label=gettext_lazy("Answer to the rater"), max_length=5000, widget=forms.Textarea(attrs={"rows": 3})
    )
    upheld = forms.ChoiceField(
        label=gettext_lazy("Decision"),
        choices=(
            ("yes", gettext_lazy("The rater is right: it does not count against them")),
            ("no", gettext_lazy("The key stands")),
        ),
        widget=forms.RadioSelect,
    )


@requires(Role.MANAGER)
def contests(request: Request, slug: str) -> HttpResponse:
    """Contests that wait for an answer, the oldest first."""
    return _contests(request, None, None)


def _contests(request: Request, wrong: UUID | None, form: ContestForm | None) -> HttpResponse:
    rows = []
    for outcome in service.open_contests(request.programme):
        item = outcome.gold_key.item
        order = list(range(item.entries.count()))
        rationale = Rationale.objects.filter(judgment=outcome.judgment, erased=None).first()
        rows.append(
            {
                "outcome": outcome,
                "name": name_of(outcome.rater),
                "look": shown(item, order),
                "said": said(item.kind, outcome.judgment.payload),
                "rationale": rationale.text if rationale else "",
                "accepted": [patterns.words(item.kind, one, ()) for one in outcome.gold_key.acceptable],
                "form": form if outcome.pk == wrong else ContestForm(prefix=str(outcome.pk)[-8:]),
            }
        )
    status = 422 if wrong else 200
    return render(request, "studio/lead/contests.html", {"rows": rows}, status=status)


@require_POST
@requires(Role.MANAGER)
def contest_answer(request: Request, slug: str, outcome: UUID) -> HttpResponse:
    """Answer a contest."""
    found = GoldOutcome.objects.filter(rater__programme=request.programme, pk=outcome).first()
    if found is None:
        raise Http404
    form = ContestForm(request.POST, prefix=str(found.pk)[-8:])
    if form.is_valid():
        try:
            upheld = form.cleaned_data["upheld"] == "yes"
            service.answer_contest(found, upheld, form.cleaned_data["answer"], request.user)
            messages.success(request, _("The contest is answered."))
            return redirect("contests", request.programme.slug)
        except HeedfulError as error:
            blame(form, error)
    return _contests(request, found.pk, form)


class QualificationForm(forms.Form):
    """A test: which batch, what is a pass, what stands behind it."""

    batch = forms.ModelChoiceField(
        label=gettext_lazy("Batch"),
        queryset=Batch.objects.none(),
        empty_label="—",
        help_text=gettext_lazy("Of purpose “qualification”; each of its items has a key."),
    )
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120, help_text=gettext_lazy("Raters see it."))
    pass_mark = forms.IntegerField(
        label=gettext_lazy("Pass mark, in %"),
        min_value=1,
        max_value=100,
        initial=80,
        help_text=gettext_lazy("1 to 100."),
    )
    attempts_allowed = forms.IntegerField(
        label=gettext_lazy("Attempts"), min_value=1, max_value=20, initial=2, help_text=gettext_lazy("1 to 20.")
    )
    task = forms.ChoiceField(label=gettext_lazy("Stands before the task"), required=False)
    language = forms.CharField(
        label=gettext_lazy("Stands before the language"),
        max_length=12,
        required=False,
        help_text=gettext_lazy("A tag such as vi. Empty: any."),
    )
    guideline_version = forms.ChoiceField(label=gettext_lazy("For guideline version"), required=False)
    required = forms.BooleanField(label=gettext_lazy("No work without a pass"), required=False, initial=True)

    def __init__(self, programme: Programme, *given: object, **more: object) -> None:
        super().__init__(*given, **more)  # type: ignore[arg-type]
        batch = self.fields["batch"]
        assert isinstance(batch, forms.ModelChoiceField)
        batch.queryset = programme.batches.filter(purpose=Purpose.QUALIFICATION, qualification=None)
        batch.label_from_instance = lambda one: one.name  # type: ignore[attr-defined]
        task, version = self.fields["task"], self.fields["guideline_version"]
        assert isinstance(task, forms.ChoiceField)
        assert isinstance(version, forms.ChoiceField)
        task.choices = [("", _("any")), *((value, _(label)) for value, label in ASKED)]
        numbers = programme.guidelines.order_by("-version").values_list("version", flat=True)
        version.choices = [("", _("any")), *((str(number), str(number)) for number in numbers)]


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def qualifications(request: Request, slug: str) -> HttpResponse:
    """Tests with their passes, and the form for a new one."""
    form = QualificationForm(request.programme, request.POST or None)
    if request.method == "POST" and form.is_valid():
        given = dict(form.cleaned_data)
        batch, name = given.pop("batch"), given.pop("name")
        given |= {
            "pass_mark": given["pass_mark"] / 100,
            "guideline_version": int(given["guideline_version"]) if given["guideline_version"] else None,
        }
        try:
            qualification.create(request.programme, batch, name, actor=request.user, **given)
            messages.success(request, _("The test is made. Open its batch when raters may take it."))
            return redirect("qualifications", request.programme.slug)
        except HeedfulError as error:
            blame(form, error)
    tests = request.programme.qualifications.select_related("batch__guideline").annotate(
        passed=Count("attempts", filter=Q(attempts__passed=True)),
        failed=Count("attempts", filter=Q(attempts__passed=False)),
        running=Count("attempts", filter=Q(attempts__finished=None)),
    )
    staged = request.programme.batches.filter(purpose=Purpose.QUALIFICATION, qualification=None).annotate(
        all=Count("items", distinct=True), keyed=Count("items__gold_key", distinct=True)
    )
    newest = request.programme.guidelines.order_by("-version").first()
    context = {"form": form, "tests": tests.order_by("-created"), "staged": staged, "newest": newest}
    return render(request, "studio/lead/qualifications.html", context, status=422 if form.errors else 200)


@require_POST
@requires(Role.MANAGER)
def qualification_change(request: Request, slug: str, qualification_id: UUID) -> HttpResponse:
    """Allow another attempt, require the test or not, or make it again for the newest guideline."""
    test = own(Qualification.objects.select_related("batch"), request.programme, qualification_id)
    act = request.POST.get("act", "")
    try:
        if act == "attempt":
            qualification.change(test, actor=request.user, attempts_allowed=test.attempts_allowed + 1)
            messages.success(request, _("Raters have one more attempt."))
        elif act in ("require", "free"):
            qualification.change(test, actor=request.user, required=act == "require")
            messages.success(request, _("The change holds from now on."))
        elif act == "renew":
            newest = request.programme.guidelines.order_by("-version")[0]
            qualification.renew(test, newest, actor=request.user)
            messages.success(request, _("The test is made again for version %(n)d.") % {"n": newest.version})
        else:
            raise Http404
    except HeedfulError as error:
        messages.error(request, tell(error))
    return redirect("qualifications", request.programme.slug)


@requires(Role.MANAGER)
def calibration(request: Request, slug: str) -> HttpResponse:
    """Calibration sessions."""
    batches = request.programme.batches.filter(purpose=Purpose.CALIBRATION).annotate(count=Count("items"))
    return render(request, "studio/lead/calibration.html", {"batches": batches.order_by("-created")})


@requires(Role.MANAGER, Role.RATER, Role.ADJUDICATOR)
def calibration_session(request: Request, slug: str, batch: UUID) -> HttpResponse:
    """A session: who is how far; once it is open for discussion, everybody's answers beside each other.

    Raters come here only after it was opened, and then read "Rater 1", "Rater 2" in the place of names.
    """
    found = find_batch(request, batch)
    leads = bool({Role.ADMIN, Role.MANAGER} & request.roles)
    if found.purpose != Purpose.CALIBRATION or not (leads or found.opened_for_discussion):
        raise Http404
    context = {
        "batch": found,
        "leads": leads,
        "attendance": [(name_of(row.rater), row) for row in sessions.attendance(found)] if leads else [],
        "rows": _answers(found, request) if found.opened_for_discussion else [],
    }
    return render(request, "studio/lead/calibration_session.html", context)


def _answers(batch: Batch, request: Request) -> list[tuple[Shown, float | None, list[dict[str, object]]]]:
    """Each item with its answers: (look, agreement, [{"who", "said", "rationale", "flag"}])."""
    leads = bool({Role.ADMIN, Role.MANAGER} & request.roles)
    items = sessions.answers(batch)
    keys = sorted({str(answer.rater.pk) for one in items for answer in one.answers})
    names = {key: _("Rater %(number)d") % {"number": number} for number, key in enumerate(keys, 1)}
    rows = []
    for one in items:
        said_there = []
        for answer in one.answers:
            me = request.rater is not None and answer.rater.pk == request.rater.pk
            name = name_of(answer.rater) if leads else _("you") if me else names[str(answer.rater.pk)]
            said_there.append(
                {
                    "who": name,
                    "said": said(one.item.kind, answer.payload),
                    "rationale": answer.rationale,
                    "flag": answer.safety_flag,
                }
            )
        rows.append((shown(one.item, list(range(one.item.entries.count()))), one.agreement, said_there))
    return rows


@require_POST
@requires(Role.MANAGER)
def calibration_open(request: Request, slug: str, batch: UUID) -> HttpResponse:
    """Show everybody's answers to all, and end the session."""
    found = find_batch(request, batch)
    try:
        sessions.open_for_discussion(found, request.user)
        messages.success(request, _("The answers are open for discussion."))
    except HeedfulError as error:
        messages.error(request, tell(error))
    return redirect("calibration_session", request.programme.slug, found.pk)
