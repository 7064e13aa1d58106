"""Who opened an item's votes instead of deciding it, as rows: the trail alone told of it before."""

from __future__ import annotations

import uuid
from typing import Any

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import heedful.feedback.models.identity

GIVEN_UP = "adjudication.given_up"


def forwards(apps: Any, editor: Any) -> None:
    event, opened, item, account = (
        apps.get_model("feedback", name) for name in ("AuditEvent", "OpenedVotes", "Item", "Account")
    )
    alias = editor.connection.alias
    for told in event.objects.using(alias).filter(kind=GIVEN_UP).order_by("seq").iterator():
        of, who = uuid.UUID(told.ids["item"]), told.actor
        if all(model.objects.using(alias).filter(pk=key).exists() for model, key in ((item, of), (account, who))):
            opened.objects.using(alias).get_or_create(item_id=of, account_id=who)


class Migration(migrations.Migration):
    dependencies = (("feedback", "0005_guards"),)

    operations = (
        migrations.CreateModel(
            name="OpenedVotes",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=heedful.feedback.models.identity.new_id,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("created", models.DateTimeField(auto_now_add=True)),
                (
                    "account",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "item",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="opened_votes", to="feedback.item"
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("item", "account"), name="votes_are_opened_once")],
            },
        ),
        migrations.RunPython(forwards, migrations.RunPython.noop),
    )
