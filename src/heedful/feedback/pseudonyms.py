"""Raters under other names: the same within one export, unlike those of any other. Needs no Django."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import uuid
from typing import Any


class Pseudonyms:
    """Ids of people turned into other ids by a keyed hash; without the key nobody can turn them back.

    Args:
        key: secret; by default a fresh one that is kept nowhere.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = key or secrets.token_bytes(32)

    def of(self, person: Any) -> uuid.UUID:
        """A person's id as a UUID of version 8 that says nothing of them, not even when they came."""
        digest = hmac.new(self._key, uuid.UUID(str(person)).bytes, hashlib.sha256).digest()
        value = int.from_bytes(digest[:16], "big")
        value = value & ~(0xF << 76) | 0x8 << 76
        return uuid.UUID(int=value & ~(0b11 << 62) | 0b10 << 62)
