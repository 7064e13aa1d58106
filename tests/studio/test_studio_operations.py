"""Probes, figures, logs, static files, and what people see when the database does not serve."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import IntegrityError, OperationalError, ProgrammingError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client, RequestFactory
from test_studio_threads import ask

from feedback_factories import account, programme, rater
from heedful.studio import logs, metrics, outage, readiness
from heedful.studio.setup import settings as studio_settings
from heedful.studio.threads import FEWEST, THREADS, Threaded, threads_each

pytestmark = pytest.mark.django_db
HERE = {"host": "127.0.0.1:8400"}
NAMES = re.compile(r"^# TYPE (heedful_\w+?)(?:_total)? ", re.MULTILINE)


@pytest.fixture
def client() -> Client:
    """A browser that gets pages for faults too."""
    return Client(raise_request_exception=False)


@pytest.fixture
def without_database(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server is gone, for whoever asks it."""

    def gone(self: Any, *_: Any, **__: Any) -> Any:
        raise OperationalError("connection refused by 10.0.0.9, user hidden")

    monkeypatch.setattr(BaseDatabaseWrapper, "cursor", gone)


@pytest.fixture
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged meanwhile, as lines of JSON."""
    kept: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: kept.append(handler.format(record))  # type: ignore[method-assign]
    handler.setFormatter(logs.JsonFormatter())
    root, requests = logging.getLogger(), logging.getLogger(logs.REQUESTS)
    level = requests.level
    requests.setLevel("INFO")
    root.addHandler(handler)
    yield lambda: [json.loads(line) for line in kept]
    root.removeHandler(handler)
    requests.setLevel(level)


# --- probes ---


def test_a_process_lives_though_its_database_does_not(without_database: None, client: Client) -> None:
    def none(environ: dict[str, Any], start: Any) -> Any:
        raise AssertionError("no thread is waited for")

    assert ask(Threaded(none), "/healthz")[0] == 200
    assert client.get("/healthz", headers={"host": "10.0.0.9"}).status_code == 200
    answer = client.get("/readyz", headers={"host": "10.0.0.9"})
    assert (answer.status_code, answer.json()) == (503, {"status": "the database does not answer"})


def test_a_process_is_ready_once_its_migrations_are_applied(client: Client) -> None:
    assert client.get("/readyz").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_migrations (app, name, applied) VALUES ('feedback', '9999_newer', %s)",
                       ["2026-01-01 00:00:00+00:00"])  # fmt: skip
        assert client.get("/readyz").status_code == 200, "a newer version has added something: this one serves on"
        cursor.execute("DELETE FROM django_migrations WHERE app = 'feedback' AND name = '0007_field'")
    assert client.get("/readyz").json() == {"status": "1 migrations are not applied"}
    assert client.get("/readyz").status_code == 503
    assert readiness.why_not() != ""
    assert client.post("/readyz").status_code == 405


def test_what_is_left_to_migrate_is_told_and_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from feedback_stores import url_of_default
    from heedful.cli.main import main
    from heedful.errors import HeedfulError
    from heedful.studio.config import StudioConfig
    from heedful.studio.serve import bring_up_to_date

    words = ["studio", "migrate", "--check", "--folder", str(tmp_path), "--database", url_of_default()]
    config = StudioConfig(folder=tmp_path, database=url_of_default(), migrate=False)
    assert main(words) == 0
    assert "up to date" in capsys.readouterr().out
    bring_up_to_date(config)
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'feedback' AND name = '0007_field'")
    assert main(words) == 1
    assert "Pending: feedback 0007_field (stop the old version first: RunPython" in capsys.readouterr().out
    with pytest.raises(HeedfulError, match="1 migrations are not applied") as caught:
        bring_up_to_date(config)
    assert caught.value.where == "feedback.0007_field"


def test_several_processes_share_the_connections_that_one_may_have() -> None:
    assert [threads_each(workers) for workers in (1, 2, 4, 8)] == [THREADS, THREADS // 2, FEWEST, FEWEST]


# --- figures ---


def test_figures_are_read_with_the_token_or_from_here_past_the_proxy(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def status(remote: str = "127.0.0.1", **headers: str) -> int:
        return client.get("/metrics", REMOTE_ADDR=remote, headers={"host": "127.0.0.1:8400", **headers}).status_code

    assert status() == 200
    assert status("10.0.0.7") == 403
    assert status(**{"x-forwarded-for": "127.0.0.1"}) == 403
    assert status(**{"x-forwarded-proto": "https"}) == 403
    assert status(host="studio.example.org") == 403
    assert status(host="[::1]:8400") == 200
    monkeypatch.setenv(metrics.TOKEN, "a long secret")
    assert status() == 403
    assert status("10.0.0.7", host="studio.example.org", authorization="Bearer a long secret") == 200
    assert status(authorization="Bearer another") == 403
    assert status(authorization="Bearer ümlaut") == 403


def test_figures_tell_the_store_as_it_is(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    from feedback_factories import batch, item
    from feedback_quality import answer, take

    monkeypatch.setattr(metrics, "_store", metrics.Store())
    of = programme()
    made = batch(of, quota=2)
    for number in range(3):
        item(made, text=f"question {number}")
    who = rater(of)
    answer(take(who), strength=1)
    take(who)
    told = client.get("/metrics", headers=HERE).content.decode()
    for name, value in (
        ("judgments_total", 1), ("leases", 1), ("leases_overdue", 0), ("queue_places", 4), ("queue_parked", 0),
        ("queue_webhooks", 0), ("database_up", 1), ("migrations_pending", 0),
    ):  # fmt: skip
        assert f"\nheedful_{name} {value}.0\n" in told, name


def test_figures_say_that_the_database_is_gone(
    client: Client, without_database: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(metrics, "_store", metrics.Store())
    answer = client.get("/metrics", headers=HERE)
    assert answer.status_code == 200
    assert "heedful_database_up 0.0" in answer.content.decode()
    assert "heedful_judgments" not in answer.content.decode()


def test_every_figure_is_explained(client: Client, repository: Path) -> None:
    page = (repository / "docs" / "guides" / "deploy-the-studio.md").read_text(encoding="utf-8")
    made = set(NAMES.findall(client.get("/metrics", headers=HERE).content.decode()))
    assert len(made) > 12
    assert {name for name in made if f"`{name}" not in page} == set()


def test_requests_are_counted_by_page_and_not_by_what_people_ask_for(client: Client) -> None:
    client.get("/invitation/very-secret-token/")
    client.generic("BREW", "/p/some-programme/rate/")
    told = client.get("/metrics", headers=HERE).content.decode()
    assert 'page="invitation"' in told
    assert "very-secret-token" not in told
    assert "some-programme" not in told
    assert 'method="other"' in told
    assert "BREW" not in told
    assert [metrics.part_of(name) for name in ("rate_next", "api:health", "overview", "none", "login")] == [
        "rating", "api", "lead", "none", "account",
    ]  # fmt: skip


# --- logs ---


def test_a_request_is_one_line_without_what_it_was_about(client: Client, lines: Callable[[], Any]) -> None:
    answer = client.get("/invitation/very-secret-token/?name=Ann", REMOTE_ADDR="10.1.2.3")
    [line] = [one for one in lines() if one["logger"] == logs.REQUESTS]
    assert (line["method"], line["page"], line["status"]) == ("GET", "invitation/<str:token>/", 404)
    assert line["request"] == answer.headers["X-Request-ID"]
    text = json.dumps(lines())
    assert not [word for word in ("very-secret-token", "Ann", "10.1.2.3") if word in text]


def test_a_fault_is_told_by_its_place_and_not_by_what_it_quotes(
    client: Client, lines: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise IntegrityError("Key (username)=(ann@example.org) already exists") from ValueError("ann@example.org")

    monkeypatch.setattr("heedful.studio.accounts.programmes.find_invitation", fail)
    answer = client.get("/invitation/very-secret-token/", headers={"accept-language": "en"})
    assert answer.status_code == 500
    assert answer.headers["X-Request-ID"] in answer.content.decode()
    [line] = [one for one in lines() if one["logger"] == "django.request"]
    assert (line["exception"], line["cause"], line["level"]) == ("IntegrityError", "ValueError", "error")
    assert line["message"] == "500 GET invitation/<str:token>/"
    assert line["request"] == answer.headers["X-Request-ID"]
    assert any("accounts.py" in place for place in line["at"])
    assert "ann@example.org" not in json.dumps(lines())


def test_a_proxys_id_is_taken_from_a_proxy_alone(client: Client, settings: Any) -> None:
    given = "0af7651916cd43dd"
    assert client.get("/login/", headers={"x-request-id": given}).headers["X-Request-ID"] != given
    settings.HEEDFUL_PROXIED = True
    assert client.get("/login/", headers={"x-request-id": given}).headers["X-Request-ID"] == given
    for bad in ("short", 'a"b\n{"level": "error"}', "x" * 65):
        assert client.get("/login/", headers={"x-request-id": bad}).headers["X-Request-ID"] != bad
    assert studio_settings(None, "https://studio.example.org", False)["HEEDFUL_PROXIED"] is True


def test_other_libraries_words_are_not_filled_in() -> None:
    def record(name: str) -> logging.LogRecord:
        return logging.LogRecord(name, logging.WARNING, __file__, 1, "refused %s", ("ann",), None)

    assert logs.told(record("somebody.else"))["message"] == "refused %s"
    assert logs.told(record("heedful.studio.server"))["message"] == "refused ann"
    assert "refused %s" in logs.TextFormatter().format(record("somebody.else"))


# --- outages ---


def test_who_is_logged_in_gets_a_page_that_tries_again(
    client: Client, lines: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    client.force_login(account(), backend="django.contrib.auth.backends.ModelBackend")
    request.getfixturevalue("without_database")
    answer = client.get("/", headers={"accept-language": "en"})
    text = answer.content.decode()
    assert answer.status_code == 503
    assert 3 <= int(answer.headers["Retry-After"]) <= 9
    assert f'<meta http-equiv="refresh" content="{answer.headers["Retry-After"]}">' in text
    assert "Nothing that you sent before is lost" in text
    assert answer.headers["X-Request-ID"] in text
    vietnamese = client.get("/", headers={"accept-language": "vi"}).content.decode()
    assert "Nothing that you sent before is lost" not in vietnamese
    script = client.post("/p/shop/rate/next/", "{}", content_type="application/json")
    assert script.status_code == 503
    assert "is lost" in script.json()["error"]
    told = [one for one in lines() if one["logger"] == logs.SERVER]
    assert [one["message"] for one in told] == [
        "the database does not serve (OperationalError, no connection); answered 503"
    ] * 3
    assert not [one for one in lines() if one["logger"] == "django.request"], "each is told once"
    assert "10.0.0.9" not in json.dumps(lines())


def test_programs_are_told_in_the_apis_own_shape(client: Client, without_database: None) -> None:
    answer = client.get("/api/programmes/shop", headers={"authorization": "Bearer hf_none"})
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the database does not answer."
    assert answer.headers["Retry-After"]


def test_a_fault_of_ours_is_no_outage() -> None:
    import sqlite3

    def caused(error: Exception, cause: Exception) -> Exception:
        error.__cause__ = cause
        return error

    assert not outage.is_one(ProgrammingError("no such column"))
    assert not outage.is_one(caused(OperationalError("no such table: x"), sqlite3.OperationalError()))
    assert outage.is_one(caused(OperationalError("database is locked"), sqlite3.OperationalError()))
    assert outage.is_one(caused(OperationalError("database or disk is full"), sqlite3.OperationalError()))
    assert outage.is_one(OperationalError("the connection is closed"))
    assert not outage.is_one(None)


# --- static files ---


def test_files_that_came_after_this_process_began_are_found(tmp_path: Path, settings: Any) -> None:
    from heedful.studio.static import Static

    settings.STATIC_ROOT, settings.WHITENOISE_USE_FINDERS = str(tmp_path / "static"), False
    (tmp_path / "static").mkdir()
    (tmp_path / "secret-key").write_text("secret")
    serve = Static(lambda request: None)
    (tmp_path / "static" / "new.0123456789ab.css").write_text("a{}")
    answer = serve(RequestFactory().get("/static/new.0123456789ab.css"))
    assert b"".join(answer) == b"a{}"  # type: ignore[call-overload]
    for path in ("/static/../secret-key", "/static//../secret-key", "/static/none.css", "/login/", "/static/"):
        assert serve(RequestFactory().get(path)) is None
