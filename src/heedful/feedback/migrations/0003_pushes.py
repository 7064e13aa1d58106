"""Machines' requests that wrote something, the order of judgments for them, the lease of a dialogue's turn."""

import django.db.models.deletion
from django.db import migrations, models

import heedful.feedback.models.identity


class Migration(migrations.Migration):
    dependencies = (("feedback", "0002_immutable"),)

    operations = (
        migrations.AddIndex(
            model_name="judgment",
            index=models.Index(fields=["programme", "id"], name="judgments_in_order"),
        ),
        migrations.AddField(
            model_name="dialogueturn",
            name="asked_until",
            field=models.DateTimeField(null=True),
        ),
        migrations.CreateModel(
            name="Push",
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
                ("key", models.CharField(max_length=120)),
                ("request_sha256", models.CharField(max_length=64)),
                ("answer", models.JSONField()),
                (
                    "programme",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="pushes", to="feedback.programme"
                    ),
                ),
            ],
            options={"constraints": [models.UniqueConstraint(fields=("programme", "key"), name="a_push_once")]},
        ),
    )
