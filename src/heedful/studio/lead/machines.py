"""Machines: tokens that are shown once, webhooks, endpoints that answer as a policy."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import clock, endpoints, tokens, webhooks
from heedful.feedback.models import ApiToken, Delivery, PolicyEndpoint, Role, Webhook
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.event_words import EVENTS

SCOPES = {
    "prompts:write": gettext_lazy("push prompts and completions"),
    "judgments:read": gettext_lazy("pull items and judgments, export"),
    "judgments:write": gettext_lazy("judge, as an AI judge or a simulated rater"),
    "status:read": gettext_lazy("see how far batches are"),
    "feedback:write": gettext_lazy("send what end users of an application did, and nothing else"),
}
KINDS = (
    "judgment.submitted",
    "judgment.corrected",
    "judgment.retracted",
    "item.done",
    "item.parked",
    "batch.opened",
    "batch.closed",
    "adjudication.decided",
    "guideline.published",
    "rater.paused",
)
"""Events that a webhook is most often wanted for; none ticked means all there are."""


class TokenForm(forms.Form):
    """A key for a machine."""

    name = forms.CharField(label=gettext_lazy("What it is for"), max_length=120)
    scopes = forms.MultipleChoiceField(
        label=gettext_lazy("It may"), choices=list(SCOPES.items()), widget=forms.CheckboxSelectMultiple
    )
    days = forms.IntegerField(
        label=gettext_lazy("Days that it holds"),
        min_value=1,
        max_value=tokens.LONGEST_DAYS,
        initial=90,
        help_text=gettext_lazy("1 to 730."),
    )


class WebhookForm(forms.Form):
    """An address that is told of events."""

    url = forms.URLField(label=gettext_lazy("Address"), max_length=400, assume_scheme="https")
    kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Events"),
        choices=[(kind, EVENTS[kind]) for kind in KINDS],
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all that happens."),
    )


class EndpointForm(forms.Form):
    """A server that speaks the OpenAI chat API."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    base_url = forms.URLField(
        label=gettext_lazy("Address"),
        max_length=400,
        assume_scheme="https",
        help_text=gettext_lazy("As OpenAI clients take it, ending in /v1."),
    )
    model = forms.CharField(label=gettext_lazy("Model"), max_length=300)
    key_variable = forms.CharField(
        label=gettext_lazy("Environment variable with its key"),
        max_length=80,
        required=False,
        help_text=gettext_lazy("Begins with HEEDFUL_KEY_. The key itself is never stored. Empty: none is asked for."),
    )
    candidates = forms.IntegerField(
        label=gettext_lazy("Answers to each turn"),
        min_value=2,
        max_value=9,
        initial=2,
        help_text=gettext_lazy("2 to 9."),
    )
    sampling = forms.CharField(
        label=gettext_lazy("Sampling settings"),
        required=False,
        max_length=2000,
        initial='{"temperature": 1.0, "max_tokens": 512}',
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false"}),
        help_text=gettext_lazy("A JSON object."),
    )

    def clean_sampling(self) -> dict[str, Any]:
        """The object that the text says."""
        try:
            found = json.loads(self.cleaned_data["sampling"] or "{}")
        except json.JSONDecodeError as error:
            text = _("This is no JSON: line %(line)d, column %(column)d.")
            raise forms.ValidationError(text % {"line": error.lineno, "column": error.colno}) from error
        except RecursionError as error:
            raise forms.ValidationError(_("This is nested too deep.")) from error
        if not isinstance(found, dict):
            raise forms.ValidationError(_('Write an object, as in {"temperature": 1.0}.'))
        return found


def _made(form: forms.Form, act: Callable[[], Any]) -> Any:
    """What a service makes of a valid form, or None with its error beside the field."""
    if not form.is_valid():
        return None
    try:
        return act()
    except HeedfulError as error:
        blame(form, error)
        return None


def _page(request: Request, name: str, form: forms.Form, **context: Any) -> HttpResponse:
    status = 422 if form.errors else 200
    response = render(request, f"studio/lead/{name}.html", {"form": form, "now": clock.now(), **context}, status=status)
    response["Cache-Control"] = "no-store"
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.ADMIN)
def token_list(request: Request, slug: str) -> HttpResponse:
    """Tokens; a new one is shown on the page that answers the form, and never again."""
    form = TokenForm(request.POST or None)
    text = ""
    if request.method == "POST":
        given = form.cleaned_data if form.is_valid() else {}
        made = _made(form, lambda: tokens.create_token(request.programme, author=request.user, **given))
        if made:
            text, form = made[1], TokenForm()
    rows = request.programme.tokens.select_related("author").order_by("-created")
    return _page(request, "tokens", form, rows=rows, text=text, scopes=SCOPES)


@require_POST
@requires(Role.ADMIN)
def token_revoke(request: Request, slug: str, token: UUID) -> HttpResponse:
    """End a token now."""
    tokens.revoke_token(own(ApiToken.objects.all(), request.programme, token), actor=request.user)
    messages.success(request, _("The token no longer works."))
    return redirect("tokens", request.programme.slug)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.ADMIN)
def webhook_list(request: Request, slug: str) -> HttpResponse:
    """Webhooks with how their deliveries went; a new one's secret is shown once."""
    form = WebhookForm(request.POST or None)
    secret = ""
    if request.method == "POST":
        given = form.cleaned_data if form.is_valid() else {}
        made = _made(form, lambda: webhooks.create_webhook(request.programme, **given, actor=request.user))
        if made is not None:
            secret, form = made.secret, WebhookForm()
    waiting = Q(deliveries__delivered=None, deliveries__next_attempt__isnull=False)
    failed = Q(deliveries__delivered=None, deliveries__next_attempt=None)
    rows = request.programme.webhooks.annotate(
        sent=Count("deliveries", filter=Q(deliveries__delivered__isnull=False)),
        waiting=Count("deliveries", filter=waiting),
        failed=Count("deliveries", filter=failed),
    ).order_by("-created")
    troubles = Delivery.objects.filter(webhook__programme=request.programme, delivered=None).exclude(last_error="")
    troubles = troubles.select_related("webhook", "event").order_by("-created")[:20]
    return _page(request, "webhooks", form, rows=rows, secret=secret, troubles=troubles)


@require_POST
@requires(Role.ADMIN)
def webhook_stop(request: Request, slug: str, webhook: UUID) -> HttpResponse:
    """Tell an address nothing more."""
    webhooks.stop_webhook(own(Webhook.objects.all(), request.programme, webhook), actor=request.user)
    messages.success(request, _("The webhook is stopped."))
    return redirect("webhooks", request.programme.slug)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.ADMIN)
def endpoint_list(request: Request, slug: str) -> HttpResponse:
    """Endpoints that dialogues are answered by."""
    form = EndpointForm(request.POST or None)
    if request.method == "POST":
        given = form.cleaned_data if form.is_valid() else {}
        made = _made(form, lambda: endpoints.create_endpoint(request.programme, **given, actor=request.user))
        if made is not None:
            messages.success(request, _("The endpoint is there: dialogues may begin."))
            return redirect("endpoints", request.programme.slug)
    return _page(request, "endpoints", form, rows=request.programme.endpoints.order_by("-created"))


@require_POST
@requires(Role.ADMIN)
def endpoint_retire(request: Request, slug: str, endpoint: UUID) -> HttpResponse:
    """Begin no further dialogue with it."""
    endpoints.retire_endpoint(own(PolicyEndpoint.objects.all(), request.programme, endpoint), actor=request.user)
    messages.success(request, _("No further dialogue begins with it; those that run go on."))
    return redirect("endpoints", request.programme.slug)
