"""What the pages of training runs show: where a run stands, its curves, its checks, whom it waits for."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from heedful.files import sha256_json
from heedful.monitoring.checks import Check, Contest
from heedful.monitoring.signs import SIGNS
from heedful.studio.lead.runs_words import FIGURES, state_words
from heedful.studio.runs import curves
from heedful.studio.runs.curves import Picture
from heedful.studio.runs.disk import Alarmed, Happened, Row, Run

QUIET = 600.0
"""Seconds after which a run that is not finished is called silent."""
MOST = 40
"""Alarms and events shown, the newest."""
OF_GOLD = ("reward", "kl")
"""Curves that are marked where a fresh check alarms."""


@dataclass(frozen=True)
class Standing:
    """Where a run stands: a word for programs, a word for people, and the badge's colour."""

    name: str
    words: str
    badge: str


@dataclass(frozen=True)
class Curve:
    """One figure over the steps, and what it is now."""

    name: str
    title: str
    note: str
    picture: Picture
    first: str
    now: str
    low: str
    high: str
    described: str


@dataclass(frozen=True)
class Judged:
    """A fresh check that is done."""

    step: int
    kl: str
    start: Contest
    best: Contest | None
    """None where the best so far was the starting policy itself."""
    best_step: int
    judgments: int
    proxy: str
    panel: Any


def standing(run: Run, manifest: dict[str, Any] | None, changed: float, asking: bool) -> Standing:
    """Where a run stands, as far as its files say."""
    if manifest is not None:
        watch = manifest.get("watch")
        if isinstance(watch, dict) and "rolled_back_to" in watch:
            name = "rolled_back"
        else:
            name = "stopped" if "stopped" in manifest else "finished"
    elif asking and run.waits:
        name = "asking"
    else:
        name = "silent" if time.time() - changed > QUIET else "running"
    words, badge = state_words()[name]
    return Standing(name, words, badge)


def heard(changed: float) -> str:
    """When a run was last heard of, in the reader's way of writing."""
    at = datetime.fromtimestamp(changed, UTC)
    return date_format(timezone.localtime(at), "Y-m-d H:i:s")


@dataclass(frozen=True)
class Summary:
    """A run in the list."""

    run: Run
    stage: str
    standing: Standing
    step: int
    steps: int | None
    reward: str
    kl: str
    alarms: int
    gravest: str
    heard: str


def summary(run: Run) -> Summary:
    """A run in the list."""
    with run.lock:
        rows, alarms = run.metrics.look(), run.alarms.look()
        last: Row = rows[-1] if rows else Row(0, {})
        count, tiers = len(alarms), {one.tier for one in alarms}
        changed = run.changed
    reward, kl = (curves.words(last.figures[name]) if name in last.figures else "—" for name in ("reward", "kl"))
    gravest = next((tier for tier in ("stop", "act", "warn") if tier in tiers), "")
    now = standing(run, run.manifest, changed, run.asking is not None)
    return Summary(run, run.stage, now, last.step, run.steps, reward, kl, count, gravest, heard(changed))


@dataclass(frozen=True)
class Look:
    """A run as its page shows it, but for whom it waits for."""

    standing: Standing
    step: int
    steps: int | None
    heard: str
    curves: tuple[Curve, ...]
    checks: tuple[Judged, ...]
    picture: Picture | None
    pending: int | None
    """The step whose answers people still judge."""
    judgments: int
    alarms: tuple[Alarmed, ...]
    events: tuple[Happened, ...]
    reason: str
    """Why it stopped, in its own words."""
    left: dict[str, Any] | None
    """What was still being judged when it ended."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come."""
        return self.standing.name in ("finished", "stopped", "rolled_back")


def version(run: Run, *more: Any) -> str:
    """Another word whenever the run, or what else is shown, is another; finding it draws nothing."""
    with run.lock:
        tails = [tail.look() and (len(tail.rows), tail.changed) for tail in (run.metrics, run.alarms, run.events)]
        checks = [(check.step, check.judgments) for check in run.checks()[0]]
        state = standing(run, run.manifest, run.changed, run.asking is not None)
    return sha256_json([tails, checks, state.name, run.changed, get_language(), repr(more)])[:16]


def look(run: Run) -> Look:
    """A run as it is now."""
    with run.lock:
        rows, alarms, events = list(run.metrics.look()), list(run.alarms.look()), list(run.events.look())
        done, pending = run.checks()
    manifest, changed = run.manifest, run.changed
    last = rows[-1].step if rows else 0
    left = _left(manifest)
    points = [(check.step, *_ends(check.against_start)) for check in done]
    return Look(
        standing(run, manifest, changed, run.asking is not None),
        last,
        run.steps,
        heard(changed),
        tuple(_curves(rows, alarms)),
        tuple(_judged(check) for check in reversed(done)),
        curves.shares(points, max(last, done[-1].step)) if done else None,
        pending if manifest is None else None,
        sum(check.judgments for check in done),
        tuple(reversed(alarms[-MOST:])),
        tuple(reversed(events[-MOST:])),
        str(manifest.get("stopped", "")) if manifest is not None else "",
        left,
    )


def _left(manifest: dict[str, Any] | None) -> dict[str, Any] | None:
    found: Any = manifest
    for name in ("watch", "gold", "left_open"):
        found = found.get(name) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def _ends(contest: Contest) -> tuple[float, float, float]:
    return contest.rate.mean, contest.rate.low, contest.rate.high


def _judged(check: Check) -> Judged:
    proxy = check.against_best.proxy
    return Judged(
        check.step,
        curves.words(check.kl),
        check.against_start,
        None if check.best_step == 0 else check.against_best,
        check.best_step,
        check.judgments,
        _("%(low)s to %(high)s") % {"low": f"{proxy.low:+.2g}", "high": f"{proxy.high:+.2g}"},
        check.panel,
    )


def _curves(rows: Sequence[Row], alarms: Sequence[Alarmed]) -> list[Curve]:
    found = []
    for name, title, note in FIGURES:
        points = [(row.step, row.figures[name]) for row in rows if name in row.figures]
        if not points:
            continue
        values = [value for _step, value in points]
        first, now, low, high = (curves.words(value) for value in (values[0], values[-1], min(values), max(values)))
        described = _("%(title)s from step %(first)s to %(last)s: %(begin)s at first, %(now)s now") % {
            "title": title, "first": points[0][0], "last": points[-1][0], "begin": first, "now": now,
        }  # fmt: skip
        marks = [one.step for one in alarms if _concerns(one.sign, name)]
        picture = curves.line(points, marks)
        found.append(Curve(name, str(title), str(note), picture, first, now, low, high, described))
    return found


def _concerns(sign: str, metric: str) -> bool:
    return metric in OF_GOLD if sign == "gold" else sign in SIGNS and SIGNS[sign].metric == metric
