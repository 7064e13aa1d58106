"""Training runs: the list of them, and one that is watched while it goes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse

from heedful.feedback import freshness, services
from heedful.feedback.models import Batch, Programme, Role
from heedful.feedback.rules import rules_of
from heedful.feedback.wire import BatchStatus
from heedful.studio.access import requires
from heedful.studio.lead.common import Request, page_of
from heedful.studio.lead.runs_data import look, summary, version
from heedful.studio.lead.runs_words import happened, tier_words, verdict_words
from heedful.studio.lead.words import account_name
from heedful.studio.runs.disk import Asking, Run, Runs, Said, Sampled

SECONDS = 3
"""Between two looks of a run's page."""
LIST_SECONDS = 15
"""Between two looks of the list."""
LISTED = 20
"""Runs on a page of the list."""
NAMES = 12
"""Raters who are named."""
SAMPLES = 8
"""Samples that are shown."""


@lru_cache(maxsize=4)
def _runs(root: str) -> Runs:
    return Runs(Path(root))


def runs_here() -> Runs:
    """The runs that this studio shows: below its runs folder, or else its own."""
    root = getattr(settings, "HEEDFUL_RUNS", None) or getattr(settings, "HEEDFUL_FOLDER", None) or "."
    return _runs(str(Path(root).resolve()))


def may_see(request: Request, run: Run) -> bool:
    """Whether a lead may see a run: one that asks their programme's raters.

    One that asks nobody's belongs to no programme: it is shown to who may see all of them.
    """
    if run.programme:
        return run.programme == request.programme.slug
    return request.user.is_superuser or Programme.objects.filter(archived=None).count() == 1


def _run(request: Request, key: str) -> Run | None:
    found = runs_here().named(key)
    return found if found is not None and may_see(request, found) else None


@dataclass(frozen=True)
class Needed:
    """People who are needed: the pairs that a run waits for, and who may judge them."""

    pairs: int
    """Pairs that still want a judgment."""
    places: int
    filled: int
    held: int
    batch: str
    """Empty where the pairs lie in another studio."""
    open: bool
    fresh_only: bool
    fresh: int
    least: int
    raters: int
    names: tuple[str, ...]
    you: bool
    """Whether who looks may judge them."""

    @property
    def more(self) -> int:
        """Raters who may judge, beside those who are named."""
        return (self.fresh if self.fresh_only else self.raters) - len(self.names)


def needed(request: Request, asking: Asking | None) -> Needed | None:
    """Who is needed for what a run asks just now."""
    if asking is None:
        return None
    found = _batch(request.programme, asking.batch)
    if found is None:
        left = asking.places - asking.filled
        return Needed(left, asking.places, asking.filled, 0, "", True, False, 0, 0, 0, (), you=False)
    batch, status = found
    if status.filled >= status.places:
        return None
    who = freshness.look(request.programme)
    accounts = freshness.fresh(request.programme) if status.fresh_only else freshness.able(request.programme)
    rater, rules = request.rater, rules_of(request.programme.settings)
    may = Role.RATER in request.roles and (rater is None or freshness.may_check(rater, batch, rules))
    return Needed(
        min(status.items - status.done - status.parked, status.places - status.filled),
        status.places,
        status.filled,
        status.held,
        status.id,
        status.state == "open",
        status.fresh_only,
        who.fresh,
        freshness.needed(status.quota),
        who.raters,
        tuple(account_name(one) for one in accounts.order_by("username")[:NAMES]),
        you=may,
    )


def _batch(programme: Programme, key: str) -> tuple[Batch, BatchStatus] | None:
    try:
        batch = Batch.objects.filter(programme=programme, pk=key).select_related("programme").first()
    except (ValueError, ValidationError):
        return None
    return None if batch is None else (batch, services.batch_status(batch))


def _listed(request: Request) -> dict[str, Any]:
    seen = [run for run in runs_here().all() if may_see(request, run)]
    page = page_of(request, seen, LISTED)
    return {
        "page": page,
        "rows": [summary(run) for run in page.object_list],
        "seconds": LIST_SECONDS,
        "tiers": tier_words(),
    }


@requires(Role.MANAGER)
def runs(request: Request, slug: str) -> HttpResponse:
    """All runs."""
    return render(request, "studio/lead/runs.html", _listed(request))


@requires(Role.MANAGER)
def runs_part(request: Request, slug: str) -> HttpResponse:
    """The list without the page around it, for the refresh."""
    return render(request, "studio/lead/_runs.html", _listed(request))


def _shown(request: Request, run: Run) -> dict[str, Any]:
    people = needed(request, run.asking)
    address = reverse("run_part", args=[request.programme.slug, run.key])
    found = look(run)
    return {
        "run": run,
        "look": found,
        "needed": people,
        "happened": [(event.step, happened(event), event.fields.get("reason", "")) for event in found.events],
        "tiers": tier_words(),
        "verdicts": verdict_words(),
        "seconds": SECONDS,
        "refresh": f"{address}?seen={version(run, people)}",
    }


@requires(Role.MANAGER)
def run(request: Request, slug: str, key: str) -> HttpResponse:
    """One run."""
    found = _run(request, key)
    if found is None:
        return render(request, "studio/lead/run_gone.html", status=404)
    return render(request, "studio/lead/run.html", _shown(request, found) | _samples(request, found))


@requires(Role.MANAGER)
def run_part(request: Request, slug: str, key: str) -> HttpResponse:
    """One run without the page around it, for the refresh; nothing where there is nothing new."""
    found = _run(request, key)
    if found is None:  # with 200, or the page would go on showing it
        return render(request, "studio/lead/_run_gone.html")
    if request.GET.get("seen") == version(found, needed(request, found.asking)):
        return HttpResponse(status=204)
    return render(request, "studio/lead/_run.html", _shown(request, found))


@requires(Role.MANAGER)
def run_samples(request: Request, slug: str, key: str) -> HttpResponse:
    """A run's samples, for the refresh; nothing where there is nothing new."""
    found = _run(request, key)
    told = {} if found is None else _samples(request, found)
    if found is None or request.GET.get("seen") == told["seen"]:
        return HttpResponse(status=204)
    return render(request, "studio/lead/_run_samples.html", told | {"run": found})


@dataclass(frozen=True)
class Beside:
    """One prompt, and what the policy and the one that it began as said to it."""

    prompt: str
    ours: Said
    start: Said


def _samples(request: Request, run: Run) -> dict[str, Any]:
    """What the policy says, beside what it said when it began; else what the run logged last."""
    people = needed(request, run.asking)
    hidden = people is not None and people.you
    with run.lock:
        done, logged = run.checks()[0], run.samples.look()
        newest = logged[-1].step if logged else 0
        last: list[Sampled] = [one for one in logged[-SAMPLES:] if one.step == newest]
    step = done[-1].step if done else None
    beside = []
    if step is not None and not hidden:
        rows = zip(run.prompts(), run.answers(step), run.answers(0), strict=False)
        beside = [Beside(*row) for row in rows][:SAMPLES]
    seen = f"{step}-{newest}-{int(hidden)}-{len(beside)}"
    address = reverse("run_samples", args=[request.programme.slug, run.key])
    return {
        "beside": beside,
        "sampled": step,
        "hidden": hidden,
        "by_people": bool(run.programme),
        "logged": last,
        "logged_step": newest,
        "seen": seen,
        "samples_address": f"{address}?seen={seen}",
        "samples_seconds": SECONDS,
        "samples_over": run.manifest is not None,
    }
