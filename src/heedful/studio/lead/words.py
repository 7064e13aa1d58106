"""Judgments, people and durations in words, for the lead's pages."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from heedful.feedback.models import Account, Rater, RaterKind, TaskKind

LETTERS = "ABCDEFGHI"
HASH = re.compile(r"[0-9a-f]{64}")
"""The name of an end user, whose key is known as a keyed hash alone."""


def letter(index: int) -> str:
    """The letter of an item's index, in its own order."""
    return LETTERS[index]


def said(kind: str, payload: Mapping[str, Any]) -> str:
    """What a judgment says, in the letters of the item's own order. Raters saw them in another."""
    if kind == TaskKind.PAIRWISE:
        return _pairwise(payload)
    if kind == TaskKind.RANKING:
        return _ranking(payload["ranks"])
    if kind == TaskKind.ATTRIBUTES:
        rows = [", ".join(f"{name} {value}" for name, value in sorted(row.items())) for row in payload["scores"]]
        return "; ".join(f"{letter(i)}: {row}" for i, row in enumerate(rows))
    if kind == TaskKind.THUMB:
        return _("thumb up") if payload["up"] else _("thumb down")
    if kind == TaskKind.DIALOGUE:
        return ngettext("%(count)d turn", "%(count)d turns", payload["turns"]) % {"count": payload["turns"]}
    return _("wrote an answer") if kind == TaskKind.DEMONSTRATION else _("corrected the answer")


def _pairwise(payload: Mapping[str, Any]) -> str:
    strength = payload["strength"]
    if strength == 0:
        if payload.get("both_bad"):
            return _("tie, both bad")
        return _("tie, both good") if payload.get("both_good") else _("tie")
    how = {1: _("%(letter)s slightly better"), 2: _("%(letter)s better"), 3: _("%(letter)s much better")}
    return how[abs(strength)] % {"letter": "B" if strength > 0 else "A"}


def _ranking(ranks: Sequence[int]) -> str:
    places = sorted(set(ranks))
    return " > ".join(" = ".join(letter(i) for i, rank in enumerate(ranks) if rank == place) for place in places)


def name_of(rater: Rater | None) -> str:
    """What the lead's pages call a rater."""
    if rater is None:
        return "—"
    if rater.erased:
        return _("erased %(key)s") % {"key": short(rater.pk)}
    if rater.account:
        return account_name(rater.account)
    hashed = rater.kind == RaterKind.END_USER and HASH.fullmatch(rater.name)
    if rater.name and not hashed:
        return rater.name
    return _("%(kind)s %(key)s") % {"kind": RaterKind(rater.kind).label, "key": short(rater.pk)}


def account_name(account: Account | None) -> str:
    """What the lead's pages call an account."""
    if account is None:
        return "—"
    if account.erased:
        return _("erased %(key)s") % {"key": short(account.pk)}
    return account.display_name or account.username


def short(key: Any) -> str:
    """The end of an id: its beginning is the time, alike for all of an import."""
    return str(key)[-8:]


def seconds(milliseconds: float | None) -> str:
    """A duration: "48 s", "3 min 20 s", "2 h 5 min"."""
    if milliseconds is None:
        return "—"
    whole = round(milliseconds / 1000)
    if whole < 60:
        return _("%(s)d s") % {"s": whole}
    if whole < 3600 and whole % 60:
        return _("%(m)d min %(s)d s") % {"m": whole // 60, "s": whole % 60}
    if whole < 3600:
        return _("%(m)d min") % {"m": whole // 60}
    return _("%(h)d h %(m)d min") % {"h": whole // 3600, "m": whole % 3600 // 60}
