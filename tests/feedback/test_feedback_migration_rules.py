"""Migrations run beside the version before them; several processes that start at once migrate once."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connections, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ProjectState
from studio_process import scratch

from heedful.errors import HeedfulError
from heedful.feedback import migrating, migration_rules
from heedful.feedback.databases import opened
from served_studio import command, environment

SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
FOLDER = Path(migration_rules.__file__).parent / "migrations"


def names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("0*.py"))


def test_what_comes_after_the_last_release_runs_beside_it() -> None:
    assert migration_rules.BEFORE in names()
    later = names()[names().index(migration_rules.BEFORE) + 1 :]
    wrong = {name: told for name in later if (told := migration_rules.troubles_of("feedback", name))}
    assert not wrong, f"docs/upgrading.md says how to add this in steps: {wrong}"


def test_the_migrations_from_before_there_were_rules_are_seen_through() -> None:
    found = {name: migration_rules.troubles_of("feedback", name) for name in names()[:7]}
    assert [name for name, told in found.items() if not told] == ["0001_initial", "0004_tally"]
    assert found["0003_pushes"] == ["AddIndex on judgment locks its table against writing: build it CONCURRENTLY"]
    assert found["0007_field"] == ["RunPython forwards does not say why it is safe (safe_while_serving)"]
    assert migration_rules.troubles_of("auth", "0001_initial") == []


def _safe(apps: Any, editor: Any) -> None: ...


_safe.safe_while_serving = "it does nothing"  # type: ignore[attr-defined]
TEXT = models.CharField(max_length=16, null=True)
NEW = migrations.CreateModel("Fresh", [("id", models.BigAutoField(primary_key=True))])


@pytest.mark.parametrize(
    "operation",
    [
        NEW,
        migrations.AddField("item", "note", TEXT),
        migrations.AddField("item", "note", models.CharField(max_length=16, db_default="")),
        migrations.AddField("item", "of", models.ForeignKey("feedback.batch", models.PROTECT, null=True,
                                                            db_constraint=False, db_index=False)),
        migrations.AlterField("slot", "state", models.CharField(max_length=8, choices=[("a", "a")], default="free")),
        migrations.RunPython(_safe),
        migrations.SeparateDatabaseAndState(state_operations=[migrations.DeleteModel("Skip")]),
    ],
)  # fmt: skip
def test_what_only_adds_is_let_through(operation: Any) -> None:
    assert told([operation]) == []


@pytest.mark.parametrize(
    ("operation", "word"),
    [
        (migrations.AddField("item", "note", models.CharField(max_length=16, default="")), "db_default"),
        (migrations.AddField("item", "note", models.CharField(max_length=16, null=True, unique=True)), "unique"),
        (migrations.AddField("item", "note", models.CharField(max_length=16, null=True, db_index=True)), "index"),
        (migrations.AddField("item", "of", models.ForeignKey("feedback.batch", models.PROTECT, null=True)), "foreign"),
        (migrations.AlterField("slot", "state", models.CharField(max_length=4, default="free")), "AlterField"),
        (migrations.AlterField("slot", "holder", models.UUIDField()), "AlterField"),
        (migrations.AddIndex("item", models.Index(fields=["kind"], name="by_kind")), "CONCURRENTLY"),
        (migrations.AddConstraint("item", models.CheckConstraint(condition=models.Q(kind="x"), name="x")), "locks"),
        (migrations.RemoveField("item", "kind"), "takes away"),
        (migrations.RenameField("item", "kind", "sort"), "renames"),
        (migrations.RenameModel("Item", "Thing"), "renames"),
        (migrations.DeleteModel("Skip"), "takes away"),
        (migrations.RunPython(migrations.RunPython.noop), "safe_while_serving"),
        (migrations.RunSQL("SELECT 1"), "safe_while_serving"),
        (migrations.SeparateDatabaseAndState(database_operations=[migrations.DeleteModel("Skip")]), "takes away"),
    ],
)
def test_what_locks_or_takes_away_is_told(operation: Any, word: str) -> None:
    [sentence] = told([operation])
    assert word in sentence


def test_a_table_of_the_migrations_own_may_have_anything() -> None:
    more = [
        migrations.AddField("fresh", "of", models.ForeignKey("feedback.batch", models.PROTECT)),
        migrations.AddIndex("fresh", models.Index(fields=["of"], name="fresh_of")),
    ]
    assert told([NEW, *more]) == []
    assert len(told(more)) == 3


def told(operations: list[Any]) -> list[str]:
    """What the rules say of operations after our newest migration."""
    before: ProjectState = MigrationLoader(None).project_state(("feedback", names()[-1]))
    made = migrations.Migration("made_up", "feedback")
    made.operations = operations
    return migration_rules.troubles(made, before)


@pytest.mark.slow
def test_two_that_start_at_once_migrate_once(tmp_path: Path) -> None:
    with scratch(SERVER) as server:
        words = command("studio", "migrate", "--folder", str(tmp_path), "--json")
        words += ["--database", server] if server else []
        started = [
            subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
            for _ in range(3)
        ]
        ended = [process.communicate(timeout=300) for process in started]
        assert [process.returncode for process in started] == [0] * 3, ended
        applied = [json.loads(out)["migrations"] for out, _ in ended]
        assert sorted(map(bool, applied)) == [False, False, True]
        names_ = {(row["app"], row["name"]) for row in max(applied, key=len)}
        assert {("feedback", "0007_field"), ("axes", "0001_initial")} <= names_
        done = subprocess.run([*words, "--check"], capture_output=True, text=True, env=environment())
        assert (done.returncode, json.loads(done.stdout)["migrations"]) == (0, [])


@pytest.mark.on_postgresql
@pytest.mark.usefixtures("beside")
@pytest.mark.django_db(transaction=True)
def test_a_migration_gives_way_to_who_holds_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    import psycopg

    monkeypatch.setattr(migrating, "LOCK_SECONDS", 1)
    monkeypatch.setattr(migrating, "TRIES", 2)
    with scratch(SERVER) as url, opened(url) as alias:
        call_command("migrate", "feedback", "0006_opened_votes", database=alias, verbosity=0)
        with psycopg.connect(url) as other:
            other.execute(b"LOCK TABLE feedback_judgment IN ROW EXCLUSIVE MODE")  # as whoever submits does
            with pytest.raises(HeedfulError, match="others hold a table"):
                migrating.migrate(alias)
        assert ("feedback", "0007_field") in migrating.pending(alias)
        assert ("feedback", "0007_field") in migrating.migrate(alias)
        assert migrating.pending(alias) == []
        with connections[alias].cursor() as cursor:
            cursor.execute("SHOW lock_timeout")
            assert cursor.fetchone()[0] == "0"
