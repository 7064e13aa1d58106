"""What the lead's pages share: pages of long lists, errors beside their fields, rows of one programme."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest
from django.shortcuts import get_object_or_404

from heedful.errors import HeedfulError
from heedful.feedback.models import Account, Programme, Rater, Role
from heedful.studio.said import tell

PAGE = 50
LETTERS = "ABCDEFGHI"


class Request(HttpRequest):
    """A request that `access.requires` let through."""

    programme: Programme
    rater: Rater | None
    roles: frozenset[Role]
    user: Account  # type: ignore[assignment]


def page_of(request: HttpRequest, rows: QuerySet[Any] | Sequence[Any], size: int = PAGE) -> Page[Any]:
    """The page that the address asks for; one that is not there gives the nearest."""
    return Paginator(rows, size).get_page(request.GET.get("page"))


def own(rows: QuerySet[Any], programme: Programme, key: Any) -> Any:
    """A row of this programme by its id; 404 for another's."""
    return get_object_or_404(rows.filter(programme=programme), pk=key)


def blame(form: forms.BaseForm, error: HeedfulError, fields: Mapping[str, str] | None = None) -> None:
    """Put a service's error beside the form's field that it is about, or above the form.

    Args:
        form: a bound form.
        error: its `where` names a field, perhaps with more around it, as in "rules.max_share".
        fields: what a service calls a field, to the form's own name.
    """
    names = {name: name for name in form.fields} | dict(fields or {})
    words = [error.where, *error.where.replace("[", ".").replace("]", "").replace(" ", ".").split(".")]
    name = next((names[word] for word in words if word in names), None)
    form.add_error(name, tell(error, place=name is None))
