"""A rater at the addresses of the raters' pages, as the page's script asks them."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client
from django.urls import reverse

from heedful.feedback.models import (
    Rater,
)

JSON = {"content_type": "application/json", "headers": {"Accept": "application/json"}}
A = "assignment"


class Page:
    """A rater at the page's addresses, as its script asks them."""

    def __init__(self, who: Rater) -> None:
        self.rater, self.of = who, who.programme
        self.client = Client()
        self.client.force_login(who.account, backend="django.contrib.auth.backends.ModelBackend")

    def url(self, name: str, *args: Any) -> str:
        return reverse(name, args=[self.of.slug, *args])

    def ask(self, name: str, *args: Any, **body: Any) -> Any:
        return self.client.post(self.url(name, *args), json.dumps(body), **JSON)

    def next(self, **body: Any) -> dict[str, Any]:
        reply = self.ask("rate_next", **body)
        assert reply.status_code == 200, reply.content
        return reply.json()

    def submit(self, task: dict[str, Any], *, key: str = "k", version: Any = None, **fields: str) -> Any:
        version = task.get("version", 1) if version is None else version
        return self.ask("rate_submit", task[A], fields=fields, key=key, version=version, active_ms=1500)
