"""Judgments, audit events and guidelines never change, whoever asks."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import pytest
from django.db import IntegrityError, connection, models, transaction

from feedback_factories import batch, item, open_batch, programme, rater
from heedful.feedback import assignment, erasure, submission, wire
from heedful.feedback.models import AuditEvent, Guideline, Judgment, Provenance

TABLES = import_module("heedful.feedback.migrations.0002_immutable").TABLES


def _judged() -> None:
    of = programme()
    who = rater(of)
    open_batch(of, 1)
    held = assignment.next_assignment(who)
    assert held is not None
    submission.submit(held, {"strength": 1}, key="k", item_version=1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("model", "change"),
    [(Judgment, {"safety_flag": True}), (AuditEvent, {"digest": "0"}), (Guideline, {"markdown": "other"})],
)
def test_neither_update_nor_delete_passes(model: type[models.Model], change: dict[str, Any]) -> None:
    _judged()
    rows = model._default_manager.all()
    before = list(rows.order_by("pk").values())
    assert before
    for act in (
        lambda: rows.update(**change),
        lambda: rows._raw_delete(rows.db),
        lambda: connection.cursor().execute(f"DELETE FROM {model._meta.db_table}"),
    ):
        with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
            act()
    assert list(rows.order_by("pk").values()) == before


@pytest.mark.django_db
@pytest.mark.on_sqlite
@pytest.mark.parametrize("model", [Judgment, AuditEvent, Guideline])
def test_no_row_is_replaced(model: type[models.Model]) -> None:
    _judged()
    before = list(model._default_manager.order_by("pk").values())
    table = model._meta.db_table
    with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
        connection.cursor().execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM {table}")
    assert list(model._default_manager.order_by("pk").values()) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.on_postgresql
@pytest.mark.parametrize("table", TABLES)
def test_no_table_is_truncated(table: str) -> None:
    _judged()
    with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
        connection.cursor().execute(f"TRUNCATE {table} CASCADE")
    assert Judgment.objects.count() == 1


@pytest.mark.django_db
def test_every_guard_stands_after_all_migrations() -> None:
    sql = (
        "SELECT name FROM sqlite_master WHERE type = 'trigger'"
        if connection.vendor == "sqlite"
        else "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql)
        found = {row[0] for row in cursor.fetchall()}
    acts = ["update", "delete", *(["truncate"] if connection.vendor == "postgresql" else [])]
    assert {f"{table}_no_{act}" for table in (*TABLES, "feedback_provenance") for act in acts} <= found
    assert "feedback_snapshotentry_is_true" in found


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("_time", [1, 2])
def test_the_tables_are_empty_between_tests_and_guarded_again(_time: int) -> None:
    assert not Judgment.objects.exists()
    _judged()
    with pytest.raises(IntegrityError, match="never change"):
        Judgment.objects.all().update(safety_flag=True)


@pytest.mark.django_db
def test_how_a_judgment_came_about_never_changes_but_that_its_words_are_erased() -> None:
    of = programme()
    said = wire.Provenance("m", 0.5, 0.01, 7, 3, [{"text": "B, since Jo asked so", "finish": "stop"}])
    one = item(batch(of))
    submission.record(one, rater(of, kind="ai"), {"strength": 1}, key="k", provenance=said)
    rows = Provenance.objects.all()
    changes: list[dict[str, Any]] = [
        {"model": "other"}, {"temperature": None}, {"cost": 1.0}, {"replies": [{"text": "A", "finish": "stop"}]},
        {"replies": [], "model": "other"},
    ]  # fmt: skip
    for change in changes:
        with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
            rows.update(**change)
    with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
        rows._raw_delete(rows.db)
    erasure._one("prompt", one.prompt_id, "default")  # the words may quote what is erased
    kept = Provenance.objects.get()
    assert (kept.model, kept.temperature, kept.cost, kept.replies) == ("m", 0.5, 0.01, [])


@pytest.mark.django_db
def test_an_erased_judges_words_go_and_the_figures_stay() -> None:
    of = programme()
    judge = rater(of, kind="ai")
    said = wire.Provenance("m", replies=[{"text": "B", "finish": "stop"}])
    submission.record(item(batch(of)), judge, {"strength": 1}, key="k", provenance=said)
    assert erasure.erase_rater(judge).subjects["replies"] == 1
    assert Provenance.objects.get().replies == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.on_postgresql
def test_the_table_of_provenance_is_not_truncated() -> None:
    with pytest.raises(IntegrityError, match="never change"), transaction.atomic():
        connection.cursor().execute("TRUNCATE feedback_provenance CASCADE")
