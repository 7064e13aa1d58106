"""The dialogue page: a rater talks with a live policy, whose answers are shown once all of them are there."""

from __future__ import annotations

import logging
import secrets
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import wraps
from typing import Any

from django.contrib import messages
from django.db import connection
from django.http import Http404, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_GET, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import assignment as work
from heedful.feedback import dialogue as talk
from heedful.feedback import dialogue_asking as asking
from heedful.feedback.conflict import Conflict
from heedful.feedback.dialogue_items import choose as let_go_on
from heedful.feedback.models import Assignment, Dialogue, DialogueTurn, Role, TaskKind
from heedful.feedback.payloads import MAX_COMPLETIONS
from heedful.feedback.rules import rules_of
from heedful.studio import answers, rendering, task
from heedful.studio.access import requires, wants_json
from heedful.studio.asked import json_of
from heedful.studio.dialogue_words import failure, help_keys, words
from heedful.studio.rating_words import skips
from heedful.studio.said import say as sentence
from heedful.studio.said import tell
from heedful.studio.security import limited

log = logging.getLogger(__name__)
View = Callable[..., HttpResponse]
SAYS, SECONDS = 30, 60
"""What a rater may say or ask again in so many seconds."""


def _own(request: Any, key: Any) -> Assignment:
    rows = Assignment.objects.select_related("item__prompt", "item__batch", "slot__guideline")
    found = rows.filter(pk=key, rater=request.rater, item__kind=TaskKind.DIALOGUE).first() if request.rater else None
    if found is None:
        raise Http404
    return found


@requires(Role.RATER)
@require_GET
def page(request: Any, slug: str, assignment: Any) -> HttpResponse:
    """The dialogue as it stands: a reload goes on with the same turn. Looking changes nothing."""
    own = _own(request, assignment)
    found = Dialogue.objects.filter(assignment=own).first()
    if found is not None and found.ended is not None and own.state != "leased":
        return redirect("rate", slug)
    about = {
        "assignment": own,
        "guideline": rendering.markdown(task.guideline_text(own.slot.guideline), top=3),
        "guideline_version": own.slot.guideline.version,
        "conversation": rendering.render_conversation(own.item.prompt.messages[:-1]),
        "skips": skips(),
        "help": help_keys(),
        "words": words(),
        "begun": found is not None and found.ended is None,
    }
    if about["begun"]:
        assert found is not None
        about |= _turns(request, own, found)
    return render(request, "studio/dialogue.html", about)


def _turns(request: Any, own: Assignment, dialogue: Dialogue) -> dict[str, Any]:
    """What `_dialogue_turns.html` shows: letters and texts, no word of the policy."""
    state = talk.state(dialogue)
    turns = [
        {
            "number": turn.number,
            "said": rendering.both(turn.text),
            "state": turn.state,
            "failure": turn.failure,
            "why": failure(turn.failure),
            "chosen": turn.chosen,
            "answers": [
                {"letter": task.LETTERS[i], "index": i, "html": rendering.both(text)}
                for i, text in enumerate(turn.answers)
            ],
        }
        for turn in state.turns
    ]
    last = turns[-1] if turns else None
    return {
        "assignment": own,
        "turns": turns,
        "last": last,
        "state": "speak" if state.may_speak else last["state"] if last else "full",
        "may_end": state.may_end,
        "suggestion": "" if turns else state.suggestion,
        "key": secrets.token_urlsafe(18),
        "strengths": task.strengths(),
        "letters": task.LETTERS[:MAX_COMPLETIONS],
        "rationale_needed": rules_of(request.programme.settings).require_rationale,
    }


def _acting(view: View) -> View:
    """Let the dialogue's own rater in; POST alone; answer a script with the turns as they are now."""

    @requires(Role.RATER)
    @require_POST
    @wraps(view)
    def check(request: Any, slug: str, assignment: Any) -> HttpResponse:
        own = _own(request, assignment)
        try:
            done = view(request, _given(request), own)
        except HeedfulError as error:
            said = {"error": sentence(error.what), "mend": sentence(error.mend), "where": error.where}
            if wants_json(request):
                return JsonResponse(said, status=409 if isinstance(error, Conflict) else 400)
            messages.error(request, tell(error))
            done = None
        if done is not None:
            return done
        return _now(request, own) if wants_json(request) else redirect("dialogue", slug, own.pk)

    return check


def _given(request: Any) -> Mapping[str, Any]:
    """What came, as JSON or as a form.

    Raises:
        HeedfulError: it is no JSON object of texts.
    """
    if request.content_type != "application/json":
        return dict(request.POST.items())
    return answers.fields_of(json_of(request.body))


def _now(request: Any, own: Assignment) -> HttpResponse:
    """The turns as a script takes them."""
    found = Dialogue.objects.filter(assignment=own, ended=None).first()
    if found is None:
        return JsonResponse({"go": reverse("rate", args=[request.programme.slug])})
    about = _turns(request, own, found)
    html = render_to_string("studio/_dialogue_turns.html", about, request)
    return JsonResponse({"state": about["state"], "turn": len(about["turns"]), "html": html})


@requires(Role.RATER)
@require_GET
def turns(request: Any, slug: str, assignment: Any) -> HttpResponse:
    """The turns as they are now, for a page that waits."""
    return _now(request, _own(request, assignment))


@_acting
def begin(request: Any, given: Mapping[str, Any], own: Assignment) -> None:
    """Time starts, and the policy is fixed."""
    work.show(own)
    talk.begin(own)


@limited("dialogue", SAYS, SECONDS)
@_acting
def say(request: Any, given: Mapping[str, Any], own: Assignment) -> None:
    """The rater says something; the endpoint is asked while the page waits."""
    dialogue = _dialogue(own)
    _ask(talk.say(dialogue, str(given.get("text", "")), key=str(given.get("key", ""))))


@limited("dialogue", SAYS, SECONDS)
@_acting
def retry(request: Any, given: Mapping[str, Any], own: Assignment) -> None:
    """Ask again for the answers that are missing."""
    _ask(talk.last_turn(_dialogue(own)))


@_acting
def choose(request: Any, given: Mapping[str, Any], own: Assignment) -> None:
    """One answer goes on."""
    turn = _dialogue(own).turns.filter(index=_whole(given, "turn") - 1).first()
    if turn is None:
        raise Conflict("this turn is not there.", where="turn", mend="Reload the page.")
    if len(turn.order) > 2:
        let_go_on(turn, _whole(given, "choice"))
        return
    said = answers.payload_of("pairwise", answers.fields_of(given), count=2)
    strength = said["strength"]
    place = int(strength > 0) if strength else _whole(given, "goes")
    flags = {name: True for name in ("both_bad", "both_good") if said.get(name)}
    let_go_on(turn, place, strength, **flags)


@_acting
def end(request: Any, given: Mapping[str, Any], own: Assignment) -> HttpResponse:
    """Hand the dialogue in."""
    talk.end(
        _dialogue(own),
        key=f"dialogue:{own.pk}:{given.get('key', '')}",
        item_version=own.item.version,
        rationale=answers.lines(str(given.get("rationale", ""))),
        safety_flag=bool(given.get("safety")),
        active_ms=_whole(given, "active_ms") if given.get("active_ms") else 0,
    )
    there = reverse("rate", args=[request.programme.slug])
    return JsonResponse({"go": there}) if wants_json(request) else redirect(there)


def _dialogue(own: Assignment) -> Dialogue:
    found = Dialogue.objects.filter(assignment=own).select_related("assignment").first()
    if found is None:
        raise Conflict("this dialogue has not begun.", where="dialogue", mend="Reload the page.")
    return found


def _whole(given: Mapping[str, Any], where: str) -> int:
    value = str(given.get(where, ""))
    if not value.isascii() or not value.isdigit() or len(value) > 12:
        raise HeedfulError("this is still open.", where=where)
    return int(value)


def _ask(turn: DialogueTurn) -> None:
    """Have the endpoint asked by a thread of its own, if answers are missing and nobody does so already."""
    lease = None if asking.complete(turn) else asking.take(turn)
    if lease is not None:
        threading.Thread(target=_fill, args=(turn.pk, lease), name="dialogue", daemon=True).start()


def _fill(key: Any, lease: datetime) -> None:
    try:
        asking.fill(DialogueTurn.objects.get(pk=key), lease=lease)
    except Exception:
        log.exception("a dialogue's endpoint could not be asked")
    finally:
        connection.close()
