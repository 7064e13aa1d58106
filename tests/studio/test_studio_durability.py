"""What was acknowledged is on disk: after kill -9 at any moment, and before the answer leaves."""

from __future__ import annotations

import http.client
import os
import random
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from studio_process import Session, Studio, scratch, store, studio

IN_CI = os.environ.get("CI", "") not in ("", "0", "false")
SERVER = os.environ.get("HEEDFUL_TEST_DATABASE", "")
RATERS = 4
Entry = list[str]


@pytest.fixture
def database() -> Iterator[str]:
    with scratch(SERVER) as made:
        yield made


@dataclass
class Log:
    """What the raters wrote down."""

    slug: str
    sent: list[Entry] = field(default_factory=list)
    kept: list[Entry] = field(default_factory=list)
    pending: dict[str, tuple[str, dict[str, Any], Entry]] = field(default_factory=dict)
    """By rater: a submission that was sent and not answered."""
    wrong: list[str] = field(default_factory=list)

    def check(self, folder: Path, database: str) -> None:
        found = store("check", folder, database, slug=self.slug, kept=self.kept, sent=self.sent)
        assert found["problems"] == []
        assert self.wrong == []


def judge(log: Log, running: Studio, given: dict[str, str]) -> None:
    """Submit until the server is gone; what was not answered the last time goes first."""
    browser = Session(running.base, given["cookie"])
    with suppress(OSError, http.client.HTTPException):
        browser.call("GET", f"/p/{log.slug}/rate/")
        while True:
            if given["id"] not in log.pending:
                task = browser.call("POST", f"/p/{log.slug}/rate/next/").data
                if "assignment" not in task:
                    log.wrong.append(f"no work: {task}")
                    return
                path = f"/p/{log.slug}/rate/{task['assignment']}/submit/"
                body = {"fields": {"choice": "2", "rationale": "It says why."}, "key": f"key {task['assignment']}"}
                entry = [given["id"], body["key"], task["assignment"]]
                log.sent.append(entry)
                log.pending[given["id"]] = path, body | {"version": task["version"], "active_ms": 900}, entry
            path, body, entry = log.pending[given["id"]]
            answer = browser.call("POST", path, body)
            if answer.status != 200:
                log.wrong.append(f"{path}: {answer.status} {answer.data}")
                return
            log.kept.append(entry)
            del log.pending[given["id"]]


def kill_again_and_again(folder: Path, database: str, kills: int) -> None:
    dice = random.Random(0)
    with studio(folder, database) as running:
        address = running.database
        made = store("prepare", folder, address, raters=RATERS, items=40 * (kills + 1), quota=2)
    log = Log(made["slug"])
    interrupted = 0
    for _ in range(kills):
        with studio(folder, database) as running:
            acts = [threading.Thread(target=judge, args=(log, running, one)) for one in made["raters"]]
            for act in acts:
                act.start()
            enough = len(log.sent) + dice.randint(RATERS + 1, 3 * RATERS)
            until = time.monotonic() + 30
            while len(log.sent) < enough and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(dice.uniform(0, 0.03))  # from before the transaction until after the answer
            running.kill()
            for act in acts:
                act.join()
        interrupted += len(log.pending)
        log.check(folder, address)
    assert interrupted, "every kill came between two submissions"
    with studio(folder, database) as running:
        for one in made["raters"]:
            if one["id"] in log.pending:
                path, body, entry = log.pending[one["id"]]
                browser = Session(running.base, one["cookie"])
                browser.call("GET", f"/p/{log.slug}/rate/")
                assert browser.call("POST", path, body).status == 200
                log.kept.append(entry)
    log.check(folder, address)
    assert len(log.kept) == len(log.sent)


def test_what_was_acknowledged_outlives_a_kill(tmp_path: Path, database: str) -> None:
    kill_again_and_again(tmp_path, database, 3)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_what_was_acknowledged_outlives_fifty_kills(tmp_path: Path, database: str) -> None:
    kill_again_and_again(tmp_path, database, 50)


# --- the sync is seen to precede the answer ---

CALLS = "fsync,fdatasync,pwrite64,write,writev,sendto,sendmsg"
LINE = re.compile(r"^(?P<thread>\d+) +(?P<call>\w+)\((?P<about>.*)$")
RESUMED = re.compile(r"^(?P<thread>\d+) +<\.\.\. (?P<call>\w+) resumed>")


def order(trace: str) -> list[str]:
    """What a trace shows of a submission, in order: "log", "sync" (when it has ended), "answer" (when it begins)."""
    found = []
    running: dict[str, str] = {}
    for line in trace.splitlines():
        again = RESUMED.match(line)
        if again and running.pop(again["thread"], "") and line.rstrip().endswith("= 0"):
            found.append("sync")
        begun = LINE.match(line)
        if begun is None:
            continue
        call, about = begun["call"], begun["about"]
        if "feedback.db-wal>" in about.split(",")[0]:
            if call in ("pwrite64", "write"):
                found.append("log")
            elif call in ("fsync", "fdatasync"):
                if about.endswith("<unfinished ...>"):
                    running[begun["thread"]] = call
                elif about.rstrip().endswith("= 0"):
                    found.append("sync")
        elif '"HTTP/1.1 200' in about:
            found.append("answer")
    return found


def synced_before_answer(trace: str) -> bool:
    """Whether the log was written, then synced, and only then answered, with nothing written after the sync."""
    seen = order(trace)
    if "answer" not in seen:
        return False
    before = seen[: seen.index("answer")]
    return "log" in before and before[-1] == "sync"


WRITTEN = '7 pwrite64(12</f/feedback.db-wal>, "7"..., 4096, 4152) = 4096\n'
SYNCED = "7 fdatasync(12</f/feedback.db-wal>) = 0\n"
BEGUN, ENDED = "7 fdatasync(12</f/feedback.db-wal> <unfinished ...>\n", "7 <... fdatasync resumed>) = 0\n"
ANSWERED = '6 sendto(9<TCP:[1:8400->1:4]>, "HTTP/1.1 200 OK\\r\\nco"..., 300, 0, NULL, 0) = 300\n'


@pytest.mark.parametrize(
    ("trace", "sound"),
    [
        (WRITTEN + SYNCED + ANSWERED, True),
        (WRITTEN + BEGUN + ENDED + ANSWERED, True),
        (WRITTEN + ANSWERED + SYNCED, False),
        (WRITTEN + BEGUN + ANSWERED + ENDED, False),
        (WRITTEN + SYNCED + WRITTEN + ANSWERED, False),
        (WRITTEN + SYNCED.replace("= 0", "= -1 EIO") + ANSWERED, False),
        (SYNCED + ANSWERED, False),
        (WRITTEN + SYNCED, False),
    ],
)
def test_a_trace_is_read_rightly(trace: str, sound: bool) -> None:
    assert synced_before_answer(trace) is sound


def need_strace() -> None:
    """Skip where system calls cannot be traced; CI can."""
    why = "strace is not here"
    if shutil.which("strace"):
        tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, text=True)
        why = f"strace may not trace: {tried.stderr.strip()}" if tried.returncode else ""
    if why and IN_CI:
        pytest.fail(why)
    if why:
        pytest.skip(why)


@pytest.mark.on_sqlite  # PostgreSQL's own processes sync; synchronous_commit is asserted
def test_the_log_is_synced_before_the_answer_leaves(tmp_path: Path) -> None:
    need_strace()
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-y", "-s", "32", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(trace))
    folder = tmp_path / "studio"
    with studio(folder, before=strace) as running:
        made = store("prepare", folder, running.database, raters=1, items=4, quota=1)
        one = made["raters"][0]
        browser = Session(running.base, one["cookie"])
        page = f"/p/{made['slug']}/rate/"
        browser.call("GET", page)
        for _ in range(3):
            task = browser.call("POST", page + "next/").data
            body = {"fields": {"choice": "-1"}, "key": f"key {task['assignment']}", "version": task["version"]}
            before = len(trace.read_text())
            answer = browser.call("POST", f"{page}{task['assignment']}/submit/", body)
            assert answer.status == 200
            time.sleep(0.2)  # strace writes what it saw
            seen = trace.read_text()[before:]
            assert synced_before_answer(seen), seen
