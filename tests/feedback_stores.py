"""What the tests of moving, copying, exporting and restoring a store share."""

from __future__ import annotations

from importlib import import_module

from django.db import connection

from heedful.feedback import rows
from heedful.feedback.models import Membership, Programme, QueueCursor, Tally
from heedful.feedback.raw_export import TABLES, of_programme
from heedful.feedback.transfer import _tables


def url_of_default() -> str:
    """The address of the database that the tests run on."""
    given = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{given['NAME']}"
    return f"postgresql://{given['USER']}:{given['PASSWORD']}@{given['HOST']}:{given['PORT']}/{given['NAME']}"


def contents(alias: str) -> dict[str, tuple[int, str]]:
    """(rows, hash) of every table."""
    return {model._meta.db_table: rows.digest(rows.read(model, alias)) for model in _tables()}


def everything() -> str:
    """All that the database holds, as text."""
    return "\n".join(str(row) for model in _tables() for row in rows.read(model))


def forget(of: Programme) -> None:
    """Take a programme out of the database, immutable rows included."""
    vendor = connection.vendor
    immutable = import_module("heedful.feedback.migrations.0002_immutable")
    guards = import_module("heedful.feedback.migrations.0005_guards")
    words = import_module("heedful.feedback.migrations.0007_field")
    with connection.cursor() as cursor:
        for statement in [*words.drop(vendor), *guards.drop_truncate(vendor), *immutable.drop(vendor)]:
            cursor.execute(statement)
    for kind in reversed(TABLES):
        keys = list(of_programme(kind, of).values_list("pk", flat=True))
        TABLES[kind][0]._base_manager.filter(pk__in=keys)._raw_delete("default")
    for model in (QueueCursor, Tally):
        model._default_manager.all().delete()
    Membership.objects.filter(programme=of).delete()
    Programme.objects.filter(pk=of.pk).delete()
    with connection.cursor() as cursor:
        for statement in [*immutable.create(vendor), *guards.create_truncate(vendor), *words.create(vendor)]:
            cursor.execute(statement)
