"""Filters of the lead's pages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django import template
from django.utils.translation import gettext as _

from heedful.feedback import gold
from heedful.feedback.models import RaterKind, TaskKind
from heedful.studio.lead import words
from heedful.studio.lead.event_words import event_label
from heedful.studio.lead.machines import SCOPES
from heedful.studio.lead.trust_words import WEIGHTS
from heedful.studio.rating_words import skips
from heedful.studio.said import say

register = template.Library()


@register.filter
def percent(share: float | None) -> str:
    """A share as a percentage: 0.82 is "82%"."""
    return "—" if share is None else f"{share:.0%}"


@register.filter
def figure(value: float) -> str:
    """A number as SVG reads it, in every language."""
    return f"{value:.1f}"


@register.filter
def between(interval: Any) -> str:
    """The ends of an interval of a share: "71% to 90%"."""
    if interval is None:
        return "—"
    return _("%(low)s to %(high)s") % {"low": f"{interval.low:.0%}", "high": f"{interval.high:.0%}"}


@register.filter
def duration(milliseconds: float | None) -> str:
    """Milliseconds in words."""
    return words.seconds(milliseconds)


@register.filter
def seconds(count: float | None) -> str:
    """Seconds in words."""
    return words.seconds(None if count is None else 1000 * count)


@register.filter
def hours(count: float | None) -> str:
    """Hours in words: "3 h 5 min"."""
    return words.seconds(None if count is None else 3_600_000 * count)


@register.filter
def money(amounts: Mapping[str, Any] | None) -> str:
    """Amounts by currency: "12.50 USD"."""
    return " + ".join(f"{value:,.2f} {currency}" for currency, value in (amounts or {}).items()) or "—"


@register.filter
def short(key: Any) -> str:
    """The end of an id."""
    return words.short(key)


@register.filter
def rater_name(rater: Any) -> str:
    """What a rater is called."""
    return words.name_of(rater)


@register.filter
def account_name(account: Any) -> str:
    """What an account is called."""
    return words.account_name(account)


@register.filter
def label(value: Any) -> str:
    """A choice's own word, translated."""
    return _(str(value))


@register.filter
def said(text: str) -> str:
    """What a service says, in the reader's language."""
    return say(text)


@register.filter
def event(kind: str) -> str:
    """What an event of the trail is called."""
    return event_label(kind)


@register.filter
def scope(name: str) -> str:
    """What a token may do."""
    return str(SCOPES.get(name, name))


@register.filter
def pause_reason(rater: Any) -> str:
    """Why a rater is paused."""
    return say(gold.pause_reason(rater))


@register.filter
def task(kind: str) -> str:
    """A task's own words."""
    return str(TaskKind(kind).label)


@register.filter
def rater_kind(kind: str) -> str:
    """Who judges: a person, an AI judge."""
    return _(str(RaterKind(kind).label))


@register.filter
def skip_reason(reason: str) -> str:
    """Why somebody passed an item, as they chose it."""
    return dict(skips()).get(reason, reason)


@register.filter
def ids(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Ids of an event, shortened: name and words."""
    found = []
    for name, value in given.items():
        many = value if isinstance(value, list) else [value]
        text = ", ".join(words.short(one) if len(str(one)) == 36 else str(one) for one in many[:3])
        found.append((name, text + (f" … ({len(many)})" if len(many) > 3 else "")))
    return found


@register.filter
def amount(value: Any) -> str:
    """An amount of money with two digits after the point, or as many as it has: "14.50", "0.0125"."""
    return f"{value:.2f}" if round(value, 2) == value else f"{value.normalize():f}"


@register.filter
def sampling(settings: Mapping[str, Any]) -> str:
    """How an answer was sampled: "temperature 0.7, top_p 0.95"."""
    return ", ".join(f"{name} {value}" for name, value in settings.items())


@register.filter
def weight_words(weight: str) -> str:
    """How much attention a rater needs, in words."""
    return str(WEIGHTS[weight])
