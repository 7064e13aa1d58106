"""Batches: what is handed out, how many judgments each item gets, until when."""

from __future__ import annotations

from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.db.models import Count
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST

from heedful.errors import HeedfulError
from heedful.feedback import content, events, progress
from heedful.feedback.models import Batch, BatchState, Role
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, own
from heedful.studio.said import tell


class BatchForm(forms.Form):
    """What of a batch may change while it is handed out."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=200)
    priority = forms.IntegerField(
        label=gettext_lazy("Priority"),
        min_value=-1000,
        max_value=1000,
        help_text=gettext_lazy("Batches with a higher one come first. -1000 to 1000."),
    )
    quota_cap = forms.IntegerField(
        label=gettext_lazy("Most judgments of an item"),
        max_value=50,
        help_text=gettext_lazy("Where raters disagree, further ones are asked for up to this many."),
    )
    deadline = forms.DateTimeField(
        label=gettext_lazy("Wanted by"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=gettext_lazy("UTC. The overview says whether the forecast keeps it."),
    )

    def __init__(self, batch: Batch, *given: object, **more: object) -> None:
        names = ("name", "priority", "quota_cap", "deadline")
        super().__init__(*given, initial={name: getattr(batch, name) for name in names}, **more)  # type: ignore[arg-type]
        self.batch = batch
        cap = self.fields["quota_cap"]
        assert isinstance(cap, forms.IntegerField)
        cap.min_value = batch.quota
        cap.widget.attrs["min"] = batch.quota

    def clean_quota_cap(self) -> int:
        """Never below what each item is meant to get."""
        cap = int(self.cleaned_data["quota_cap"])
        if cap < self.batch.quota:
            text = _("Each item gets %(quota)d judgments; the most cannot be fewer.")
            raise forms.ValidationError(text % {"quota": self.batch.quota})
        return cap


def find(request: Request, key: UUID) -> Batch:
    """A batch of the programme; 404 for another's."""
    return own(Batch.objects.select_related("guideline", "programme"), request.programme, key)


@requires(Role.MANAGER)
def batches(request: Request, slug: str) -> HttpResponse:
    """All batches, the newest first, with how far each is."""
    context = {"batches": progress.overview(request.programme).batches}
    return render(request, "studio/lead/batches.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires(Role.MANAGER)
def batch(request: Request, slug: str, batch: UUID) -> HttpResponse:
    """One batch: its state, its counts, what can be changed."""
    found = find(request, batch)
    form = BatchForm(found, request.POST or None)
    if request.method == "POST" and form.is_valid():
        change(found, form, request)
        messages.success(request, _("The batch is changed."))
        return redirect("batch", request.programme.slug, found.pk)
    states = dict(found.items.order_by().values_list("state").annotate(count=Count("pk")))
    context = {
        "batch": found,
        "form": form,
        "states": states,
        "progress": next((row for row in progress.overview(request.programme).batches if row.batch == found), None),
    }
    return render(request, "studio/lead/batch.html", context, status=422 if form.errors else 200)


def change(found: Batch, form: BatchForm, request: Request) -> None:
    """Write what a valid form says."""
    with transaction.atomic():
        for name in ("name", "priority", "quota_cap", "deadline"):
            setattr(found, name, form.cleaned_data[name])
        found.save(update_fields=["name", "priority", "quota_cap", "deadline"])
        events.record("batch.changed", programme=request.programme, actor=request.user, batch=found)


@require_POST
@requires(Role.MANAGER)
def batch_state(request: Request, slug: str, batch: UUID) -> HttpResponse:
    """Open, pause or close it."""
    found = find(request, batch)
    acts = {
        BatchState.OPEN: (content.open_batch, _("The batch is open.")),
        BatchState.PAUSED: (content.pause_batch, _("The batch is paused; what is being worked on may be finished.")),
        BatchState.CLOSED: (content.close_batch, _("The batch is closed; what is being worked on may be finished.")),
    }
    wanted = request.POST.get("state", "")
    if wanted not in acts:
        raise Http404
    act, words = acts[BatchState(wanted)]
    try:
        act(found, actor=request.user)
        messages.success(request, words)
    except HeedfulError as error:
        messages.error(request, tell(error))
    return redirect("batch", request.programme.slug, found.pk)
