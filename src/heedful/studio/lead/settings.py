"""A programme's own settings: its rules, the questions about groups, what people are paid, its end."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from heedful.errors import HeedfulError
from heedful.feedback import clock, events, people
from heedful.feedback.models import PayRate, Programme, Rater, RaterKind, Role
from heedful.feedback.programmes import update_rules
from heedful.feedback.rules import Rules, rules_of
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame
from heedful.studio.lead.raters import group_tables
from heedful.studio.lead.rules_form import GroupFormSet, RulesForm, group_questions, version_of
from heedful.studio.lead.words import name_of
from heedful.studio.rendering import markdown


class NameForm(forms.Form):
    """What the programme is called."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200)


def keep(request: Request, make: Callable[[Rules], Rules]) -> None:
    """Write the rules that `make` gives for those that stand, under the programme's own lock.

    Raises:
        HeedfulError: a rule out of range.
    """
    with transaction.atomic():
        locked = Programme.objects.select_for_update(no_key=True).get(pk=request.programme.pk)
        update_rules(locked, make(rules_of(locked.settings)), actor=request.user)
    request.programme.settings = locked.settings


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def settings(request: Request, slug: str) -> HttpResponse:
    """The rules, as a form. What is not changed here keeps its value."""
    now = rules_of(request.programme.settings)
    initial = RulesForm.start(now)
    form = RulesForm(request.POST or None, initial=initial, admin=Role.ADMIN in request.roles)
    name = NameForm(request.POST or None, initial={"name": request.programme.name})
    if request.method == "POST" and form.is_valid() and name.is_valid():
        try:
            keep(request, lambda rules: form.rules(rules, rules.group_questions))
            rename(request, name.cleaned_data["name"])
            messages.success(request, _("The settings are kept. They hold from the next item on."))
            return redirect("settings", request.programme.slug)
        except HeedfulError as error:
            blame(form, error, {"lease_seconds": "lease_minutes"})
            request.programme.refresh_from_db(fields=["settings"])
            form.data = form.data.copy()
            form.data["seen"] = version_of(rules_of(request.programme.settings))
    context = {
        "form": form,
        "name": name,
        "consent": markdown(now.consent_text, top=3) if now.consent_text else "",
        "warning": markdown(now.content_warning, top=3) if now.content_warning else "",
    }
    return render(request, "studio/lead/settings.html", context, status=422 if form.errors or name.errors else 200)


def rename(request: Request, name: str) -> None:
    """Call the programme something else; its address stays."""
    if name != request.programme.name:
        with transaction.atomic():
            Programme.objects.filter(pk=request.programme.pk).update(name=name)
            events.record("programme.renamed", programme=request.programme, actor=request.user)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def group_settings(request: Request, slug: str) -> HttpResponse:
    """What raters may tell of themselves, and how they answered in sums over five or more."""
    asked = rules_of(request.programme.settings).group_questions
    start = [
        {"name": one["name"], "question": one["question"], "answers": "\n".join(one.get("answers", ()))}
        for one in asked
    ]
    sent = request.POST or None  # a row that is sent as it was is no empty one: so the start is not told beside it
    formset = GroupFormSet(sent, initial=None if sent else start, prefix="group")
    if request.method == "POST" and formset.is_valid():
        questions = group_questions(formset)
        keep(request, lambda rules: rules_of(rules.stored() | {"group_questions": questions}))
        messages.success(request, _("The questions are kept."))
        return redirect("group_settings", request.programme.slug)
    context = {"formset": formset, "groups": group_tables(request.programme), "least": people.LEAST}
    status = 422 if request.method == "POST" else 200
    return render(request, "studio/lead/group_settings.html", context, status=status)


class PayForm(forms.Form):
    """What an hour or a judgment pays, from a day on."""

    rater = forms.ModelChoiceField(
        label=gettext_lazy("For"), queryset=Rater.objects.none(), required=False, empty_label=gettext_lazy("everybody")
    )
    currency = forms.RegexField(
        label=gettext_lazy("Currency"),
        regex=r"^[A-Z]{3}$",
        initial="USD",
        help_text=gettext_lazy("Three capitals: USD."),
    )
    per_hour = forms.DecimalField(
        label=gettext_lazy("An hour of active time"),
        min_value=0,
        max_digits=10,
        decimal_places=2,
        initial=0,
        help_text=gettext_lazy("Time in which the page was in front and in use."),
    )
    per_judgment = forms.DecimalField(
        label=gettext_lazy("A judgment"), min_value=0, max_digits=10, decimal_places=4, initial=0
    )
    begins = forms.DateField(
        label=gettext_lazy("From"),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
        help_text=gettext_lazy("UTC. What was done before is paid as before."),
    )

    def __init__(self, programme: Programme, *given: Any, **more: Any) -> None:
        super().__init__(*given, **more)
        field = self.fields["rater"]
        assert isinstance(field, forms.ModelChoiceField)
        field.queryset = programme.raters.filter(kind=RaterKind.PERSON, erased=None).select_related("account")
        field.label_from_instance = name_of  # type: ignore[method-assign]

    def clean(self) -> dict[str, Any]:
        found = super().clean() or {}
        if not self.errors and not found.get("per_hour") and not found.get("per_judgment"):
            self.add_error("per_hour", _("Give what an hour pays, or what a judgment pays."))
        return found


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.ADMIN)
def pay(request: Request, slug: str) -> HttpResponse:
    """Pay rates, the newest first. A rate is never changed: another begins."""
    start = {"begins": clock.now().astimezone(UTC).date()}
    form = PayForm(request.programme, request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        given = dict(form.cleaned_data)
        day = given.pop("begins")
        with transaction.atomic():
            begins = datetime(day.year, day.month, day.day, tzinfo=UTC)
            made = PayRate.objects.create(programme=request.programme, begins=begins, **given)
            events.record("pay.changed", programme=request.programme, actor=request.user, pay_rate=made)
        messages.success(request, _("The rate is kept."))
        return redirect("pay", request.programme.slug)
    rows = request.programme.pay_rates.select_related("rater__account").order_by("-begins", "-created")
    context = {"form": form, "rows": [(row, name_of(row.rater) if row.rater else _("everybody")) for row in rows]}
    return render(request, "studio/lead/pay.html", context, status=422 if form.errors else 200)
