"""Several server processes behind one PostgreSQL behave as one, whoever of them dies."""

from __future__ import annotations

import http.client
import os
import re
import signal
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from studio_load import drive
from studio_process import Session, Studio, scratch, studio

from studio_faults import Faults, kill_a_worker, workers

SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
LOCKED = 8
pytestmark = pytest.mark.on_postgresql


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with (
        scratch(SERVER) as database,
        studio(tmp_path_factory.mktemp("studio"), database, ("--workers", "2", "--log-format", "json")) as running,
    ):
        until(lambda: figure(running, "heedful_workers") == 2)
        yield running


def until(holds: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait for something to hold."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it does not come to be"
        time.sleep(0.1)


def page(running: Studio, path: str, form: dict[str, str] | None = None, cookie: str = "") -> tuple[int, str]:
    """(status, text) of a page, over a connection of its own, so that any worker may answer."""
    link = http.client.HTTPConnection(urlsplit(running.base).netloc, timeout=60)
    headers = {"Cookie": cookie, "Content-Type": "application/x-www-form-urlencoded"}
    try:
        link.request("POST" if form else "GET", path, urllib.parse.urlencode(form or {}), headers)
        answer = link.getresponse()
        return answer.status, answer.read().decode()
    finally:
        link.close()


def figure(running: Studio, name: str) -> float:
    """A figure of /metrics, summed over its labels."""
    _, text = page(running, "/metrics")
    found = re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found)) if found else -1.0


def try_to_log_in(running: Studio, name: str) -> int:
    """The status of a wrong password."""
    browser = Session(running.base)
    browser.call("GET", "/login/")
    browser.close()
    token = browser.cookies["heedful-csrf"]
    form = {"username": name, "password": "wrong", "csrfmiddlewaretoken": token}
    return page(running, "/login/", form, f"heedful-csrf={token}")[0]


@pytest.mark.slow
def test_a_lockout_holds_whichever_worker_is_asked(served: Studio) -> None:
    found: list[int] = []
    each = 6

    def guess() -> None:
        found.extend(try_to_log_in(served, "victim") for _ in range(each))

    threads = [threading.Thread(target=guess) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(found) == {200, 429}
    let_in = found.count(200)
    assert LOCKED - 1 <= let_in <= LOCKED - 1 + len(threads), "those that were under way at the eighth count too"
    assert try_to_log_in(served, "victim") == 429


@pytest.mark.slow
def test_whichever_worker_is_asked_tells_what_all_have_counted(served: Studio) -> None:
    before = figure(served, "heedful_requests_total")
    for _ in range(20):
        assert page(served, "/login/")[0] == 200
    assert {figure(served, "heedful_requests_total") for _ in range(6)} == {before + 20}
    assert page(served, "/readyz")[0] == 200


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_what_it_counted_stays(served: Studio) -> None:
    counted = figure(served, "heedful_requests_total")
    old = workers(served)
    assert len(old) == 2
    os.kill(old[0], signal.SIGKILL)
    until(lambda: len(workers(served)) == 2 and old[0] not in workers(served))
    assert page(served, "/login/")[0] == 200
    assert old[1] in workers(served)
    assert figure(served, "heedful_worker_restarts_total") == 1
    assert figure(served, "heedful_requests_total") >= counted + 1


@pytest.mark.slow
def test_workers_are_replaced_one_by_one_and_nobody_notices(served: Studio) -> None:
    old, wrong, asked, stop = workers(served), [], [], threading.Event()

    def look() -> None:
        while not stop.is_set():
            with suppress(ConnectionResetError, http.client.RemoteDisconnected):  # a proxy asks again
                asked.append(page(served, "/login/")[0])
                if asked[-1] != 200:
                    wrong.append(asked[-1])
            time.sleep(0.05)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        served.process.send_signal(signal.SIGHUP)
        until(lambda: not set(workers(served)) & set(old) and len(workers(served)) == 2, 200)
    finally:
        stop.set()
        thread.join()
    assert not wrong
    assert len(asked) > 5


@pytest.mark.slow
def test_who_is_being_answered_when_it_stops_is_answered(served: Studio) -> None:
    found: list[int] = []
    browser = Session(served.base)
    browser.call("GET", "/login/")
    token = browser.cookies["heedful-csrf"]
    form = {"username": "late", "password": "wrong", "csrfmiddlewaretoken": token}

    def ask() -> None:
        found.append(page(served, "/login/", form, f"heedful-csrf={token}")[0])

    thread = threading.Thread(target=ask)  # a password takes a good part of a second to check
    before = workers(served)
    thread.start()
    until(lambda: figure(served, "heedful_requests_in_flight") >= 1 or found)
    served.process.send_signal(signal.SIGTERM)
    thread.join()
    assert found == [200]
    assert served.process.wait(timeout=60) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in before)


@pytest.mark.slow
def test_workers_end_when_nobody_watches_over_them(tmp_path: Path) -> None:
    with scratch(SERVER) as database, studio(tmp_path, database, ("--workers", "2")) as running:
        until(lambda: len(workers(running)) == 2)
        left = workers(running)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left))


@pytest.mark.timeout(900)  # a busy machine takes minutes to start workers again and again
def test_thirty_two_raters_lose_and_double_nothing_while_workers_are_killed(tmp_path: Path) -> None:
    kills = Faults(kill_a_worker, (0.3, 1.0))
    with scratch(SERVER) as database:
        report = drive(
            tmp_path, raters=32, items=48, quota=2, think=0.3, seconds=120, workers=4, database=database, faults=kills
        )
    assert report.problems == [], "\n".join(report.lines())
    assert kills.done, "nobody was killed"
    assert report.resent, "nobody noticed"
    assert report.counted >= 40


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_thirty_two_raters_and_kills_for_five_minutes(tmp_path: Path) -> None:
    kills = Faults(kill_a_worker, (1.0, 3.0))
    with scratch(SERVER) as database:
        report = drive(
            tmp_path, raters=32, items=2000, quota=2, think=2.0, seconds=300, workers=4, database=database, faults=kills
        )
    assert report.problems == [], "\n".join(report.lines())
    assert len(kills.done) >= 20
    assert report.judgments >= 300
    print(len(kills.done), "kills", report.resent, "sent again", *report.lines(), sep="\n")
