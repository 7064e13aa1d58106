"""What came from use, and how an AI judge came to a judgment: its row never changes, but that its words
can be erased."""

from __future__ import annotations

from typing import Any

import django.db.models.deletion
from django.db import migrations, models

import heedful.feedback.models.identity

PROVENANCE = "feedback_provenance"
SAYS = f"rows of {PROVENANCE} never change"
_FIXED = ("id", "created", "judgment_id", "model", "temperature", "cost", "prompt_tokens", "completion_tokens")


def create(vendor: str) -> list[str]:
    """The statements that guard what is known of an AI judge's judgments."""
    if vendor != "postgresql":
        same = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _FIXED)
        head = "CREATE TRIGGER {name} BEFORE {act} ON " + f"{PROVENANCE} FOR EACH ROW"
        refuse = f"BEGIN SELECT RAISE(ABORT, '{SAYS}'); END"
        update = head.format(name=f"{PROVENANCE}_no_update", act="UPDATE")
        delete = head.format(name=f"{PROVENANCE}_no_delete", act="DELETE")
        return [f"{update} WHEN NOT (NEW.replies = '[]' AND {same}) {refuse}", f"{delete} {refuse}"]
    new, old = (", ".join(f"{side}.{name}" for name in _FIXED) for side in ("NEW", "OLD"))
    return [
        "CREATE FUNCTION feedback_only_erased() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        f"IF NOT (NEW.replies = '[]'::jsonb AND ({new}) IS NOT DISTINCT FROM ({old})) THEN "
        f"RAISE EXCEPTION '{SAYS}' USING ERRCODE = 'restrict_violation'; END IF; RETURN NEW; END $$",
        f"CREATE TRIGGER {PROVENANCE}_no_update BEFORE UPDATE ON {PROVENANCE} "
        "FOR EACH ROW EXECUTE FUNCTION feedback_only_erased()",
        f"CREATE TRIGGER {PROVENANCE}_no_delete BEFORE DELETE ON {PROVENANCE} "
        "FOR EACH ROW EXECUTE FUNCTION feedback_refuse()",
        *create_truncate(vendor),
    ]


def create_truncate(vendor: str) -> list[str]:
    """The statement that has PostgreSQL refuse TRUNCATE. SQLite knows none."""
    if vendor != "postgresql":
        return []
    return [
        f"CREATE TRIGGER {PROVENANCE}_no_truncate BEFORE TRUNCATE ON {PROVENANCE} "
        "FOR EACH STATEMENT EXECUTE FUNCTION feedback_refuse()"
    ]


def drop_truncate(vendor: str) -> list[str]:
    """The statement that lets PostgreSQL truncate again."""
    return [f"DROP TRIGGER {PROVENANCE}_no_truncate ON {PROVENANCE}"] if vendor == "postgresql" else []


def drop(vendor: str) -> list[str]:
    """The statements that remove the guards."""
    on = f" ON {PROVENANCE}" if vendor == "postgresql" else ""
    acts = ("update", "delete", *(("truncate",) if vendor == "postgresql" else ()))
    names = [f"DROP TRIGGER {PROVENANCE}_no_{act}{on}" for act in acts]
    return [*names, "DROP FUNCTION feedback_only_erased()"] if vendor == "postgresql" else names


def forwards(apps: Any, editor: Any) -> None:
    for statement in create(editor.connection.vendor):
        editor.execute(statement, params=None)


def backwards(apps: Any, editor: Any) -> None:
    for statement in drop(editor.connection.vendor):
        editor.execute(statement, params=None)


class Migration(migrations.Migration):
    dependencies = (("feedback", "0006_opened_votes"),)

    operations = (
        migrations.AlterField(
            model_name="item",
            name="kind",
            field=models.CharField(
                choices=[
                    ("pairwise", "compare two answers"),
                    ("ranking", "rank answers"),
                    ("attributes", "score attributes"),
                    ("demonstration", "write the answer"),
                    ("edit", "correct an answer"),
                    ("dialogue", "talk with a model"),
                    ("thumb", "thumb up or down"),
                ],
                max_length=16,
            ),
        ),
        migrations.AlterField(
            model_name="judgment",
            name="kind",
            field=models.CharField(
                choices=[
                    ("pairwise", "compare two answers"),
                    ("ranking", "rank answers"),
                    ("attributes", "score attributes"),
                    ("demonstration", "write the answer"),
                    ("edit", "correct an answer"),
                    ("dialogue", "talk with a model"),
                    ("thumb", "thumb up or down"),
                ],
                max_length=16,
            ),
        ),
        migrations.CreateModel(
            name="FieldIntake",
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
                ("key_check", models.CharField(max_length=64)),
                (
                    "batch",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="field_intake", to="feedback.batch"
                    ),
                ),
                (
                    "programme",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="field_intake",
                        to="feedback.programme",
                    ),
                ),
            ],
            options={},
        ),
        migrations.CreateModel(
            name="Provenance",
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
                ("model", models.CharField(max_length=300)),
                ("temperature", models.FloatField(null=True)),
                ("cost", models.FloatField(default=0.0)),
                ("prompt_tokens", models.PositiveIntegerField(default=0)),
                ("completion_tokens", models.PositiveIntegerField(default=0)),
                ("replies", models.JSONField(default=list)),
                (
                    "judgment",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT, related_name="provenance", to="feedback.judgment"
                    ),
                ),
            ],
            options={},
        ),
        migrations.CreateModel(
            name="FieldEvent",
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
                ("event_hash", models.CharField(max_length=64)),
                ("request_hash", models.CharField(max_length=64)),
                (
                    "kind",
                    models.CharField(
                        choices=[("thumb", "thumb"), ("regeneration", "regeneration"), ("edit", "edit")], max_length=16
                    ),
                ),
                ("policy", models.CharField(blank=True, max_length=300)),
                (
                    "outcome",
                    models.CharField(
                        choices=[
                            ("kept", "kept"),
                            ("sampled_out", "not in the sample"),
                            ("capped", "over the user's cap"),
                            ("not_kept", "new answer not kept"),
                            ("replaced", "replaced by a later one"),
                        ],
                        max_length=16,
                    ),
                ),
                ("up", models.BooleanField(null=True)),
                ("found", models.JSONField(default=dict)),
                (
                    "judgment",
                    models.OneToOneField(
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="field_event",
                        to="feedback.judgment",
                    ),
                ),
                (
                    "programme",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="field_events",
                        to="feedback.programme",
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="field_events",
                        to="feedback.rater",
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["programme", "created"], name="field_events_by_time"),
                    models.Index(fields=["user", "created"], name="field_events_of_a_user"),
                ],
                "constraints": [models.UniqueConstraint(fields=("programme", "event_hash"), name="an_event_once")],
            },
        ),
        migrations.CreateModel(
            name="FieldRefusal",
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
                ("day", models.DateField()),
                ("policy", models.CharField(blank=True, max_length=300)),
                ("count", models.PositiveIntegerField(default=0)),
                (
                    "programme",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="field_refusals",
                        to="feedback.programme",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("programme", "day", "policy"), name="one_refusal_count_a_day")
                ],
            },
        ),
        migrations.RunPython(forwards, backwards),
    )
