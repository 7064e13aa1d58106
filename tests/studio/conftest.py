"""Chromium for the studio's tests: pages of people who are logged in, on a live server, watched for what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from chromium import WAIT

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
LOADING = 45_000
"""Milliseconds for a page to load: one of charts draws them meanwhile, and the first one loads matplotlib."""


@dataclass
class Watch:
    """What pages did that none may do."""

    origin: str
    strangers: list[str] = field(default_factory=list)
    dialogs: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    """Answers of 500 and above; a test that makes its own clears them."""

    def over(self, page: Any) -> None:
        """Watch a page from now on."""
        page.on("request", self._request)
        page.on("response", self._response)
        page.on("dialog", self._dialog)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("console", self._console)

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.origin, "data:", "blob:")):
            self.strangers.append(request.url)

    def _response(self, response: Any) -> None:
        if response.status >= 500:
            self.faults.append(f"{response.status} {response.url}")

    def _dialog(self, dialog: Any) -> None:
        if dialog.type != "beforeunload":
            self.dialogs.append(dialog.message)
        dialog.accept()

    def _console(self, message: Any) -> None:
        if message.type == "error" and "Content Security Policy" in message.text:
            self.errors.append(message.text)

    def check(self) -> None:
        """Fail if there was a request to elsewhere, a dialog, an error of a script or of the policy."""
        assert not self.strangers
        assert not self.dialogs
        assert not self.errors
        assert not self.faults


@pytest.fixture
def watch(live_server: Any) -> Iterator[Watch]:
    """Looks on at every page that `visit` opens; after the test nothing wrong may have been seen."""
    watching = Watch(live_server.url)
    yield watching
    watching.check()


@pytest.fixture
def visit(browser: Any, live_server: Any, watch: Watch) -> Iterator[Callable[..., Any]]:
    """visit(account, path="", phone=False) -> a page, logged in, in a browser context of its own."""
    opened = []

    def go(who: Any, path: str = "", *, phone: bool = False, **more: Any) -> Any:
        size = {"viewport": PHONE, "has_touch": True, "is_mobile": True} if phone else {"viewport": DESKTOP}
        context = browser.new_context(base_url=live_server.url, **size, **more)
        opened.append(context)
        context.set_default_timeout(WAIT)
        context.set_default_navigation_timeout(LOADING)
        if who is not None:
            context.add_cookies([{"name": name, "value": value, "url": live_server.url} for name, value in _in(who)])
        page = context.new_page()
        watch.over(page)
        if path:
            page.goto(path)
        return page

    yield go
    for context in opened:
        context.close()


def _in(who: Any) -> list[tuple[str, str]]:
    from django.conf import settings
    from django.test import Client

    client = Client()
    client.force_login(who, backend="django.contrib.auth.backends.ModelBackend")
    return [(settings.SESSION_COOKIE_NAME, client.cookies[settings.SESSION_COOKIE_NAME].value)]


@pytest.fixture
def account(transactional_db: None) -> Any:
    """Whom `page` is logged in as; a test file may put another in its place."""
    from feedback_factories import account as made

    return made()


@pytest.fixture
def page(visit: Callable[..., Any], account: Any) -> Any:
    """An empty page at desktop size, logged in as `account`."""
    return visit(account)


@pytest.fixture
def of() -> Any:
    """The programme of the raters' pages."""
    from feedback_factories import programme

    return programme("Everyday questions")


@pytest.fixture
def who(of: Any) -> Any:
    """A rater of it."""
    from feedback_factories import rater

    return rater(of)


@pytest.fixture
def go(visit: Callable[..., Any], who: Any) -> Callable[..., Any]:
    """go(phone=False) -> the rating page with its first item."""

    from rating_browser import TASK

    def load(**how: Any) -> Any:
        page = visit(who.account, f"/p/{who.programme.slug}/rate/", **how)
        page.wait_for_selector(f"{TASK}, [data-none]")
        page.wait_for_selector("#rate[data-ready]")
        return page

    return load
