"""From a file to the first item, step by step; nothing is in the store before the last.

Going back keeps what was entered. The last step publishes the rubric if it was changed, stages the batch and opens it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from django.contrib import messages
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import imports
from heedful.feedback.import_plan import MAX_ITEMS, RAW, Plan
from heedful.feedback.import_source import Source
from heedful.feedback.models import Purpose, Role, TaskKind
from heedful.feedback.programmes import newest_guideline
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, blame
from heedful.studio.lead.guideline_forms import AttributeFormSet, attribute_rows, attributes_in
from heedful.studio.lead.invitations import InvitationForm, make
from heedful.studio.lead.programmes import may_create
from heedful.studio.lead.wizard_end import expected, expected_of, open_now, preview_of
from heedful.studio.lead.wizard_forms import (
    MAX_UNPACKED,
    ColumnsForm,
    FileForm,
    QuotaForm,
    RubricForm,
    TaskForm,
    task_cards,
)
from heedful.studio.lead.wizard_state import WizardState
from heedful.studio.rendering import markdown
from heedful.studio.said import say, tell
from heedful.studio.security import limited

STEPS: dict[str, Any] = {
    "file": gettext_lazy("File"),
    "columns": gettext_lazy("Columns"),
    "task": gettext_lazy("Task"),
    "rubric": gettext_lazy("Guideline"),
    "preview": gettext_lazy("Preview"),
    "expect": gettext_lazy("What to expect"),
    "invite": gettext_lazy("Invite and open"),
}
ORDER = list(STEPS)
QUEUED = (Purpose.TRAIN, Purpose.CHECK)
"""Purposes whose items go to whoever is next; of the others everybody is given each item."""


@dataclass(frozen=True)
class Step:
    """A step in the list above each page."""

    name: str
    title: str
    here: bool
    done: bool
    open: bool


def reached(state: WizardState) -> str:
    """The furthest step that may be opened."""
    if not state.get("file"):
        return "file"
    done = state.get("done", [])
    return next((name for name in ORDER if name not in done), ORDER[-1])


def steps(state: WizardState, here: str) -> list[Step]:
    """All steps, with what may be clicked."""
    last = ORDER.index(reached(state))
    done = state.get("done", [])
    return [
        Step(name, str(title), name == here, name in done and name != here, i <= last)
        for i, (name, title) in enumerate(STEPS.items())
    ]


def _finish(request: Request, state: WizardState, name: str, *, anew: bool = False, **kept: Any) -> HttpResponse:
    """Keep a step's answers and go on; where they are others than before, what follows is asked again."""
    before = ORDER[: ORDER.index(name)] if anew else state.get("done", [])
    state.save(done=[*(one for one in before if one != name), name], **kept)
    return redirect("wizard_step", request.programme.slug, ORDER[ORDER.index(name) + 1])


def _page(request: Request, state: WizardState, name: str, status: int = 200, **context: Any) -> HttpResponse:
    at = ORDER.index(name)
    back = ORDER[at - 1] if at else ""
    context |= {"steps": steps(state, name), "step": name, "back": back, "file_name": state.get("file_name", "")}
    return render(request, f"studio/lead/wizard_{name}.html", context, status=status)


def looked_at(request: Request, state: WizardState, task: str | None = None, *, mapped: bool = True) -> Plan:
    """The dry run of the upload, as it is mapped now or as it is proposed.

    Raises:
        HeedfulError: the mapping or the task is none.
    """
    file = state.file()
    if file is None:
        raise HeedfulError(_("There is no file yet."), where="file")
    source = Source(file[0], data=file[1])
    mapping = state.get("mapping") if mapped else None
    return _dry_run(request, source, mapping, task)


def _dry_run(
    request: Request, source: Source, mapping: Mapping[str, str] | None = None, task: str | None = None
) -> Plan:
    """The dry run within what a page may cost: so many bytes, unpacked, and so many rows."""
    return imports.plan(source, mapping, task, programme=request.programme, limit=MAX_UNPACKED, most=MAX_ITEMS)


@requires(Role.MANAGER)
def wizard(request: Request, slug: str) -> HttpResponse:
    """Where one left off."""
    return redirect("wizard_step", slug, reached(WizardState(request, request.programme)))


@limited("wizard", 200, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def wizard_step(request: Request, slug: str, step: str) -> HttpResponse:
    """One step; one that cannot be opened yet leads to the one that is next."""
    if step not in STEPS:
        raise Http404
    state = WizardState(request, request.programme)
    if ORDER.index(step) > ORDER.index(reached(state)):
        return redirect("wizard_step", slug, reached(state))
    return HANDLERS[step](request, state)


def _file(request: Request, state: WizardState) -> HttpResponse:
    form = FileForm(request.POST or None, request.FILES or None)
    found: Plan | None = None
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data["file"]
        name, data = PurePath(given.name).name[:200], given.read()
        try:
            found = _dry_run(request, Source(name, data=data))
        except HeedfulError as error:
            blame(form, HeedfulError(error.what, where="file", mend=error.mend))
        else:
            if found.format == RAW or found.columns:
                state.keep_file(name, data)
                if found.format != RAW:
                    return _finish(request, state, "file", anew=True, raw=False)
                state.save(raw=True, done=[])
                return redirect("wizard_step", request.programme.slug, "file")
            form.add_error("file", _("Nothing in it can be read."))
    elif request.method == "POST" and state.get("file") and not request.FILES and not state.get("raw"):
        return _finish(request, state, "file")  # go on with the file that is here
    status = 422 if form.errors else 200
    context = {"form": form, "plan": found, "raw": bool(state.get("raw")), "may_create": may_create(request.user)}
    return _page(request, state, "file", status, **context)


def _columns(request: Request, state: WizardState) -> HttpResponse:
    proposed = looked_at(request, state, mapped=False)
    found = looked_at(request, state)
    form = ColumnsForm(found, found.mapping, request.POST or None)
    if request.method == "POST" and form.is_valid():
        chosen = form.chosen()
        mapping = {target: "" for target in proposed.mapping if target not in chosen} | chosen
        source = Source(state["file_name"], data=(state.file() or ("", b""))[1])
        try:
            found = _dry_run(request, source, mapping)
        except HeedfulError as error:
            form.add_error(None, f"{say(error.what)} {say(_in_web_words(error.mend))}".strip())
        else:
            act, changed = request.POST.get("act", ""), mapping != state.get("mapping")
            if act == "on" or (act != "look" and not found.problem_count):
                return _finish(request, state, "columns", anew=changed, mapping=mapping)
            state.save(mapping=mapping, done=["file"] if changed else state.get("done"))
    status = 422 if request.method == "POST" and (form.errors or found.problem_count) else 200
    silent = bool(found.preview) and not any(draft.answers for draft in found.preview)
    return _page(request, state, "columns", status, form=form, plan=found, no_answers=silent)


def _in_web_words(mend: str) -> str:
    """A mend without the command line's flags."""
    return "" if "--map" in mend else mend


def _task(request: Request, state: WizardState) -> HttpResponse:
    suggested = looked_at(request, state)
    start = {
        "task": state.get("task") or suggested.task or TaskKind.PAIRWISE,
        "batch_name": state.get("batch_name") or PurePath(state["file_name"]).name.split(".")[0][:200],
        "purpose": state.get("purpose", "train"),
        "again": state.get("again", False),
    }
    form = TaskForm(request.POST or None, initial=start)
    found = suggested
    if request.method == "POST" and form.is_valid():
        given = form.cleaned_data
        found = looked_at(request, state, given["task"])
        before = imports.earlier(request.programme, found)
        if before is not None and not given["again"]:
            form.add_error("again", _("This file is here already, as the batch “%(name)s”.") % {"name": before.name})
        elif given["task"] == TaskKind.DIALOGUE and not request.programme.endpoints.filter(retired=None).exists():
            form.add_error("task", _("Dialogues need a policy endpoint: an admin adds one under Settings."))
        elif not found.problem_count:
            changed = given["task"] != state.get("task")
            return _finish(request, state, "task", anew=changed, items=found.items, **given)
    before = imports.earlier(request.programme, found)
    if before is None:
        del form.fields["again"]
    status = 422 if request.method == "POST" else 200
    context = {"form": form, "plan": found, "cards": task_cards(), "chosen": form["task"].value()}
    return _page(request, state, "task", status, **context)


def _attributes(request: Request, start: list[dict[str, Any]]) -> Any:
    """The rubric's attributes as they are, or as they were sent: a row sent as it was is no empty one."""
    if request.method == "POST":
        return AttributeFormSet(request.POST, prefix="attribute")
    return AttributeFormSet(initial=start, prefix="attribute")


def _rubric(request: Request, state: WizardState) -> HttpResponse:
    newest = newest_guideline(request.programme)
    scored = state["task"] == TaskKind.ATTRIBUTES
    form = RubricForm(request.POST or None, initial={"markdown": state.get("markdown") or newest.markdown})
    start = attribute_rows(state.get("attributes") if state.get("attributes") is not None else newest.attributes)
    formset = _attributes(request, start) if scored else None
    if request.method == "POST" and form.is_valid() and (formset is None or formset.is_valid()):
        kept = {"markdown": form.cleaned_data["markdown"]}
        if formset is None:
            return _finish(request, state, "rubric", **kept)
        attributes = attributes_in(formset)
        if attributes:
            return _finish(request, state, "rubric", **kept, attributes=attributes)
        form.add_error(None, _("Give one attribute or more: raters are to score them."))
    status = 422 if request.method == "POST" else 200
    html = markdown(form["markdown"].value() or "", top=3)
    return _page(request, state, "rubric", status, form=form, formset=formset, html=html, newest=newest)


def _preview(request: Request, state: WizardState) -> HttpResponse:
    if request.method == "POST":
        return _finish(request, state, "preview")
    found = looked_at(request, state, state["task"])
    count = max(1, len(found.preview))
    given = request.GET.get("n", "1")
    number = int(given) if given in {str(n) for n in range(1, count + 1)} else 1
    newest = newest_guideline(request.programme)
    context = {
        "task": preview_of(found, number, state, newest),
        "number": number,
        "numbers": range(1, count + 1),
        "version": newest.version + (state["markdown"] != newest.markdown),
    }
    return _page(request, state, "preview", **context)


def _expect(request: Request, state: WizardState) -> HttpResponse:
    start = {"quota": state.get("quota", 1), "quota_cap": state.get("quota_cap", 1)}
    form = QuotaForm(request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        return _finish(request, state, "expect", **form.cleaned_data)
    status = 422 if request.method == "POST" else 200
    figures = expected(request.programme, state["items"], start["quota"], start["quota_cap"])
    context = {"form": form, "alone": state["purpose"] not in QUEUED, **figures}
    return _page(request, state, "expect", status, **context)


@require_POST
@requires(Role.MANAGER)
def wizard_estimate(request: Request, slug: str) -> HttpResponse:
    """What so many judgments ask for, while the figures are typed. Keeps nothing."""
    state = WizardState(request, request.programme)
    form = QuotaForm(request.POST)
    if not form.is_valid() or not state.get("items"):
        return render(request, "studio/lead/_estimate.html", {"estimate": None})
    return render(
        request, "studio/lead/_estimate.html", expected(request.programme, state["items"], **form.cleaned_data)
    )


def _invite(request: Request, state: WizardState) -> HttpResponse:
    admin = Role.ADMIN in request.roles
    form = InvitationForm(request.POST or None, admin=admin)
    shown = make(request, form) if request.method == "POST" and form.is_valid() else None
    context = {
        "form": form if shown is None else InvitationForm(admin=admin),
        "shown": shown,
        "chosen": {name: state.get(name) for name in ("batch_name", "items", "quota", "quota_cap")},
        **expected_of(request.programme, state),
    }
    return _page(request, state, "invite", 422 if form.errors else 200, **context)


@require_POST
@requires(Role.MANAGER)
def wizard_open(request: Request, slug: str) -> HttpResponse:
    """Write it all: rubric, batch, items, places; then open. Two clicks do it once."""
    state = WizardState(request, request.programme)
    if reached(state) != ORDER[-1]:
        return redirect("wizard", slug)
    if not state.claim():
        return redirect("overview", slug)
    try:
        batch = open_now(request, state, looked_at(request, state, state["task"]))
    except HeedfulError as error:
        state.put_back()
        messages.error(request, tell(error, place=True))
        return redirect("wizard_step", slug, "invite")
    state.clear()
    text = _("“%(name)s” is open: %(count)d items wait for raters.")
    messages.success(request, text % {"name": batch.name, "count": batch.items.count()})
    if batch.purpose in (Purpose.QUALIFICATION, Purpose.GOLD):
        messages.info(
            request, _("Now say on each item's page which answers are right: only then is it given to raters.")
        )
        return redirect(reverse("items", args=[slug]) + f"?batch={batch.pk}")
    return redirect("calibration" if batch.purpose == Purpose.CALIBRATION else "overview", slug)


@require_POST
@requires(Role.MANAGER)
def wizard_leave(request: Request, slug: str) -> HttpResponse:
    """Forget the upload and all that was said of it."""
    WizardState(request, request.programme).clear()
    return redirect("overview", slug)


@require_POST
@requires(Role.MANAGER)
def wizard_restore(request: Request, slug: str) -> HttpResponse:
    """Make a programme of its own of a raw export."""
    state = WizardState(request, request.programme)
    if not state.get("raw") or not may_create(request.user):
        raise Http404
    try:
        made = imports.restore(looked_at(request, state, mapped=False), admin=request.user, actor=request.user)
    except HeedfulError as error:
        messages.error(request, tell(error, place=True))
        return redirect("wizard_step", slug, "file")
    state.clear()
    messages.success(request, _("The programme is here, whole."))
    return redirect("overview", made.slug)


HANDLERS: dict[str, Callable[[Request, WizardState], HttpResponse]] = {
    "file": _file,
    "columns": _columns,
    "task": _task,
    "rubric": _rubric,
    "preview": _preview,
    "expect": _expect,
    "invite": _invite,
}
