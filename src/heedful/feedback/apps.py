"""The Django app."""

from __future__ import annotations

from django.apps import AppConfig


class FeedbackConfig(AppConfig):
    """`heedful.feedback`: tables are named feedback_*."""

    name = "heedful.feedback"
    label = "feedback"
    default_auto_field = "django.db.models.BigAutoField"
