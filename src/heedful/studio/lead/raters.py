"""Who judges: how much, how fast, how well; and one rater's page."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import clock, erasure, events, gold, people, qualification, trust
from heedful.feedback.models import Programme, Rater, RaterKind, Role
from heedful.feedback.rules import rules_of
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.trust_words import measures
from heedful.studio.lead.words import name_of

ACTIVE = timedelta(minutes=15)
"""Since somebody was seen: they are at work."""


class Tags(forms.CharField):
    """Words between commas, as a list."""

    def to_python(self, value: Any) -> list[str]:  # type: ignore[override]
        """The words, each once."""
        text = super().to_python(value) or ""
        return list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))

    def prepare_value(self, value: Any) -> Any:
        """The list as words between commas."""
        return ", ".join(value) if isinstance(value, list) else value

    def run_validators(self, value: Any) -> None:
        """Each word is short, and nothing that the queues read otherwise."""
        for word in value:
            if len(word) > 60 or "|" in word or word.startswith("@"):
                raise forms.ValidationError(_("“%(word)s” is no tag.") % {"word": word[:60]})


class RaterForm(forms.Form):
    """What a rater can be given."""

    languages = Tags(
        label=gettext_lazy("Languages"),
        required=False,
        max_length=300,
        help_text=gettext_lazy("Tags with commas between them, such as vi, en. Empty: every language."),
    )
    expertise = Tags(
        label=gettext_lazy("Expertise"),
        required=False,
        max_length=300,
        help_text=gettext_lazy("Tags with commas between them. Items that ask for one go only to who has it."),
    )
    training_mode = forms.BooleanField(
        label=gettext_lazy("Training: gold answers are explained at once"),
        required=False,
        help_text=gettext_lazy("Unticked: gold looks like any other item."),
    )


class PauseForm(forms.Form):
    """Why work is withheld."""

    reason = forms.CharField(
        label=gettext_lazy("Reason"), max_length=200, help_text=gettext_lazy("The rater reads it.")
    )


@requires(Role.MANAGER)
def raters(request: Request, slug: str) -> HttpResponse:
    """Everybody who judges, those first who need attention, and who they are together."""
    told = trust.look(request.programme)
    weights = {key: card.weight for key, card in told.cards().items()}
    urgency = {"act": 0, "look": 1}
    rows = sorted(people.table(request.programme), key=lambda row: urgency.get(weights.get(row.rater.pk, ""), 2))
    since = clock.now() - ACTIVE
    context = {
        "rows": [
            (row, name_of(row.rater), bool(row.last_seen and row.last_seen >= since), weights.get(row.rater.pk, ""))
            for row in rows
        ],
        "do": told.found.cards_do,
        "groups": group_tables(request.programme),
        "least": people.LEAST,
    }
    return render(request, "studio/lead/raters.html", context)


def group_tables(programme: Programme) -> list[tuple[str, people.GroupTable]]:
    """Each question as it is asked, with its table; one that is asked no more stands under its short name."""
    asked = {str(one["name"]): str(one["question"]) for one in rules_of(programme.settings).group_questions}
    return [(asked.get(table.question, table.question), table) for table in people.groups(programme)]


def find(request: Request, key: UUID) -> Rater:
    """A rater of the programme; 404 for another's."""
    return own(Rater.objects.select_related("account", "programme"), request.programme, key)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def rater(request: Request, slug: str, rater: UUID) -> HttpResponse:
    """One rater: figures, and what they can be given."""
    found = find(request, rater)
    start = {"languages": found.languages, "expertise": found.expertise, "training_mode": found.training_mode}
    form = RaterForm(request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        change(found, form, request)
        messages.success(request, _("The change holds from the next item on."))
        return redirect("rater", request.programme.slug, found.pk)
    return page(request, found, form=form)


def page(request: Request, found: Rater, status: int = 200, **forms_sent: Any) -> HttpResponse:
    """A rater's page with its forms as they are, or as they were sent."""
    row = next((row for row in people.table(request.programme) if row.rater.pk == found.pk), None)
    start = {"languages": found.languages, "expertise": found.expertise, "training_mode": found.training_mode}
    card = trust.look(request.programme).cards().get(found.pk)
    context = {
        "card": card,
        "measures": measures(card) if card is not None else [],
        "interval_words": _("interval (95%)"),
        "rater": found,
        "name": name_of(found),
        "row": row,
        "months": people.pay_by_month(found) if found.kind == RaterKind.PERSON else [],
        "rate": people.pay_rate(found),
        "tests": qualification.standing(found),
        "questions": found.questions.order_by("-created")[:20],
        "form": RaterForm(initial=start),
        "pause": PauseForm(),
        "erase": EraseForm(name_of(found), owner=owns(request, found)),
        "admin": Role.ADMIN in request.roles,
        **forms_sent,
    }
    wrong = any(getattr(form, "errors", None) for form in forms_sent.values())
    return render(request, "studio/lead/rater.html", context, status=422 if wrong else status)


def change(found: Rater, form: RaterForm, request: Request) -> None:
    """Write what a valid form says."""
    given = form.cleaned_data
    with transaction.atomic():
        locked = Rater.objects.select_for_update(no_key=True).get(pk=found.pk)
        locked.languages, locked.expertise = given["languages"], given["expertise"]
        locked.save(update_fields=["languages", "expertise"])
        events.record("rater.changed", programme=request.programme, actor=request.user, rater=locked)
        gold.set_training(locked, given["training_mode"], request.user)


@require_POST
@requires(Role.MANAGER)
def rater_pause(request: Request, slug: str, rater: UUID) -> HttpResponse:
    """Withhold work, with a reason."""
    found = find(request, rater)
    form = PauseForm(request.POST)
    if form.is_valid():
        try:
            gold.pause(found, form.cleaned_data["reason"], request.user)
            messages.success(request, _("%(name)s is given no work for now.") % {"name": name_of(found)})
            return redirect("rater", request.programme.slug, found.pk)
        except HeedfulError as error:
            blame(form, error)
    return page(request, found, pause=form)


@require_POST
@requires(Role.MANAGER)
def rater_resume(request: Request, slug: str, rater: UUID) -> HttpResponse:
    """Let a paused rater work again."""
    found = find(request, rater)
    gold.resume(found, request.user)
    messages.success(request, _("%(name)s may work again.") % {"name": name_of(found)})
    return redirect("rater", request.programme.slug, found.pk)


class EraseForm(forms.Form):
    """The name, typed, so that nobody is erased by a slip."""

    typed = forms.CharField(label=gettext_lazy("Type the name to confirm"), max_length=200)

    everywhere = forms.BooleanField(
        label=gettext_lazy("The account too, in every programme"),
        required=False,
        help_text=gettext_lazy("They can log in no more."),
    )

    def __init__(self, name: str, *given: Any, owner: bool, **more: Any) -> None:
        super().__init__(*given, **more)
        self.name = name
        if not owner:
            del self.fields["everywhere"]
        self.fields["typed"].widget.attrs["autocomplete"] = "off"

    def clean_typed(self) -> str:
        """Exactly the name."""
        typed = str(self.cleaned_data["typed"]).strip()
        if typed != self.name:
            raise forms.ValidationError(_("This is not “%(name)s”. Nothing was erased.") % {"name": self.name})
        return typed


def owns(request: Request, found: Rater) -> bool:
    """Whether the reader may erase the rater's whole account: the studio's own admin may."""
    return request.user.is_superuser and found.account is not None


@require_POST
@requires(Role.ADMIN)
def rater_erase(request: Request, slug: str, rater: UUID) -> HttpResponse:
    """Erase who they were and what they wrote; that somebody judged stays."""
    found = find(request, rater)
    form = EraseForm(name_of(found), request.POST, owner=owns(request, found))
    if found.account is not None and found.account == request.user:
        messages.error(request, _("Another admin has to erase you."))
        return redirect("rater", request.programme.slug, found.pk)
    if form.is_valid():
        try:
            if form.cleaned_data.get("everywhere") and found.account is not None:
                erasure.erase_account(found.account, actor=request.user)
            else:
                erasure.erase_rater(found, actor=request.user)
            told = _(
                "The rater is erased. Judgments stay, without a name, and no dataset that is made from now on has them."
            )
            messages.success(request, told)
            return redirect("raters", request.programme.slug)
        except HeedfulError as error:
            blame(form, error)
    return page(request, found, erase=form)
