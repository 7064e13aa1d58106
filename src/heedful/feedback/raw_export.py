"""A whole programme as JSON lines, without a loss, and without a name: `heedful.feedback.raw_import` reads it back.

The first line says what it is and how many records of each kind follow. People are pseudonyms; accounts, groups,
consent, pay, questions and drafts are not in it, nor is which events of applications were taken in.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

from django.db.models import Model, QuerySet

from heedful.feedback import models, rows
from heedful.feedback.pseudonyms import Pseudonyms

VERSION = 1
Row = dict[str, Any]

TABLES: dict[str, tuple[type[Model], str]] = {
    "guideline": (models.Guideline, "programme"),
    "batch": (models.Batch, "programme"),
    "rater": (models.Rater, "programme"),
    "prompt": (models.Prompt, "programme"),
    "completion": (models.Completion, "prompt__programme"),
    "item": (models.Item, "programme"),
    "place": (models.ItemCompletion, "item__programme"),
    "slot": (models.Slot, "item__programme"),
    "assignment": (models.Assignment, "item__programme"),
    "judgment": (models.Judgment, "programme"),
    "current": (models.CurrentJudgment, "item__programme"),
    "rationale": (models.Rationale, "judgment__programme"),
    "provenance": (models.Provenance, "judgment__programme"),
    "demonstration": (models.Demonstration, "judgment__programme"),
    "edit": (models.Edit, "judgment__programme"),
    "skip": (models.Skip, "assignment__item__programme"),
    "adjudication": (models.Adjudication, "item__programme"),
    "gold": (models.GoldKey, "item__programme"),
    "gold-outcome": (models.GoldOutcome, "gold_key__item__programme"),
    "qualification": (models.Qualification, "programme"),
    "attempt": (models.QualificationAttempt, "qualification__programme"),
    "endpoint": (models.PolicyEndpoint, "programme"),
    "dialogue": (models.Dialogue, "endpoint__programme"),
    "turn": (models.DialogueTurn, "dialogue__endpoint__programme"),
    "candidate": (models.DialogueCandidate, "turn__dialogue__endpoint__programme"),
    "snapshot": (models.Snapshot, "programme"),
    "snapshot-entry": (models.SnapshotEntry, "snapshot__programme"),
    "event": (models.AuditEvent, "programme"),
}
"""Kinds of records in the order of dependency, with the way from a row to its programme."""

HIDDEN: dict[type[Model], tuple[str, ...]] = {
    models.Rater: ("name",),
    models.AuditEvent: ("seq", "programme"),
}
"""Columns that are not written as they are: names, numbers that a database gives anew, the programme's own id."""


def columns(model: type[Model]) -> list[Any]:
    """A table's columns in the file: all but those that are hidden, and the links to programmes and accounts."""
    return [
        field
        for field in rows.fields_of(model)
        if field.name not in HIDDEN.get(model, ()) and _target(field) not in (models.Programme, models.Account)
    ]


def _target(field: Any) -> Any:
    return field.remote_field.model if field.remote_field else None


def of_programme(kind: str, programme: Any) -> QuerySet[Any]:
    """A programme's rows of a kind."""
    model, way = TABLES[kind]
    key = programme.pk if model is models.AuditEvent else programme
    return model._base_manager.filter(**{way: key}).order_by("pk")


def names_rater(field: Any) -> bool:
    """Whether a column holds a rater's id."""
    model = field.model
    if model is models.Rater and field.name == "id":
        return True
    return _target(field) is models.Rater


class Masked:
    """Raters and accounts of a programme under their pseudonyms."""

    def __init__(self, programme: models.Programme, names: Pseudonyms) -> None:
        self._names = names
        people = set(models.Rater.objects.filter(programme=programme).values_list("pk", flat=True))
        people |= set(models.Account.objects.values_list("pk", flat=True))
        self._people = {str(key) for key in people}

    def of(self, value: Any) -> Any:
        """An id's pseudonym if it is a person's, whatever column it stands in; else the value as it is."""
        if isinstance(value, dict):
            return {key: self.of(one) for key, one in value.items()}
        if isinstance(value, list | tuple):
            return [self.of(one) for one in value]
        if isinstance(value, uuid.UUID | str) and str(value) in self._people:
            return str(self._names.of(value))
        return value


def rows_of(kind: str, programme: models.Programme, masked: Masked) -> Iterator[Row]:
    """A kind's records as they stand in the file."""
    model, _ = TABLES[kind]
    fields = columns(model)
    agents = _agents(programme) if model is models.Rater else {}
    names = [field.attname for field in fields]
    for values in of_programme(kind, programme).values_list(*names).iterator(chunk_size=rows.CHUNK):
        row: Row = {"record": kind}
        for field, value in zip(fields, values, strict=True):
            people = names_rater(field) or field.name == "named_raters" or model is models.AuditEvent
            row[field.attname] = rows.as_json(masked.of(value) if people else value)
        if model is models.Rater:
            row["name"] = agents.get(values[names.index("id")], "")
        yield row


def _agents(programme: models.Programme) -> dict[uuid.UUID, str]:
    """Names of AI judges and simulated raters; those of people and end users are not told."""
    kinds = (models.RaterKind.AI, models.RaterKind.SIMULATED)
    found = models.Rater.objects.filter(programme=programme, kind__in=kinds, erased=None)
    return dict(found.values_list("pk", "name"))


def records(programme: models.Programme, names: Pseudonyms) -> Iterator[Row]:
    """The head, then every record. To be read in one transaction, so that all belongs together."""
    masked = Masked(programme, names)
    counts = {kind: of_programme(kind, programme).count() for kind in TABLES}
    yield {
        "heedful": "raw",
        "version": VERSION,
        "programme": {
            "id": str(programme.pk),
            "created": rows.as_json(programme.created),
            "name": programme.name,
            "slug": programme.slug,
            "settings": programme.settings,
        },
        "records": {kind: count for kind, count in counts.items() if count},
    }
    for kind in TABLES:
        yield from rows_of(kind, programme, masked)
