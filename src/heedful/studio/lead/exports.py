"""What people judged, out: choose, count, fetch. And snapshots: which judgments a training run read."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import FileResponse, Http404, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.core.consensus import METHODS
from heedful.errors import HeedfulError
from heedful.feedback import exports as service
from heedful.feedback import snapshots as snapshot_service
from heedful.feedback.export_votes import SHARE
from heedful.feedback.models import Batch, Programme, Purpose, RaterKind, Role, Snapshot
from heedful.studio.access import requires
from heedful.studio.lead import export_files
from heedful.studio.lead.common import Request, blame, own
from heedful.studio.said import say
from heedful.studio.security import limited

FORMATS = (
    ("trl-preference", gettext_lazy("Preferences for TRL: prompt, chosen, rejected; ties in a file beside")),
    ("heedful", gettext_lazy("Preferences for heedful: both answers with the probability of each, ties too")),
    ("ranking", gettext_lazy("Rankings: all answers with their ranks, a row a rater")),
    ("unpaired", gettext_lazy("Unpaired: one answer, good or bad")),
    ("sft", gettext_lazy("SFT: demonstrations and corrected answers")),
    ("prompt-only", gettext_lazy("Prompts only")),
    ("raw", gettext_lazy("Everything, lossless, to be imported again")),
)
MARGINS = (
    ("none", gettext_lazy("none")),
    ("strength", gettext_lazy("strength: 1, 2 or 3, the mean of the votes")),
    ("scaled", gettext_lazy("scaled: the strength over 3, so 0 to 1")),
)
CONSENSUS = {
    "share": gettext_lazy("the share of the votes"),
    "majority": gettext_lazy("the majority: 1, 0, or a half where votes balance"),
    "weighted": gettext_lazy("votes weighed by how often raters agree with gold, or with the others"),
    "dawid-skene": gettext_lazy("Dawid and Skene: each rater's own errors"),
    "mace": gettext_lazy("MACE: who knows, and who guesses"),
    "rater-aware": gettext_lazy("rater-aware: care, position and length of each rater"),
}
"""What each of `heedful.core.consensus.METHODS` is called."""


class Chosen(forms.Form):
    """Which judgments: batches, rounds, kinds of raters."""

    batches = forms.ModelMultipleChoiceField(
        label=gettext_lazy("Batches"),
        queryset=Batch.objects.none(),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all."),
    )
    raters = forms.MultipleChoiceField(
        label=gettext_lazy("Judged by"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None ticked: all."),
    )
    include_surplus = forms.BooleanField(
        label=gettext_lazy("With surplus judgments"),
        required=False,
        help_text=gettext_lazy("Those that came when their place was taken."),
    )

    def __init__(self, programme: Programme, *given: object, **more: object) -> None:
        super().__init__(*given, **more)  # type: ignore[arg-type]
        batches, raters = self.fields["batches"], self.fields["raters"]
        assert isinstance(batches, forms.ModelMultipleChoiceField)
        assert isinstance(raters, forms.MultipleChoiceField)
        batches.queryset = programme.batches.filter(purpose=Purpose.TRAIN).order_by("-created")
        batches.label_from_instance = lambda one: one.name  # type: ignore[attr-defined]
        raters.choices = [(value, _(label)) for value, label in RaterKind.choices]

    def filters(self) -> dict[str, Any]:
        """What a valid form says, as the services take it."""
        given = self.cleaned_data
        return {
            "batches": list(given["batches"]) or None,
            "raters": given["raters"] or None,
            "include_surplus": given["include_surplus"],
        }


class ExportForm(Chosen):
    """A format, and what it says."""

    format = forms.ChoiceField(
        label=gettext_lazy("Format"), choices=FORMATS, initial="trl-preference", widget=forms.RadioSelect
    )
    margin = forms.ChoiceField(
        label=gettext_lazy("Margin"),
        choices=MARGINS,
        required=False,
        help_text=gettext_lazy("Of preferences: how a strength becomes a margin."),
    )
    consensus = forms.ChoiceField(
        label=gettext_lazy("Probability by"),
        choices=[(name, CONSENSUS[name]) for name in METHODS],
        required=False,
        help_text=gettext_lazy(
            "Of preferences. All but the share and the majority weigh raters by what they said, also of gold; with one "
            "judgment an item and no gold they know no more than the share."
        ),
    )
    attribute = forms.ChoiceField(
        label=gettext_lazy("Compare scored answers by"),
        required=False,
        help_text=gettext_lazy("Of the attributes task. Not chosen: scored answers are left out."),
    )
    adjudicated = forms.BooleanField(
        label=gettext_lazy("Verdicts in place of votes"),
        required=False,
        help_text=gettext_lazy("Where an adjudicator decided. Unticked: the votes as they are."),
    )
    best = forms.BooleanField(
        label=gettext_lazy("SFT: preferred answers too"),
        required=False,
        help_text=gettext_lazy("The winners of comparisons and rankings, besides what people wrote."),
    )
    snapshot = forms.ModelChoiceField(
        label=gettext_lazy("Exactly a snapshot"),
        queryset=Snapshot.objects.none(),
        required=False,
        empty_label="—",
        help_text=gettext_lazy("Its judgments, whatever came since; the same bytes each time."),
    )
    packed = forms.BooleanField(label=gettext_lazy("Packed (.gz)"), required=False)

    def __init__(self, programme: Programme, *given: object, **more: object) -> None:
        super().__init__(programme, *given, **more)
        attribute, snapshot = self.fields["attribute"], self.fields["snapshot"]
        assert isinstance(attribute, forms.ChoiceField)
        assert isinstance(snapshot, forms.ModelChoiceField)
        names = {str(one["name"]) for rubric in programme.guidelines.all() for one in rubric.attributes}
        attribute.choices = [("", "—"), ("mean", _("the mean of all")), *((name, name) for name in sorted(names))]
        snapshot.queryset = programme.snapshots.filter(training=True).order_by("-created")
        snapshot.label_from_instance = lambda one: one.name  # type: ignore[attr-defined]
        self.order_fields(
            [
                "format",
                "consensus",
                "margin",
                "attribute",
                "adjudicated",
                "best",
                "batches",
                "raters",
                "include_surplus",
            ]
        )

    def options(self) -> dict[str, Any]:
        """What a valid form says, as `heedful.feedback.exports.export` takes it."""
        given = self.cleaned_data
        names = ("attribute", "adjudicated", "best", "snapshot")
        chosen = {"margin": given["margin"] or "none", "consensus": given["consensus"] or SHARE}
        return self.filters() | {name: given[name] for name in names} | chosen


@limited("export", 30, 300)
@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def export(request: Request, slug: str) -> HttpResponse:
    """The form; what it asks for is written, counted, and waits to be fetched for an hour."""
    start = {"snapshot": request.GET.get("snapshot"), "format": "trl-preference", "margin": "none", "consensus": SHARE}
    form = ExportForm(request.programme, request.POST or None, initial=start)
    if request.method == "POST" and form.is_valid():
        ending = ".jsonl.gz" if form.cleaned_data["packed"] else ".jsonl"
        name = form.cleaned_data["format"]
        folder = export_files.new_folder()
        try:
            out = folder / f"{request.programme.slug}-{name}{ending}"
            report = service.export(request.programme, name, out, actor=request.user, **form.options())
        except HeedfulError as error:
            shutil.rmtree(folder, ignore_errors=True)
            blame(form, error, {"include-surplus": "include_surplus"})
        else:
            ready = export_files.keep(request, request.programme, folder, report)
            return redirect("export_ready", request.programme.slug, ready.key)
    return render(request, "studio/lead/export.html", {"form": form}, status=422 if form.errors else 200)


def _ready(request: Request, key: str) -> export_files.Ready:
    found = export_files.find(request, request.programme, key)
    if found is None:
        raise Http404(_("This export is no longer there. Make it again."))
    return found


@requires(Role.MANAGER)
def export_ready(request: Request, slug: str, key: str) -> HttpResponse:
    """What was written and what was left out, with its files."""
    ready = _ready(request, key)
    consensus = CONSENSUS.get(ready.report.get("consensus", ""), "")
    return render(request, "studio/lead/export_ready.html", {"ready": ready, "consensus": consensus})


@requires(Role.MANAGER)
def export_file(request: Request, slug: str, key: str, name: str) -> HttpResponseBase:
    """One file of an export, streamed."""
    ready = _ready(request, key)
    if name not in [known for known, _size in ready.files]:
        raise Http404
    kind = "application/gzip" if name.endswith(".gz") else "application/jsonl"
    return FileResponse(open(Path(ready.folder) / name, "rb"), as_attachment=True, filename=name, content_type=kind)


class SnapshotForm(Chosen):
    """A snapshot of what holds now."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200)
    field_order = ("name",)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def snapshots(request: Request, slug: str) -> HttpResponse:
    """Snapshots, and the form for a new one."""
    form = SnapshotForm(request.programme, request.POST or None)
    if request.method == "POST" and form.is_valid():
        filters = {name: value for name, value in form.filters().items() if value}
        try:
            made = snapshot_service.create_snapshot(
                request.programme, form.cleaned_data["name"], filters=filters, author=request.user
            )
        except HeedfulError as error:
            blame(form, error)
        else:
            messages.success(request, _("The snapshot lists %(count)d judgments.") % {"count": made.count})
            return redirect("snapshots", request.programme.slug)
    rows = request.programme.snapshots.select_related("author").order_by("-created")
    context = {"form": form, "rows": rows}
    return render(request, "studio/lead/snapshots.html", context, status=422 if form.errors else 200)


@require_POST
@requires(Role.MANAGER)
def snapshot_verify(request: Request, slug: str, snapshot: UUID) -> HttpResponse:
    """Reckon its hash again."""
    found = own(Snapshot.objects.all(), request.programme, snapshot)
    wrong = snapshot_service.verify(found)
    for sentence in wrong:
        messages.error(request, f"{found.name}: {say(sentence)}")
    if not wrong:
        messages.success(request, _("%(name)s is as it was made.") % {"name": found.name})
    return redirect("snapshots", request.programme.slug)
