"""Identifiers: time-ordered UUIDs (RFC 9562, version 7), so that new rows stand together in an index."""

from __future__ import annotations

import os
import time
import uuid

from django.db import models


def new_id() -> uuid.UUID:
    """A version 7 UUID: 48 bits of milliseconds, then 74 random bits."""
    random = int.from_bytes(os.urandom(10), "big")
    value = (time.time_ns() // 1_000_000) << 80
    value |= 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | (random & (1 << 62) - 1)
    return uuid.UUID(int=value)


class Row(models.Model):
    """What every row has: an identifier that stays the same through export, import and another database."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    created = models.DateTimeField(auto_now_add=True, editable=False)

    class Meta:
        abstract = True
