"""`heedful studio --public-url` behind a proxy that speaks TLS, as processes of their own on loopback."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from django.test import RequestFactory
from test_studio_serve import get, studio
from tls_proxy import HOST, Browser, certificate, proxy

from heedful.studio.accounts import LOGIN_TRIES
from heedful.studio.security import client_of

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")
PUBLIC = f"https://{HOST}"
PASSWORD = "an unlikely phrase 7"
LOCKED = 8
_names = itertools.count(1)
_clients = itertools.count(10)


@dataclass
class Served:
    """A studio behind a proxy, and the account that leads it."""

    pem: Path
    port: int
    """Of the studio itself."""
    front: int
    """Of the proxy."""
    printed: str

    def browser(self, source: str = "", port: int = 0) -> Browser:
        """Somebody who comes from an address of their own."""
        return Browser(port or self.front, self.pem, source or f"127.0.0.{next(_clients)}")

    def lead(self) -> Browser:
        """The admin, logged in."""
        browser = self.browser()
        browser.get("/login/")
        browser.post("/login/", {"username": "ann", "password": PASSWORD})
        assert "heedful" in browser.cookies
        return browser


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        if IN_CI:
            pytest.fail("CI has openssl")
        pytest.skip("there is no openssl to make a certificate with")
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.9", 0))
    except OSError:
        pytest.skip("this machine has one loopback address, so all clients would be one")
    return certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def served(pem: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with studio(tmp_path_factory.mktemp("studio"), "--public-url", PUBLIC) as (_, printed):
        port = re.search(r"http://127\.0\.0\.1:(\d+)", printed)
        assert port, printed
        with proxy(pem, int(port[1])) as front:
            get(f"http://127.0.0.1:{port[1]}/health/")
            found = Served(pem, int(port[1]), front, printed)
            first = found.browser()
            path = re.search(rf"^{PUBLIC}(/first/\S+/)$", printed, re.MULTILINE)
            assert path, printed
            assert first.get(path[1]).status == 200
            made = {"username": "ann", "display_name": "Ann", "password1": PASSWORD, "password2": PASSWORD}
            assert first.post(path[1], made).status == 302
            yield found


def test_cookies_are_for_tls_alone_and_the_browser_is_told_to_stay_with_it(served: Served) -> None:
    browser = served.lead()
    page = browser.get("/login/")
    assert page.status == 302  # logged in already
    assert page.getheader("Strict-Transport-Security") == "max-age=31536000"
    session, csrf = browser.cookies["heedful"], browser.cookies["heedful-csrf"]
    assert (session["secure"], session["httponly"], session["samesite"]) == (True, True, "Lax")
    assert csrf["secure"] is True
    fresh = served.browser()
    fresh.get("/login/")
    fresh.post("/language/", {"language": "vi"})
    assert fresh.cookies["heedful-language"]["secure"] is True


def test_redirects_stay_at_the_public_address(served: Served) -> None:
    lead, nobody = served.lead(), served.browser()
    for browser, path in ((nobody, "/"), (nobody, "/login"), (nobody, "/programmes/"), (lead, "/"), (lead, "/login/")):
        answer = browser.get(path)
        assert answer.status in (301, 302), path
        where = answer.getheader("Location") or ""
        assert re.match(rf"(/(?!/)|{PUBLIC}/)", where), (path, where)
    nobody.get("/login/")
    sent = {"username": "ann", "password": PASSWORD, "next": "http://127.0.0.1/"}
    assert nobody.post("/login/", sent).getheader("Location") == "/"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 302),
        ({"Origin": None}, 302),  # an old browser: its referer is looked at
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": f"http://{HOST}"}, 403),
        ({"Origin": f"{PUBLIC}:8443"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": None, "Referer": "https://evil.example/"}, 403),
        ({"Origin": None, "Referer": None}, 403),
    ],
)
def test_only_pages_of_the_studio_send_anything(served: Served, headers: dict[str, str | None], status: int) -> None:
    browser = served.browser()
    browser.get("/login/")
    answer = browser.ask("POST", "/login/", {"username": "ann", "password": PASSWORD}, headers)
    assert answer.status == status
    assert ("heedful" in browser.cookies) == (status == 302)


def test_a_foreign_host_is_refused(served: Served) -> None:
    assert served.browser().get("/login/", Host="evil.example").status == 400
    assert served.browser().get("/login/", Host=f"{HOST}.evil.example").status == 400
    browser = served.lead()
    browser.get("/programmes/", X_Forwarded_Host="evil.example")
    assert "evil.example" not in browser.page


def test_invitations_carry_the_public_address_and_open_there(served: Served) -> None:
    lead = served.lead()
    lead.get("/programmes/new/")
    where = lead.post("/programmes/new/", {"name": f"Programme {next(_names)}"}).getheader("Location") or ""
    path = where.removesuffix("wizard/") + "invitations/"
    lead.get(path)
    lead.post(path, {"role": "rater", "uses": "1", "days": "14"})
    link = re.search(rf"{PUBLIC}(/invitation/[\w-]+/)", lead.page)
    assert link, lead.page
    assert "this machine alone" not in lead.page
    guest = served.browser()
    assert guest.get(link[1]).status == 200
    made = {"username": f"guest-{next(_names)}", "password1": PASSWORD, "password2": PASSWORD}
    assert guest.post(link[1], made).status == 302
    assert guest.get("/", Accept="text/html").status == 302
    assert f"{PUBLIC}/first/" in served.printed
    assert "http://127.0.0.1:" in served.printed  # what the proxy has to ask


@pytest.mark.parametrize("append", [True, False], ids=["appends like nginx", "replaces like Caddy"])
def test_the_lockout_is_of_the_clients_own_address_whatever_the_client_says_of_it(served: Served, append: bool) -> None:
    name = f"victim-{next(_names)}"
    lies = (f"198.51.100.{number}" for number in itertools.count(1))
    with proxy(served.pem, served.port, append=append) as front:
        thief, other = served.browser(port=front), served.browser(port=front)
        thief.get("/login/")
        tries = []
        for _ in range(LOCKED + 1):
            lie = next(lies)
            said = {"X-Forwarded-For": f"{lie}, {other.source}", "X_Forwarded_For": lie, "Forwarded": f"for={lie}"}
            said |= {"X-Real-IP": lie}
            tries.append(thief.ask("POST", "/login/", {"username": name, "password": "wrong"}, said).status)
        assert (tries[0], tries[-1]) == (200, 429)
        other.get("/login/")  # from elsewhere the account is open
        assert other.post("/login/", {"username": name, "password": "wrong"}).status == 200


def asks(browser: Browser, count: int, **headers: str) -> list[int]:
    """Answers to so many guesses of the first admin's link, each with another lie about where it comes from."""
    browser.get("/login/")
    return [
        browser.ask("POST", "/first/guess/", {}, {"X-Forwarded-For": f"198.51.100.{n}", **headers}).status
        for n in range(count)
    ]


def in_one_window(seconds: int = 300, spare: float = 20) -> None:
    """Wait for the limits' next window if this one ends before the tries are through."""
    left = seconds - time.time() % seconds
    if left < spare:
        time.sleep(left)


def test_a_limit_on_requests_sees_the_clients_own_address_too(served: Served) -> None:
    assert LOGIN_TRIES[0] > LOCKED
    in_one_window()
    browser = served.browser()
    found = asks(browser, 22)
    assert (found[0], found[-1]) == (404, 429)
    assert asks(served.browser(), 1) == [404]
    assert asks(served.browser(browser.source), 1) == [429]


def test_without_a_public_address_no_header_of_a_proxy_is_believed(tmp_path: Path) -> None:
    with studio(tmp_path) as (_, printed):
        port = re.search(r"The studio is at http://127\.0\.0\.1:(\d+)/", printed)
        assert port, printed
        get(f"http://127.0.0.1:{port[1]}/health/")
        browser = Browser(int(port[1]))
        page = browser.get("/login/", X_Forwarded_Proto="https", X_Forwarded_For="198.51.100.1")
        assert page.status == 200
        assert page.getheader("Strict-Transport-Security") is None
        assert not browser.cookies["heedful-csrf"]["secure"]
        in_one_window()
        found = asks(browser, 22, **{"X-Forwarded-Proto": "https"})
        assert (found[0], found[-1]) == (404, 429)
        assert asks(Browser(int(port[1]), source="127.0.0.9"), 1) == [404]
        other = browser.ask("POST", "/login/", {}, {"Origin": f"https://127.0.0.1:{port[1]}"})
        assert other.status == 403  # another scheme is another origin, whatever a header says of it


@pytest.mark.parametrize(
    ("address", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::9", "2001:db8:1:2::"),
        ("2001:db8:1:3::9", "2001:db8:1:3::"),
        ("unknown", ""),
        ("", ""),
        ("192.0.2.1, 192.0.2.2", ""),
    ],
)
def test_whom_limits_count_together(address: str, client: str) -> None:
    assert client_of(RequestFactory().get("/", REMOTE_ADDR=address)) == client
