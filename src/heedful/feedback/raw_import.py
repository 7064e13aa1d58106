"""A raw export read back: a programme with the same ids, whole or not at all.

A file says nothing about what this server may do: what it tells of private addresses is left out, and its endpoints
name no variable of the server's but those that are made for it.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from typing import Any

from django.db import IntegrityError, models, transaction
from django.db.models import Model
from django.utils.text import slugify

from heedful.errors import HeedfulError, nearest
from heedful.feedback import erasure, events, rows
from heedful.feedback.import_plan import RAW, Plan
from heedful.feedback.import_source import Problem, Problems, Row, flaws, read
from heedful.feedback.models import Account, AuditEvent, Membership, Programme, Rater, Role
from heedful.feedback.raw_checks import Checks
from heedful.feedback.raw_export import TABLES, VERSION, columns
from heedful.feedback.rules import rules_of
from heedful.feedback.texts import clean

ELSEWHERE = (
    "A raw export is never merged with what is there: restore it into a store of its own, with --database ADDRESS; "
    "heedful studio --folder FOLDER makes one."
)


def _is_here(known: Programme, where: str) -> HeedfulError:
    return HeedfulError("this programme is here already, as {slug!r}.", where=where, mend=ELSEWHERE, slug=known.slug)


def hindrance(made: Plan) -> Problem | None:
    """What keeps a raw export from being restored here, however whole it is: its programme is here."""
    _, head = next(read(made.source, Problems(), limit=made.limit))
    about = head.get("programme")
    try:
        key = uuid.UUID(str(about.get("id"))) if isinstance(about, dict) else None
    except ValueError:
        key = None  # the file's own fault, which `restore` tells
    known = Programme.objects.filter(pk=key).first() if key else None
    if known is None:
        return None
    error = _is_here(known, made.source.where)
    return Problem(1, "programme.id", error.what, error.mend)


def restore(
    made: Plan, *, slug: str = "", name: str = "", admin: Account | None = None, actor: Any = None
) -> Programme:
    """Make a programme of a raw export: every record with its id. What was erased here since is erased again.

    Args:
        made: the plan of the file.
        slug: by default the exported one.
        name: by default the exported one.
        admin: who becomes its admin; without one, nobody is a member yet.
        actor: who asks, for the audit log.

    Raises:
        HeedfulError: a record is wrong (with line and field) or missing, or its ids are in this database already.
    """
    if made.format != RAW:
        raise HeedfulError("this is no raw export.", where=made.source.where, mend="Stage it into a programme.")
    made.require_clean()
    problems = Problems()
    lines = read(made.source, problems, limit=made.limit)
    _, head = next(lines)
    about = _head(made, head)
    try:
        with transaction.atomic():
            programme = _programme(about, slug, name, made.source.where)
            reader = _Reader(made.source.where, programme)
            for line, row in lines:
                reader.take(line, row)
            if problems.count:
                first = problems.first[0]
                raise HeedfulError(first.what, where=f"{made.source.where}:{first.line}", mend=first.mend)
            reader.finish(head["records"])
            if admin is not None:
                Membership.objects.create(programme=programme, account=admin, role=Role.ADMIN)
            events.record("programme.restored", programme=programme, actor=actor, digest=made.sha256)
            erasure.apply_tombstones()
    except IntegrityError as error:
        raise _collision(made.source.where, error) from error
    return programme


def _collision(where: str, error: Exception) -> HeedfulError:
    return HeedfulError(
        f"its records clash with each other, or with some that are here ({str(error).splitlines()[0]}).",
        where=where,
        mend=ELSEWHERE,
    )


def _head(made: Plan, head: Row) -> Row:
    where = f"{made.source.where}:1"
    if head.get("version") != VERSION:
        raise HeedfulError(f"version {head.get('version')!r} of raw exports is not known.", where=where)
    about = head.get("programme")
    if not isinstance(about, dict) or not isinstance(head.get("records"), dict):
        raise HeedfulError("the head of the raw export is damaged.", where=where, mend="Export it again.")
    for field, what in flaws(about, "programme"):
        raise HeedfulError(what, where=f"{where}, {field}")
    return about


def _programme(about: Row, slug: str, name: str, where: str) -> Programme:
    try:
        key = uuid.UUID(str(about.get("id")))
    except ValueError as error:
        raise HeedfulError("the programme's id is none.", where=f"{where}:1, programme.id") from error
    known = Programme.objects.filter(pk=key).first()
    if known is not None:
        raise _is_here(known, where)
    chosen = slug or str(about.get("slug") or "programme")
    if slugify(chosen) != chosen or len(chosen) > 80:
        raise HeedfulError(f"{chosen!r} does not fit into an address.", where="slug", mend="Use a-z, 0-9 and hyphens.")
    if Programme.objects.filter(slug=chosen).exists():
        raise HeedfulError(
            "another programme is called {slug!r}.",
            where="slug",
            mend="Give this one another short name: --programme NAME.",
            slug=chosen,
        )
    settings = about.get("settings")
    if not isinstance(settings, dict):
        raise HeedfulError("it must be an object.", where=f"{where}:1, programme.settings")
    settings = {rule: value for rule, value in settings.items() if rule != "allow_private_addresses"}
    try:
        rules_of(settings)
    except HeedfulError as error:
        place = f"{where}:1, programme.settings: {error.where}"
        raise HeedfulError(error.what, where=place, mend=error.mend) from error
    title = clean(name or about.get("name"), "name", longest=200, empty=False)
    values = {"id": key, "name": title, "slug": chosen, "settings": settings, "archived": None}
    created = next(field for field in rows.fields_of(Programme) if field.attname == "created")
    values["created"] = rows.from_json(created, about.get("created"))
    rows.write(Programme, [[values[field.attname] for field in rows.fields_of(Programme)]])
    return Programme.objects.get(pk=key)


class _Reader:
    """Checks records one by one and writes them a few hundred at a time."""

    def __init__(self, where: str, programme: Programme) -> None:
        self._where = where
        self._programme = programme
        self._waiting: list[list[Any]] = []
        self._kind = ""
        self._counts: Counter[str] = Counter()
        self._ids: dict[type[Model], set[Any]] = defaultdict(set)
        self._points: dict[tuple[type[Model], str, type[Model]], dict[Any, int]] = defaultdict(dict)
        self._checks = Checks()

    def take(self, line: int, row: Row) -> None:
        """One line."""
        try:
            self._take(line, row)
        except HeedfulError as error:
            place = f"{self._where}:{line}"
            raise HeedfulError(error.what, where=f"{place}, {error.where}" if error.where else place) from error

    def _take(self, line: int, row: Row) -> None:
        kind = row.get("record")
        if kind not in TABLES:
            raise HeedfulError(f"{kind!r} is no kind of record. {nearest(str(kind), list(TABLES))}", where="record")
        for field, what in flaws(row, ""):
            raise HeedfulError(what, where=field)
        if kind != self._kind or len(self._waiting) >= rows.CHUNK:
            self._flush()
            self._kind = kind
        model = TABLES[kind][0]
        values = self._values(line, kind, model, row)
        self._checks.look(model, values)
        self._counts[kind] += 1
        self._waiting.append([values.get(field.attname) for field in rows.fields_of(model) if _kept(field)])

    def _values(self, line: int, kind: str, model: type[Model], row: Row) -> dict[str, Any]:
        known = {field.attname: field for field in columns(model)}
        extra = {"record"} | ({"name"} if model is Rater else set())
        for name in row:
            if name not in known and name not in extra:
                raise HeedfulError(f"unknown field {name!r}. {nearest(name, list(known))}".strip(), where=name)
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name not in row:
                raise HeedfulError(f"the {kind} has no {name}.", where=name)
            values[name] = rows.from_json(field, row[name])
            kind_of_json = field.default if isinstance(field, models.JSONField) else None
            if kind_of_json in (list, dict) and not isinstance(values[name], kind_of_json):
                raise HeedfulError(f"it must be a {kind_of_json.__name__}.", where=name)
            if isinstance(field, models.ForeignKey) and values[name] is not None:
                self._points[model, name, field.remote_field.model].setdefault(values[name], line)
        if "id" in values:
            self._ids[model].add(values["id"])
        return values | self._given(model, row, values)

    def _given(self, model: type[Model], row: Row, values: dict[str, Any]) -> dict[str, Any]:
        """What the file does not say: the programme, and a person's name."""
        if model is Rater:
            name = row.get("name")
            if not isinstance(name, str) or len(name) > 120:
                raise HeedfulError("it must be a text of at most 120 characters.", where="name")
            return {"programme_id": self._programme.pk, "name": name or str(values["id"])}
        if model is AuditEvent:
            return {"programme": self._programme.pk}
        return {"programme_id": self._programme.pk}

    def _flush(self) -> None:
        if self._waiting:
            rows.write(TABLES[self._kind][0], self._waiting, only=_kept)
            self._waiting = []

    def finish(self, told: Row) -> None:
        """After the last line: everything that was announced is there, and nothing points outside.

        Raises:
            HeedfulError: records are missing, or one points at what is not in the file.
        """
        self._flush()
        for kind in {*told, *self._counts}:
            if self._counts[kind] != told.get(kind, 0):
                raise HeedfulError(
                    f"{self._counts[kind]} records of the kind {kind!r}; {told.get(kind, 0)} were announced.",
                    where=self._where,
                    mend="Fetch or copy the file again: it seems to be cut short.",
                )
        for (_, name, target), pointed in self._points.items():
            for key, line in pointed.items():
                if key not in self._ids[target]:
                    raise HeedfulError("it points at what is not in the file.", where=f"{self._where}:{line}, {name}")


def _kept(field: Any) -> bool:
    """Columns that are written: all but a number that the database gives."""
    return not isinstance(field, models.AutoField)
