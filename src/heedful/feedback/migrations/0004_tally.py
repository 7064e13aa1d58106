"""Two kept counts by which a rater's largest share of a batch is reckoned."""

import django.db.models.deletion
from django.db import migrations, models

import heedful.feedback.models.identity


class Migration(migrations.Migration):
    dependencies = (("feedback", "0003_pushes"),)

    operations = (
        migrations.CreateModel(
            name="Tally",
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
                ("count", models.PositiveIntegerField(default=0)),
                (
                    "batch",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE, related_name="tallies", to="feedback.batch"
                    ),
                ),
                (
                    "rater",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="tallies",
                        to="feedback.rater",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("batch", "rater"), name="one_tally_a_rater"),
                    models.UniqueConstraint(
                        condition=models.Q(("rater", None)), fields=("batch",), name="one_tally_a_batch"
                    ),
                ],
            },
        ),
    )
