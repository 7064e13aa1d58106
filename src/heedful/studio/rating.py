"""The raters' pages: one item after another. Reading a page changes nothing; a lease is taken by POST alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import assignment as work
from heedful.feedback import qualification, submission
from heedful.feedback.conflict import Conflict
from heedful.feedback.models import (
    Assignment,
    AssignmentState,
    CurrentJudgment,
    ItemCompletion,
    Judgment,
    Qualification,
    Rater,
    Role,
    TaskKind,
)
from heedful.feedback.programmes import RATING, roles_of
from heedful.studio import answers, serving
from heedful.studio.access import requires, wants_json
from heedful.studio.asked import json_of
from heedful.studio.rating_words import help_keys, skips, words
from heedful.studio.said import say, tell

View = Callable[..., HttpResponse]


def _body(request: Any) -> dict[str, Any]:
    """What came, as JSON or as a form.

    Raises:
        HeedfulError: it is no JSON object.
    """
    if request.content_type != "application/json":
        fields = request.POST.dict()
        return {"fields": fields} | fields
    given = json_of(request.body)
    if not isinstance(given, dict):
        raise HeedfulError(_("the request is no JSON object."), where="body")
    return given


def _rating(view: View) -> View:
    """Let raters in; POST alone; say errors as JSON, or on the page to who has no script."""

    @requires(Role.RATER)
    @require_POST
    @wraps(view)
    def check(request: Any, slug: str, **kwargs: Any) -> HttpResponse:
        if request.rater is None:
            raise Http404
        try:
            if "assignment" in kwargs:
                kwargs["assignment"] = serving.assignment_of(request.rater, kwargs["assignment"])
                if kwargs["assignment"] is None:
                    raise Http404
            return view(request, _body(request), **kwargs)
        except HeedfulError as error:
            status = 409 if isinstance(error, Conflict) else 400
            said = {"error": say(error.what), "mend": say(error.mend), "where": error.where}
            if wants_json(request):
                return JsonResponse(said, status=status)
            messages.error(request, tell(error))
            return redirect("rate", slug)

    return check


def _sent(request: Any, told: dict[str, Any]) -> HttpResponse:
    """The answer to a script; who has none is sent back to the page."""
    return JsonResponse(told) if wants_json(request) else redirect("rate", request.programme.slug)


@requires(Role.RATER)
@require_GET
def rate(request: Any, slug: str) -> HttpResponse:
    """The page: what lies before the rater already, or a way to the next item. It leases nothing."""
    about: dict[str, Any] = {"skips": skips(), "words": words(), "help": help_keys()}
    if request.rater is None:
        about |= {"new": True, "may_begin": bool(roles_of(request.user, request.programme) & RATING)}
        return render(request, "studio/rating/rate.html", about)
    current = work.current_assignment(request.rater)
    if current is not None and current.item.kind == TaskKind.DIALOGUE:
        return redirect("dialogue", slug, current.pk)
    first: dict[str, Any] = serving.tally(request.rater)
    about |= first
    if current is not None:
        found = serving.assignment_of(request.rater, current.pk)
        assert found is not None
        first |= serving.identity(found) | serving.standing(found)
        about |= serving.context(found, request.programme) | {"key": secrets.token_urlsafe(18)}
    elif request.GET.get("none"):
        about |= serving.none(request.rater, request.programme)
    return render(request, "studio/rating/rate.html", about | {"first": first})


@_rating
def next_item(request: Any, given: Mapping[str, Any]) -> HttpResponse:
    """Lease the next item and show it; with "prefetch", hold it for a short while until it is shown."""
    rater = request.rater
    prefetch = given.get("prefetch", False) is True
    found = work.next_assignment(rater, resume=not prefetch, prefetch=prefetch, show=not prefetch)
    if found is not None and not prefetch and not found.fresh:
        found = _again(rater, found)
    if found is None:
        return _nothing(request, prefetch)
    own = _own(rater, found.pk)
    own.fresh = found.fresh
    task = serving.task_json(own, request.programme)
    if "go" in task and not wants_json(request):
        return redirect(task["go"])
    return _sent(request, task if prefetch else task | serving.tally(rater))


def _again(rater: Rater, held: Assignment) -> Assignment | None:
    """Show what lay before a rater already; where its lease has ended and others have it, the next one."""
    if held.item.kind == TaskKind.DIALOGUE:  # its own page says when it is shown
        return held
    try:
        return work.show(held)
    except Conflict:
        found = work.next_assignment(rater, show=True)
        if found is not None and not found.fresh and found.item.kind != TaskKind.DIALOGUE:
            work.show(found)
        return found


def _nothing(request: Any, prefetch: bool) -> HttpResponse:
    if not wants_json(request):
        return redirect(f"{reverse('rate', args=[request.programme.slug])}?none=1")
    if prefetch:
        return JsonResponse({"none": True})
    why = serving.none(request.rater, request.programme)
    html = render_to_string("studio/rating/_none.html", why, request)
    return JsonResponse({"none": why["why"], "html": html} | serving.tally(request.rater))


def _own(rater: Rater, key: Any) -> Assignment:
    found = serving.assignment_of(rater, key)
    if found is None:
        raise Http404
    return found


@_rating
def show(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """An item that was fetched ahead, or was there on loading the page, is before the rater's eyes now."""
    work.show(assignment)
    return _sent(request, {"version": assignment.item.version} | serving.standing(assignment))


@_rating
def beat(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """The rater is at work. "held" says whether the item is still theirs alone; late work is kept all the same."""
    return _sent(request, {"held": work.heartbeat(assignment, given.get("active_ms", 0))})


@_rating
def draft(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """Keep unfinished work."""
    fields = answers.fields_of(given.get("fields"))
    revision = given.get("revision")
    if not isinstance(revision, int) or isinstance(revision, bool):
        raise HeedfulError(_("the revision is no whole number."), where="revision")
    kept = work.save_draft(assignment, {"fields": fields}, revision, given.get("active_ms", 0))
    held = assignment.state == AssignmentState.LEASED
    return _sent(request, {"revision": kept, "held": held})


@_rating
def submit(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """Keep a judgment. The same key again is the same judgment."""
    fields = answers.fields_of(given.get("fields"))
    kind = assignment.item.kind
    judgment = submission.submit(
        assignment,
        answers.payload_of(
            kind,
            fields,
            count=len(assignment.order) or ItemCompletion.objects.filter(item=assignment.item_id).count(),
            attributes=assignment.slot.guideline.attributes,
        ),
        key=given.get("key", ""),
        item_version=_whole(given.get("version"), "version"),
        rationale=answers.lines(fields.get("rationale", "")),
        safety_flag=bool(fields.get("safety")),
        active_ms=_whole(given.get("active_ms") or 0, "active_ms"),
        text=answers.text_of(kind, fields),
    )
    told = serving.feedback(assignment, judgment)
    if not wants_json(request) and told is not None:
        about = {"feedback": told, "words": words(), "first": {}, "skips": skips(), "help": help_keys()}
        return render(request, "studio/rating/rate.html", about)
    if not wants_json(request):
        return next_item(request, slug=request.programme.slug)
    html = render_to_string("studio/rating/_feedback.html", {"feedback": told}, request) if told else ""
    return JsonResponse({"html": html} | serving.tally(request.rater))


def _whole(given: Any, where: str) -> int:
    """A number from JSON, or from a form's text."""
    if isinstance(given, str) and given.isascii() and given.isdigit() and len(given) < 12:
        return int(given)
    if isinstance(given, int) and not isinstance(given, bool):
        return given
    raise HeedfulError(_("this is no whole number."), where=where)


@_rating
def skip(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """Pass an item, with a reason."""
    note = given.get("note", "")
    work.skip(assignment, str(given.get("reason", "")), note, _whole(given.get("active_ms") or 0, "active_ms"))
    if not wants_json(request):
        return next_item(request, slug=request.programme.slug)
    return _sent(request, serving.tally(request.rater))


@_rating
def undo(request: Any, given: Mapping[str, Any], assignment: Assignment) -> HttpResponse:
    """Take back the judgment of an assignment: it lies before the rater again, as it was filled in."""
    key = given.get("key", "")
    held = CurrentJudgment.objects.filter(rater=request.rater, judgment__assignment=assignment)
    current = held.select_related("judgment").first()
    if current is not None:
        submission.undo(current.judgment, key=key)
    elif not Judgment.objects.filter(assignment=assignment, retracts=True, idempotency_key=key).exists():
        raise Conflict(_("there is nothing to take back."), where="assignment", mend=_("Go on with the next item."))
    fresh = _own(request.rater, assignment.pk)
    late = fresh.state != AssignmentState.LEASED
    if late and not wants_json(request):
        messages.warning(request, words()["late"])
    return _sent(request, serving.task_json(fresh, request.programme) | serving.tally(request.rater) | {"late": late})


@_rating
def start_test(request: Any, given: Mapping[str, Any], test: Any) -> HttpResponse:
    """Begin a qualification; its items come next."""
    own = Qualification.objects.filter(programme=request.programme, pk=test).first()
    if own is None:
        raise Http404
    qualification.start_attempt(own, request.rater)
    return _sent(request, {"started": True})
