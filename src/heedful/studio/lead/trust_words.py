"""What the figures of trust are called on a page."""

from __future__ import annotations

import math
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from heedful.core.rater_cards import Measured, RaterCard
from heedful.core.statistics import Interval
from heedful.feedback import judgment_table as views

ASPECTS = {
    views.COMPARED: gettext_lazy("Comparisons, a tie an answer of its own"),
    views.DECIDED: gettext_lazy("Comparisons, ties left out"),
    views.STRONG: gettext_lazy("Comparisons, by how much better"),
    views.RANKED: gettext_lazy("Rankings, pair by pair"),
}
PARTS = {
    "person": gettext_lazy("People"),
    "ai": gettext_lazy("AI judges"),
    "simulated": gettext_lazy("Simulated raters"),
    "people with machines": gettext_lazy("People with machines"),
}
WEIGHTS = {
    "act": gettext_lazy("talk now"),
    "look": gettext_lazy("look closer"),
    "fine": gettext_lazy("nothing stands out"),
    "few": gettext_lazy("too few judgments to say"),
}
"""How much attention a rater needs."""


def aspect(name: str) -> str:
    """What raters can agree on; an attribute keeps its own name."""
    return str(ASPECTS.get(name, name))


def part(name: str) -> str:
    """Which raters."""
    return str(PARTS.get(name, name))


def topic(name: str) -> str:
    """What a group may like more than others do."""
    if name == views.LONGER:
        return _("the longer answer")
    if name == views.TIE:
        return _("a tie")
    for start, words in ((views.ANSWERS_OF, _("answers of %(name)s")), (views.POINTS_FOR, _("points for %(name)s"))):
        if name.startswith(start):
            return words % {"name": name.removeprefix(start)}
    return name


def percent(share: float) -> str:
    """ "71%"; a dash where it is not defined."""
    return f"{share:.0%}" if math.isfinite(share) else "—"


def number(value: float) -> str:
    """Two decimals; a dash where it is not defined."""
    return f"{value:.2f}".replace("-", "−") if math.isfinite(value) else "—"


def ends(interval: Interval | None, say: Any = percent) -> str:
    """ "68% to 74%"; empty where there are none."""
    if interval is None or not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return ""
    return _("%(low)s to %(high)s") % {"low": say(interval.low), "high": say(interval.high)}


def measures(card: RaterCard) -> list[tuple[str, str, str, str]]:
    """What was measured of a rater: (what, figure, its interval, over how many)."""

    def shared(name: str, found: Measured | None) -> list[tuple[str, str, str, str]]:
        return [] if found is None else [(name, percent(found.share.mean), ends(found.share), str(found.of))]

    rows = shared(_("Right on gold"), card.gold)
    rows += shared(_("Says what most of the others say"), card.others)
    rows += shared(_("Says the same of an item shown again"), card.self_consistency)
    rows += shared(_("Prefers what is shown first"), card.first_shown)
    if card.speed_factor is not None and math.isfinite(card.speed_factor):
        rows.append((_("Time, beside others at like work"), f"{card.speed_factor:.1f}×", "", ""))
    if card.longest_run is not None:
        length = str(card.longest_run.length)
        rows.append((_("Longest row of one place"), str(card.longest_run.longest), "", length))
    if card.drift is not None:
        early, late = percent(card.drift.early), percent(card.drift.late)
        rows.append((_("Hits, early and late"), f"{early} → {late}", "", str(card.drift.judgments)))
    return rows
