"""What the wizard was told so far: kept in a session of its own, so that going back loses nothing.

The upload lies there too, packed. The browser's own session holds only the key, so that other pages never load it.
Nothing of it is in the store until the last step.
"""

from __future__ import annotations

import base64
import gzip
from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.base import SessionBase
from django.http import HttpRequest

from heedful.feedback.models import Programme

HOURS = 24
"""How long an unfinished wizard is kept."""


class WizardState:
    """The state of one programme's wizard in one browser. Changes are kept by `save`."""

    def __init__(self, request: HttpRequest, programme: Programme) -> None:
        self._request = request
        self._name = f"wizard-{programme.pk}"
        self._store: SessionBase = _store(request.session.get(self._name))

    def __getitem__(self, key: str) -> Any:
        return self._store[key]

    def get(self, key: str, default: Any = None) -> Any:
        """What was kept under a key, or the default."""
        return self._store.get(key, default)

    def save(self, **given: Any) -> None:
        """Keep values (JSON) under their names."""
        for key, value in given.items():
            self._store[key] = value
        self._store.set_expiry(3600 * HOURS)
        self._store.save()
        if self._request.session.get(self._name) != self._store.session_key:
            self._request.session[self._name] = self._store.session_key

    def keep_file(self, name: str, data: bytes) -> None:
        """Keep an uploaded file; what was said about another file's columns is dropped."""
        packed = base64.b85encode(gzip.compress(data, 1)).decode()
        type(self._store).clear_expired()  # uploads that nobody came back to
        for key in ("mapping", "batch_name"):
            self._store.pop(key, None)
        self.save(file_name=name, file=packed)

    def file(self) -> tuple[str, bytes] | None:
        """Name and content of the upload, or None."""
        packed = self._store.get("file")
        if packed is None:
            return None
        return self._store["file_name"], gzip.decompress(base64.b85decode(packed))

    def claim(self) -> bool:
        """Take the state out of the database; true for one of several requests that ask at once."""
        key = self._store.session_key
        model = self._store.model if hasattr(self._store, "model") else None
        if key is None or model is None or not self._store.exists(key):
            return False
        deleted, _by_model = model.objects.filter(session_key=key).delete()
        return deleted == 1

    def put_back(self) -> None:
        """Keep a state again that was claimed, since what it was claimed for failed."""
        kept = dict(self._store.items())
        self._store = _store(None)
        self.save(**kept)

    def clear(self) -> None:
        """Forget it all."""
        self._store.flush()
        self._request.session.pop(self._name, None)


def _store(key: str | None) -> SessionBase:
    engine = import_module(settings.SESSION_ENGINE)
    store: SessionBase = engine.SessionStore(session_key=key)
    return store
