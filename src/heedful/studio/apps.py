"""The Django app of the web face: templates, static files, translations."""

from __future__ import annotations

from django.apps import AppConfig


class StudioConfig(AppConfig):
    """`heedful.studio` has no tables of its own."""

    name = "heedful.studio"
    label = "studio"
