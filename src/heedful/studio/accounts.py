"""Logging in and out, the first admin, invitations, passwords, consent, and pages for what went wrong."""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import get_user_model, update_session_auth_hash
from django.contrib.auth import login as start_session
from django.contrib.auth.forms import AuthenticationForm, BaseUserCreationForm, PasswordChangeForm
from django.contrib.auth.views import LoginView, LogoutView
from django.db import connection, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import programmes
from heedful.feedback.models import Account, GroupAnswer, Rater, Role
from heedful.feedback.rules import rules_of
from heedful.feedback.tokens import hash_of
from heedful.studio import outage
from heedful.studio.access import anyone, held_roles, requires, signed_in, wants_json
from heedful.studio.consent import ConsentForm, keep_consent
from heedful.studio.context import programmes_of
from heedful.studio.middleware import LANGUAGE
from heedful.studio.rendering import render as markdown
from heedful.studio.said import say
from heedful.studio.security import limited

FIRST = "first-admin"
LOGIN_TRIES = (30, 300)
BACKEND = "django.contrib.auth.backends.ModelBackend"


class AccountForm(BaseUserCreationForm):
    """A name to log in with, a name to be shown, a password."""

    class Meta:
        model = get_user_model()
        fields = ("username", "display_name")
        labels = {  # noqa: RUF012
            "username": gettext_lazy("Name to log in with"),
            "display_name": gettext_lazy("Name that the lead sees (may stay empty)"),
        }


class Login(LoginView):
    """Django's own, in the studio's clothes."""

    template_name = "studio/login.html"
    form_class = AuthenticationForm
    redirect_authenticated_user = True


login = anyone(limited("login", *LOGIN_TRIES)(sensitive_post_parameters()(Login.as_view())))
logout = anyone(require_POST(LogoutView.as_view()))


@anyone
def home(request: Any) -> HttpResponse:
    """Where somebody's work is."""
    if not request.user.is_authenticated:
        return redirect("login")
    mine = programmes_of(request.user)
    if len(mine) != 1:
        return redirect("programmes")
    held = held_roles(request.user, mine[0])
    if held & {Role.ADMIN, Role.MANAGER}:
        return redirect("overview", mine[0].slug)
    return redirect("rate" if Role.RATER in held else "adjudication", mine[0].slug)


@anyone
@require_POST
def language(request: Any) -> HttpResponse:
    """Choose the pages' language."""
    code = request.POST.get("language", "")
    if code not in dict(settings.LANGUAGES):
        raise Http404
    back = request.POST.get("next", "")
    safe = url_has_allowed_host_and_scheme(back, {request.get_host()}, require_https=request.is_secure())
    response = HttpResponseRedirect(back if safe and back.startswith("/") else reverse("home"))
    if request.user.is_authenticated:
        Account.objects.filter(pk=request.user.pk).update(language=code)
    response.set_cookie(
        LANGUAGE, code, max_age=31_536_000, httponly=True, samesite="Lax", secure=settings.SESSION_COOKIE_SECURE
    )
    return response


@signed_in
@limited("password", 10, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def password(request: Any) -> HttpResponse:
    """Change one's password; other sessions end."""
    form = PasswordChangeForm(request.user, request.POST or None)
    if request.method == "POST" and form.is_valid():
        update_session_auth_hash(request, form.save())
        messages.success(request, _("Your password is changed. Other devices are logged out."))
        return redirect("home")
    return render(request, "studio/form_page.html", {"form": form, "title": _("Password"), "action": _("Change")})


# --- the first admin ---


def _first_file() -> Path:
    return Path(getattr(settings, "HEEDFUL_FOLDER", ".")) / FIRST


def first_admin_link() -> str | None:
    """Path of a page that makes the first admin, once; None when there is one. Only a hash of its token is kept."""
    if Account.objects.filter(is_superuser=True).exists():
        return None
    token = secrets.token_urlsafe(32)
    handle = os.open(_first_file(), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(hash_of(token))
    return reverse("first", args=[token])


def _first_holds(token: str) -> bool:
    try:
        kept = _first_file().read_text(encoding="ascii").strip()
    except OSError:
        return False
    return secrets.compare_digest(kept, hash_of(token)) and not Account.objects.filter(is_superuser=True).exists()


def _one_at_a_time() -> None:
    """Nobody else writes accounts until the transaction ends; SQLite has one writer at a time anyway."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {Account._meta.db_table} IN SHARE ROW EXCLUSIVE MODE")


@anyone
@limited("first", 20, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def first(request: Any, token: str) -> HttpResponse:
    """Make the first admin. Opening the link changes nothing."""
    if not _first_holds(token):
        raise Http404
    form = AccountForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            _one_at_a_time()
            if not _first_holds(token):
                return redirect("home")  # posted twice: the other one was faster
            account = form.save(commit=False)
            account.is_superuser = True
            account.language = request.LANGUAGE_CODE
            account.save()
        _first_file().unlink(missing_ok=True)
        start_session(request, account, backend=BACKEND)
        return redirect("programmes")
    about = {
        "form": form,
        "title": _("The first account"),
        "action": _("Make it"),
        "message": _("It may do everything in this studio: make programmes, invite people, export."),
    }
    return render(request, "studio/form_page.html", about)


# --- invitations ---


@anyone
@limited("invitation", 20, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@sensitive_post_parameters()
def invitation(request: Any, token: str) -> HttpResponse:
    """Accept an invitation, with the account one has or a new one. Opening the link consumes nothing."""
    found = programmes.find_invitation(token)
    if found is None:
        about = {"title": _("This link no longer holds"), "message": _("Ask whoever sent it for a new one.")}
        return render(request, "studio/error.html", about, status=404)
    known = request.user.is_authenticated
    form = None if known else AccountForm(request.POST or None)
    if request.method == "POST" and (form is None or form.is_valid()):
        try:
            with transaction.atomic():
                account = request.user
                if form is not None:
                    account = form.save(commit=False)
                    account.language = request.LANGUAGE_CODE
                    account.save()
                programmes.accept_invitation(token, account)
        except HeedfulError as error:
            return render(
                request, "studio/error.html", {"title": say(error.what), "message": say(error.mend)}, status=409
            )
        if form is not None:
            start_session(request, account, backend=BACKEND)
        return redirect("home")
    return render(
        request,
        "studio/invitation.html",
        {"form": form, "invitation": found, "next": request.get_full_path()},
    )


# --- consent ---


@requires(Role.RATER, Role.ADJUDICATOR)
@require_http_methods(["GET", "HEAD", "POST"])
def consent(request: Any, slug: str) -> HttpResponse:
    """What a rater agrees to, is warned of, opts out of, and may tell of themself."""
    rater: Rater | None = request.rater
    if rater is None:
        raise Http404
    rules = rules_of(request.programme.settings)
    known = {answer.question: answer.answer for answer in GroupAnswer.objects.filter(rater=rater)}
    form = ConsentForm(request.POST or None, rater=rater, rules=rules, known=known)
    if request.method == "POST" and form.is_valid():
        keep_consent(rater, rules, form.cleaned_data)
        return redirect("rate", slug)
    about = {
        "form": form,
        "text": markdown(rules.consent_text) if rules.consent_text else "",
        "warning": markdown(rules.content_warning) if rules.content_warning else "",
    }
    return render(request, "studio/consent.html", about)


# --- what went wrong ---


@anyone
@require_GET
def health(request: HttpRequest) -> HttpResponse:
    """Whether the studio and its database answer."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return JsonResponse({"status": "ok", "time": timezone.now().isoformat()})


def locked_out(request: HttpRequest, response: Any = None, credentials: Any = None, *_more: Any) -> HttpResponse:
    """Too many wrong passwords for one account from one address."""
    about = {
        "title": _("Too many wrong passwords"),
        "message": _("Logging in to this account from here is closed for 15 minutes."),
    }
    return render(request, "studio/error.html", about, status=429)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """The page was too old, or another site sent it."""
    message = _("The page was open for too long, or cookies are off. Load it again; what you typed is still there.")
    if wants_json(request):
        return JsonResponse({"error": message, "detail": message}, status=403)
    return render(request, "studio/error.html", {"title": _("Please try again"), "message": message}, status=403)


def forbidden(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """403."""
    message = _("Your role in this programme does not include this page.")
    if wants_json(request):
        return JsonResponse({"error": message, "detail": message}, status=403)
    return render(request, "studio/error.html", {"title": _("Not for your role"), "message": message}, status=403)


def missing(request: HttpRequest, exception: Exception | None = None) -> HttpResponse:
    """404."""
    message = _("There is nothing at this address, or nothing that you take part in.")
    if wants_json(request):
        return JsonResponse({"error": message, "detail": message}, status=404)
    return render(request, "studio/error.html", {"title": _("Not here"), "message": message}, status=404)


def broken(request: HttpRequest) -> HttpResponse:
    """500: says nothing of the cause, which is in the server's log. 503 where the database does not serve."""
    if outage.is_one(sys.exc_info()[1]):
        return outage.page(request)
    message = _("Something failed here, and is in the server's log. Nothing you sent before is lost.")
    if wants_json(request):
        return JsonResponse({"error": message, "detail": message}, status=500)
    about = {"title": _("A fault of ours"), "message": message, "reference": outage.own_id()}
    return render(request, "studio/error.html", about, status=500)
