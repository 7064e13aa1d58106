"""What the database cannot check itself of a raw export's records, and what one of them must say as another does."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from typing import Any

from django.db.models import Model

from heedful.errors import HeedfulError
from heedful.feedback import endpoints
from heedful.feedback.models import (
    Dialogue,
    Guideline,
    Item,
    ItemCompletion,
    Judgment,
    PolicyEndpoint,
    Prompt,
    Purpose,
    Snapshot,
    SnapshotEntry,
)
from heedful.feedback.payloads import parse
from heedful.feedback.rubric import attributes_of

TEXTS = ("languages", "expertise", "excluded_categories", "categories", "named_raters")
"""Columns that hold a list of texts, where they hold a list."""


class Checks:
    """Looks at records in their order, and remembers what later ones are compared with."""

    def __init__(self) -> None:
        self._completions: Counter[uuid.UUID] = Counter()
        self._attributes: dict[uuid.UUID, Any] = {}
        self._purposes: dict[uuid.UUID, str] = {}
        self._judged: dict[uuid.UUID, tuple[uuid.UUID, str]] = {}
        self._training: dict[uuid.UUID, bool] = {}

    def look(self, model: type[Model], values: Mapping[str, Any]) -> None:
        """One record.

        Raises:
            HeedfulError: it is not as it should be, with the field.
        """
        _shapes(values)
        if model is Prompt:
            turns = values["messages"]
            if not isinstance(turns, list) or not turns or not all(_is_message(turn) for turn in turns):
                raise HeedfulError("it must be a list of messages.", where="messages")
        elif model is Guideline:
            attributes_of(values["attributes"])
            self._attributes[values["id"]] = values["attributes"]
        elif model is Item:
            self._purposes[values["id"]] = values["purpose"]
        elif model is ItemCompletion:
            self._completions[values["item_id"]] += 1
        elif model is PolicyEndpoint:
            endpoints.check_endpoint(values)
        elif model is Dialogue:
            _pin(values["pinned"])
        elif model is Judgment:
            self._judgment(values)
        elif model is Snapshot:
            self._training[values["id"]] = values["training"]
        elif model is SnapshotEntry:
            self._entry(values)

    def _judgment(self, values: Mapping[str, Any]) -> None:
        purpose, item = values["purpose"], values["item_id"]
        self._judged[values["id"]] = (item, purpose)
        other = self._purposes.get(item, purpose)
        # One is for checking when somebody adjudicates or repeats; one for training may be from before its item was
        # promoted to gold.
        if purpose not in (other, Purpose.CHECK) and (purpose, other) != (Purpose.TRAIN, Purpose.GOLD):
            raise HeedfulError(
                "a judgment for {purpose} of an item for {other}.", where="purpose", purpose=purpose, other=other
            )
        if not isinstance(values["payload"], dict):
            raise HeedfulError("it must be an object.", where="payload")
        if values["retracts"]:
            return
        rubric = self._attributes.get(values["guideline_id"], [])
        parse(values["kind"], values["payload"], completions=self._completions[item], attributes=rubric)

    def _entry(self, values: Mapping[str, Any]) -> None:
        judged, training = self._judged.get(values["judgment_id"]), self._training.get(values["snapshot_id"])
        if judged is None or training is None:
            raise HeedfulError("it points at what is not in the file.")
        if (values["item_id"], values["purpose"], values["training"]) != (*judged, training):
            raise HeedfulError("it says something else than its judgment or its snapshot.", where="purpose")


def _shapes(values: Mapping[str, Any]) -> None:
    """Lists and objects of which pages and rules take the contents for granted."""
    for name in TEXTS:
        given = values.get(name)
        if isinstance(given, list) and not all(isinstance(one, str) for one in given):
            raise HeedfulError("it must be a list of texts.", where=name)
    translations = values.get("translations", {})
    if not all(isinstance(text, str) for text in translations.values()):
        raise HeedfulError("it must be an object of texts.", where="translations")
    order = values.get("order", [])
    if any(isinstance(one, bool) or not isinstance(one, int) for one in order) or sorted(order) != [*range(len(order))]:
        raise HeedfulError("it must name each place once.", where="order")


def _pin(pinned: Any) -> None:
    if not isinstance(pinned, dict):
        raise HeedfulError("it must be an object.", where="pinned")
    try:
        endpoints.check_endpoint(pinned)
    except HeedfulError as error:
        raise HeedfulError(error.what, where=f"pinned.{error.where}", mend=error.mend) from error


def _is_message(turn: Any) -> bool:
    return (
        isinstance(turn, dict) and set(turn) == {"role", "content"} and all(isinstance(v, str) for v in turn.values())
    )
