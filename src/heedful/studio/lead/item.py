"""One item: what it asks, who said what, and what a manager can do with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from heedful.errors import HeedfulError
from heedful.feedback import adjudication, content, gold, patterns, sight
from heedful.feedback.models import (
    AuditEvent,
    GoldKey,
    Item,
    ItemState,
    Judgment,
    Provenance,
    Rationale,
    Role,
    Skip,
    TaskKind,
)
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.lead.gold_form import GoldForm
from heedful.studio.lead.words import letter, said
from heedful.studio.rendering import both, render_conversation
from heedful.studio.said import tell

WITH_ANSWERS = (TaskKind.PAIRWISE, TaskKind.RANKING, TaskKind.ATTRIBUTES)
"""Tasks that can be gold."""


@dataclass(frozen=True)
class Vote:
    """A judgment as the page shows it."""

    judgment: Judgment
    words: str
    holds: bool
    shown_as: str
    """The order in which the rater saw the answers, in the item's own letters."""
    rationale: str
    adjudicator: bool
    """What an adjudicator said before they saw the votes: no vote itself."""
    written: str = ""
    """Of a demonstration or an edit: the text."""
    provenance: Provenance | None = None
    """Of an AI judge's: how it came about."""


def find(request: Request, key: UUID) -> Item:
    """An item of the programme; 404 for another's."""
    rows = Item.objects.select_related("batch__guideline", "batch__field_intake", "prompt", "programme")
    return own(rows, request.programme, key)


def _from_use(shown: Item) -> bool:
    """Whether it is an end user's, whom nobody asked: it is neither decided nor made gold."""
    return hasattr(shown.batch, "field_intake")


@requires(Role.MANAGER)
def item(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Everything about one item. Policies stand here, so raters never come here."""
    return page(request, find(request, item))


def page(request: Request, shown: Item, form: GoldForm | None = None, status: int = 200) -> HttpResponse:
    """The item's page, with the form for gold as it is or as it was sent."""
    key = GoldKey.objects.filter(item=shown).first()
    folded = _folded(request, shown)
    verdict = None if folded else adjudication.standing(shown)
    able = shown.kind in WITH_ANSWERS and shown.state != ItemState.WITHDRAWN and not _from_use(shown)
    if form is None and able:
        suggested = gold.patterns_of(shown, verdict.verdict) if verdict is not None and verdict.verdict else []
        initial = GoldForm.of_key(key) if key else GoldForm.start(shown, suggested, verdict.reason if verdict else "")
        form = GoldForm(shown, initial=initial)
    entries = shown.entries.select_related("completion__author__account").order_by("index")
    context = {
        "item": shown,
        "from_use": _from_use(shown),
        "conversation": render_conversation(shown.prompt.messages),
        "entries": [(letter(entry.index), entry.completion, both(entry.completion.text)) for entry in entries],
        "folded": folded,
        "may_adjudicate": bool(folded) and adjudication.may_adjudicate(shown, request.user),
        "votes": [] if folded else votes_of(shown),
        "skips": [] if folded else _skips(shown).select_related("assignment__rater__account"),
        "history": _history(shown),
        "key": key,
        "accepted": [patterns.words(shown.kind, one, ()) for one in key.acceptable] if key else [],
        "verdict": verdict,
        "verdict_words": said(shown.kind, verdict.verdict) if verdict is not None and verdict.verdict else "",
        "form": form,
    }
    return render(request, "studio/lead/item.html", context, status=status)


def _folded(request: Request, shown: Item) -> str:
    """Why what raters said is not on this reader's page; empty where it is, or where they said nothing.

    "begun": they judged it to decide it; "before": it lies before them to be judged; "may": they may decide it yet.
    """
    if _from_use(shown) or sight.sees_votes(shown, request.user):
        return ""
    if not (shown.judgments.exists() or _skips(shown).exists()):
        return ""
    if shown.adjudications.filter(adjudicator=request.user, decided=None).exists():
        return "begun"
    return "before" if request.rater is not None and sight.before_them(shown, request.rater) else "may"


def _skips(shown: Item) -> QuerySet[Skip]:
    return Skip.objects.filter(assignment__item=shown)


def votes_of(shown: Item) -> list[Vote]:
    """All judgments of an item, the newest first; the first of them hold."""
    related = ("rater__account", "guideline", "current", "adjudication", "provenance")
    texts = ("demonstration__completion", "edit__completion")
    rows = shown.judgments.select_related(*related, *texts).order_by("-created", "-pk")
    notes: Mapping[UUID, str] = dict(
        Rationale.objects.filter(judgment__item=shown, erased=None).values_list("judgment", "text")
    )
    votes = [
        Vote(
            row,
            _("taken back") if row.retracts else said(row.kind, row.payload),
            hasattr(row, "current"),
            _order(row.order),
            notes.get(row.pk, ""),
            hasattr(row, "adjudication"),
            _written(row),
            getattr(row, "provenance", None),
        )
        for row in rows
    ]
    return sorted(votes, key=lambda vote: (not vote.holds, not vote.adjudicator))


def _written(row: Judgment) -> str:
    for name in ("demonstration", "edit"):
        if hasattr(row, name):
            return str(getattr(row, name).completion.text)
    return ""


def _order(order: Sequence[int]) -> str:
    return " ".join(letter(index) for index in order)


def _history(shown: Item) -> list[AuditEvent]:
    """What happened to the item itself. Its judgments stand in their own table."""
    rows = AuditEvent.objects.filter(programme=shown.programme_id, ids__item=str(shown.pk))
    return list(rows.exclude(kind__startswith="assignment.").order_by("-seq")[:50])


def _done(request: Request, shown: Item, act: Callable[[], Any], what: str) -> HttpResponse:
    try:
        act()
    except HeedfulError as error:
        messages.error(request, tell(error))
    else:
        messages.success(request, what)
    return redirect("item", request.programme.slug, shown.pk)


@require_POST
@requires(Role.MANAGER)
def votes(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Show what raters said to somebody who leaves the verdict to others, which is written down."""
    shown = find(request, item)
    what = _("These are the votes. The verdict of this item is for others now.")
    return _done(request, shown, lambda: sight.give_up(shown, request.user), what)


@require_POST
@requires(Role.MANAGER)
def withdraw(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Take the item out for good."""
    shown = find(request, item)
    what = _("The item is withdrawn. Its judgments stay.")
    return _done(request, shown, lambda: content.withdraw_item(shown, actor=request.user), what)


@require_POST
@requires(Role.MANAGER)
def park(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Hand the item to nobody for now."""
    shown = find(request, item)
    what = _("The item is parked.")
    return _done(request, shown, lambda: content.park_item(shown, actor=request.user), what)


@require_POST
@requires(Role.MANAGER)
def unpark(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Hand a parked item out again."""
    shown = find(request, item)
    what = _("The item is handed out again; raters who passed it do not get it.")
    return _done(request, shown, lambda: content.unpark_item(shown, actor=request.user), what)


@require_POST
@requires(Role.MANAGER)
def reopen(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Ask one more rater about a finished item."""
    shown = find(request, item)
    what = _("One more judgment is asked for.")
    return _done(request, shown, lambda: content.reopen_item(shown, actor=request.user), what)


@require_POST
@requires(Role.MANAGER)
def promote(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Make the item gold, or correct its key."""
    shown = find(request, item)
    if shown.kind not in WITH_ANSWERS:
        messages.error(request, _("Only comparisons, rankings and attributes have right answers."))
        return redirect("item", slug, shown.pk)
    form = GoldForm(shown, request.POST)
    if form.is_valid():
        given = (form.acceptable(), form.cleaned_data["reason"])
        try:
            if form.key is not None:
                gold.revise(form.key, *given, actor=request.user)
                messages.success(request, _("The key is changed, and what it scored is scored anew."))
            else:
                gold.promote(shown, *given, actor=request.user, adjudication=adjudication.standing(shown))
                messages.success(request, _("The item is gold: it looks like any other, and is never exported."))
            return redirect("item", slug, shown.pk)
        except HeedfulError as error:
            blame(form, error, {"strength": "low", "best": "best", "above": "best"})
    return page(request, shown, form, status=422)


@require_POST
@requires(Role.MANAGER)
def retire(request: Request, slug: str, item: UUID) -> HttpResponse:
    """Show a gold item no more."""
    shown = find(request, item)
    key = GoldKey.objects.filter(item=shown).first()
    if key is None:
        messages.error(request, _("The item is not gold."))
        return redirect("item", slug, shown.pk)
    what = _("The gold item is shown no more.")
    return _done(request, shown, lambda: gold.retire(key, actor=request.user), what)
