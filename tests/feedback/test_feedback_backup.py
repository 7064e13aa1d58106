"""Backups: whole while people are at work, checked, and never a way to bring back what was erased."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import threading
import time
from contextlib import closing
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection, connections, transaction

from feedback_factories import batch, item, programme, rater
from feedback_quality import answer, take
from feedback_stores import contents, url_of_default
from heedful.errors import HeedfulError
from heedful.feedback import backup as module
from heedful.feedback.backup import backup, restore
from heedful.feedback.databases import opened
from heedful.feedback.models import Batch, CurrentJudgment, Judgment, RaterKind
from heedful.feedback.submission import record
from heedful.files import sha256_file

committed = pytest.mark.django_db(transaction=True)
pytestmark = pytest.mark.usefixtures("beside")


@pytest.fixture
def busy() -> Batch:
    with transaction.atomic():
        of = programme()
        made = batch(of)
        for _ in range(40):
            item(made)
        who = rater(of)
        for strength in (1, -2, 3):
            answer(take(who), strength=strength)
    return made


@committed
@pytest.mark.on_sqlite
def test_a_backup_restored_is_the_same_store(busy: Batch, tmp_path: Path) -> None:
    report = backup(url_of_default(), tmp_path / "copies" / "one.db")
    assert report.sha256 == sha256_file(report.out)
    assert report.bytes == report.out.stat().st_size
    assert sorted(path.name for path in report.out.parent.iterdir()) == ["one.db", "one.db.sha256"]
    seal = (tmp_path / "copies" / "one.db.sha256").read_text()
    assert seal == f"{report.sha256}  one.db\n"
    fresh = tmp_path / "fresh.db"
    restored = restore(report.out, f"sqlite:///{fresh}")
    assert (restored.sealed, restored.erased) == (True, 0)
    before = contents("default")
    with opened(f"sqlite:///{fresh}") as alias:
        assert contents(alias) == before
    assert before["feedback_judgment"][0] == 3


@committed
@pytest.mark.on_sqlite
def test_it_is_whole_while_others_write(busy: Batch, tmp_path: Path) -> None:
    """Each copy holds every judgment that was acknowledged before it began, and nothing half-written."""
    who = rater(busy.programme, kind=RaterKind.SIMULATED)
    items = list(busy.items.order_by("pk")[3:])
    done: list[float] = []
    stop = threading.Event()

    def work() -> None:
        try:
            for number, one in enumerate(items):
                record(one, who, {"strength": 1}, key=f"w{number}", rationale="because")
                done.append(time.monotonic())
                if stop.is_set():
                    return
        finally:
            connections.close_all()

    writer = threading.Thread(target=work)
    writer.start()
    made = []
    while writer.is_alive() and len(made) < 5:
        acknowledged = len(done)
        made.append((acknowledged, backup(url_of_default(), tmp_path / f"{len(made)}.db").out))
    stop.set()
    writer.join()
    assert len(made) >= 2
    for acknowledged, path in made:
        with closing(sqlite3.connect(path)) as copy:
            judgments = copy.execute("SELECT count(*) FROM feedback_judgment").fetchone()[0]
            current = copy.execute("SELECT count(*) FROM feedback_currentjudgment").fetchone()[0]
            reasons = copy.execute("SELECT count(*) FROM feedback_rationale").fetchone()[0]
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert judgments == current == reasons + 3
        assert judgments >= acknowledged + 3
    assert CurrentJudgment.objects.count() == Judgment.objects.count()


@committed
@pytest.mark.on_sqlite
def test_a_damaged_database_gives_no_backup_and_the_old_one_stays(busy: Batch, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    backup(url_of_default(), copy)
    damaged = tmp_path / "damaged.db"
    data = bytearray(copy.read_bytes())
    page = 4096
    for at in range(20 * page, len(data) - page, 7 * page):
        data[at : at + 64] = os.urandom(64)
    damaged.write_bytes(bytes(data))
    out = tmp_path / "out.db"
    out.write_text("the one from yesterday")
    with pytest.raises(HeedfulError, match=r"damaged|cannot be opened"):
        backup(f"sqlite:///{damaged}", out)
    assert out.read_text() == "the one from yesterday"
    assert not list(tmp_path.glob(".*"))


@committed
@pytest.mark.on_sqlite
def test_what_is_no_backup_or_was_changed_is_refused(busy: Batch, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    backup(url_of_default(), copy)
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    with open(copy, "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(HeedfulError, match=r"not what copy\.db\.sha256 says"):
        restore(copy, fresh)
    text = tmp_path / "text.db"
    text.write_text("hello")
    with pytest.raises(HeedfulError, match="no backup of a store"):
        restore(text, fresh)
    with pytest.raises(HeedfulError, match="no such file"):
        restore(tmp_path / "none", fresh)
    backup(url_of_default(), copy)
    with pytest.raises(HeedfulError, match="backup of a SQLite database"):
        restore(copy, "postgresql://user@127.0.0.1:1/name")
    assert not (tmp_path / "fresh.db").exists()


@committed
@pytest.mark.on_sqlite
def test_nothing_is_overwritten(busy: Batch, tmp_path: Path) -> None:
    copy = tmp_path / "copy.db"
    url = url_of_default()
    backup(url, copy)
    with pytest.raises(HeedfulError, match="a database here already"):
        restore(copy, url)
    with pytest.raises(HeedfulError, match="database's own place"):
        backup(url, connection.settings_dict["NAME"])
    with pytest.raises(HeedfulError, match="no database here"):
        backup(f"sqlite:///{tmp_path / 'none.db'}", copy)
    assert not (tmp_path / "none.db").exists()


def test_postgresql_without_its_programs_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HeedfulError, match=r"pg_dump is not installed.*Install PostgreSQL's client programs"):
        backup("postgresql://user:secret@127.0.0.1:1/name", tmp_path / "out.dump")
    assert not list(tmp_path.iterdir())


def test_a_password_is_told_to_no_other_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = tmp_path / "told"
    tool = tmp_path / "bin" / "pg_dump"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\necho "$@ $PGPASSWORD" > {told}\necho "no server" >&2\nexit 1\n')
    tool.chmod(tool.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    with pytest.raises(HeedfulError, match=r"pg_dump failed \(no server\)"):
        backup("postgresql://user:secret@127.0.0.1:1/name", tmp_path / "out.dump")
    said = told.read_text().split()
    assert said[-1] == "secret"
    assert not any("secret" in word for word in said[:-1])
    assert not (tmp_path / "out.dump").exists()


@committed
@pytest.mark.on_postgresql
def test_postgresql_is_copied_by_its_own_programs(busy: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if programs:
        monkeypatch.setenv("PATH", f"{programs[-1]}:{os.environ['PATH']}")
    if shutil.which("pg_dump") is None:
        pytest.skip("pg_dump is not installed")
    import psycopg

    monkeypatch.setattr(settings, "HEEDFUL_FOLDER", str(tmp_path))  # where PostgreSQL's journal of erasures stands
    before = contents("default")
    report = backup(url_of_default(), tmp_path / "one.dump")
    assert report.out.read_bytes().startswith(module.DUMP_HEAD)
    given = connection.settings_dict
    where = {"host": given["HOST"], "port": given["PORT"], "user": given["USER"], "password": given["PASSWORD"]}
    name = f"restored_{os.getpid()}"
    with psycopg.connect(**where, dbname="postgres", autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
        url = url_of_default().rpartition("/")[0] + f"/{name}"
        try:
            assert restore(report.out, url).sealed
            with opened(url) as alias:
                assert contents(alias) == before
            with pytest.raises(HeedfulError, match="not empty"):
                restore(report.out, url)
        finally:
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")
