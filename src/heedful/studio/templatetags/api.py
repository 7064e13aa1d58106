"""The filter of the API's reference."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from heedful.studio.rendering import markdown

register = template.Library()


@register.filter
def written(docstring: str) -> SafeString:
    """A docstring's Markdown, whose lines are broken where the source's margin is."""
    return markdown("\n\n".join(" ".join(part.split()) for part in docstring.split("\n\n")))
