"""Many raters at once over HTTP: how long they wait, and whether anything is lost, doubled or withheld.

    python benchmarks/studio_load.py --read 2 5
    .ci/with-postgres sh -c 'python benchmarks/studio_load.py --server "$HEEDFUL_TEST_DATABASE" --read 2 5'

Starts `heedful studio` on an empty folder (and, with --server, on an empty PostgreSQL database that it makes there),
fills it, and lets every rater do what the page's script does: next, show, draft, submit; every other one fetches the
next item ahead. One in ten submissions is sent twice, one in ten is clicked twice at once, some come from a second tab,
some items are passed. It ends when there is no work left, or after --seconds. Then everybody asks once more, and a
process of its own compares the database with what was acknowledged. A trial for each database and each time of
reading; at the end a table of all. Exits with 1 if anything is wrong or a limit is not kept. Raters and server share
the machine: its load before each trial is printed, and what the raters themselves used.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import random
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from studio_process import Answer, Session, Studio, scratch, store, studio

PASSED, DRAFTED, RETRIED, CLICKED_TWICE, OTHER_TAB = 0.05, 0.25, 0.1, 0.1, 0.03
"""Shares of the items."""
TOLD = 20
"""Problems that are printed; more are counted."""
PAUSE = 0.3
"""Seconds before somebody without work asks again."""
PATIENCE = 90.0
"""Seconds for which a rater sends the same again where servers are killed."""
PATIENT = 3
"""How often somebody is told that all is done before they leave."""


@dataclass
class Trial:
    """What happened, as the raters saw it."""

    slug: str
    until: float
    think: float
    kept: list[list[str]] = field(default_factory=list)
    sent: list[list[str]] = field(default_factory=list)
    none: list[list[Any]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    waits: dict[str, list[float]] = field(default_factory=dict)
    requests: int = 0
    faults: bool = False
    """Servers are killed meanwhile: what is not answered, or answered with 5xx, is sent again, as the page does."""
    resent: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def wrong(self, what: str) -> None:
        with self.lock:
            self.problems.append(what)


class Rater:
    """One rater at one browser."""

    def __init__(self, trial: Trial, studio: Studio, number: int, given: dict[str, str]) -> None:
        self.trial = trial
        self.id = given["id"]
        self.ahead = number % 2 == 1
        self.random = random.Random(number)
        self.browser = Session(studio.base, given["cookie"])
        self.tab = self.browser.twin()
        self.page = f"/p/{trial.slug}/rate/"
        self.held: tuple[dict[str, Any], float] | None = None
        """What was fetched ahead, and how long that took."""

    def open(self) -> None:
        """Load the page: it brings the token for sending."""
        answer = self.browser.call("GET", self.page)
        if answer.status != 200 or "heedful-csrf" not in self.browser.cookies:
            self.trial.wrong(f"the page: {answer.status}")
        self.tab.cookies = self.browser.cookies

    def post(self, path: str, body: dict[str, Any] | None = None, *, wanted: tuple[int, ...] = (200,)) -> Answer:
        if self.trial.faults and path.endswith(("draft/", "skip/")):
            wanted = (*wanted, 409)  # it was kept, and the answer was lost: the second time it is a conflict
        return self.told(self.call(self.browser, path, body), path, wanted)

    def call(self, browser: Session, path: str, body: dict[str, Any] | None = None) -> Answer:
        """Send; in a trial with faults, again and again until there is an answer for good."""
        until = time.time() + PATIENCE
        while True:
            try:
                answer = browser.call("POST", self.page + path, body)
                if not self.trial.faults or answer.status < 500 or time.time() > until:
                    return answer
            except (OSError, HTTPException):
                if not self.trial.faults or time.time() > until:
                    raise
            with self.trial.lock:
                self.trial.resent += 1
            time.sleep(self.random.uniform(0.1, 0.5))

    def told(self, answer: Answer, path: str, wanted: tuple[int, ...] = (200,)) -> Answer:
        with self.trial.lock:
            self.trial.requests += 1
        if answer.status not in wanted:
            self.trial.wrong(f"{path}: {answer.status} {answer.data}")
        return answer

    def wait(self, kind: str, seconds: float) -> None:
        with self.trial.lock:
            self.trial.waits.setdefault(kind, []).append(seconds)

    def next(self, **body: Any) -> tuple[dict[str, Any] | None, float]:
        """The next item, or None, and how long it took."""
        answer = self.post("next/", body)
        if answer.status != 200:
            return None, answer.seconds
        if "none" in answer.data:
            with self.trial.lock:
                self.trial.none.append([self.id, answer.sent, answer.received])
            return None, answer.seconds
        self.wait("next", answer.seconds)
        return answer.data, answer.seconds

    def begin(self) -> tuple[dict[str, Any] | None, float]:
        """An item before the rater's eyes: what was fetched ahead, or the next."""
        if self.held is None:
            return self.next()
        task, took = self.held
        self.held = None
        answer = self.post(f"{task['assignment']}/show/", wanted=(200, 409))
        if answer.status != 200:
            return self.next()
        self.wait("show", answer.seconds)
        return task, took + answer.seconds

    def work(self, patient: int = PATIENT) -> None:
        """Judge until the time is over, or there is no work, asked so often."""
        time.sleep(self.random.uniform(0, self.trial.think))  # nobody begins in step
        left = patient
        while left and time.time() < self.trial.until:
            task, took = self.begin()
            if task is not None:
                left = patient
                self.judge(task, took)
                continue
            left -= 1
            if left:
                time.sleep(PAUSE * self.random.uniform(0.5, 1.5))
        for one in (self.browser, self.tab):
            one.close()

    def judge(self, task: dict[str, Any], took: float) -> None:
        """Look at an item, and submit or pass it."""
        pause = self.random.uniform(0.5, 1.5) * self.trial.think
        own = f"{task['assignment']}/"
        fields = {"choice": str(self.random.choice((-3, -2, -1, 0, 1, 2, 3)))}
        time.sleep(pause / 2)
        if self.ahead:
            ahead, cost = self.next(prefetch=True)
            self.held = (ahead, cost) if ahead else None
        if self.random.random() < DRAFTED:
            body = {"fields": fields, "revision": task["revision"], "active_ms": round(500 * pause)}
            self.wait("draft", self.post(own + "draft/", body).seconds)
        time.sleep(pause / 2)
        if self.random.random() < PASSED:
            self.post(own + "skip/", {"reason": "unclear", "active_ms": round(1000 * pause)})
            return
        key = f"key-{task['assignment']}"
        body = {"fields": fields, "key": key, "version": task["version"], "active_ms": round(1000 * pause)}
        said = [self.id, key, task["assignment"]]
        with self.trial.lock:
            self.trial.sent.append(said)
        dice = self.random.random()
        if dice < CLICKED_TWICE:
            self.twice(own + "submit/", body)
        elif dice < CLICKED_TWICE + OTHER_TAB:
            self.other_tab(own + "submit/", body, said)
            return
        else:
            answer = self.post(own + "submit/", body)
            self.wait("submit", answer.seconds)
            self.wait("next+submit", took + answer.seconds)
            if dice > 1 - RETRIED:
                self.post(own + "submit/", body)
        with self.trial.lock:
            self.trial.kept.append(said)

    def twice(self, path: str, body: dict[str, Any]) -> None:
        """Send the same from two connections at once: both are told that it is kept."""
        for answer in self.both(path, body, body):
            self.told(answer, path)

    def other_tab(self, path: str, body: dict[str, Any], said: list[str]) -> None:
        """Send with two keys at once: one is kept, the other is a conflict."""
        other = body | {"key": body["key"] + "-tab"}
        with self.trial.lock:
            self.trial.sent.append([said[0], other["key"], said[2]])
        answers = [self.told(answer, path, (200, 409)) for answer in self.both(path, body, other)]
        if sorted(answer.status for answer in answers) != [200, 409]:
            self.trial.wrong(f"two tabs: {[(answer.status, answer.data) for answer in answers]}")
        for answer, one in zip(answers, (body, other), strict=True):
            if answer.status == 200:
                with self.trial.lock:
                    self.trial.kept.append([said[0], one["key"], said[2]])

    def both(self, path: str, first: dict[str, Any], second: dict[str, Any]) -> list[Answer]:
        with ThreadPoolExecutor(1) as pool:
            other = pool.submit(self.call, self.tab, path, second)
            own = self.call(self.browser, path, first)
            return [own, other.result()]


def together(acts: Sequence[Callable[[], None]], wrong: Callable[[str], None]) -> None:
    """Run each in a thread of its own, and wait for all."""

    def run(act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as error:
            wrong(f"{type(error).__name__}: {error}")

    threads = [threading.Thread(target=run, args=(act,), daemon=True) for act in acts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@dataclass
class Report:
    """What a trial found."""

    waits: dict[str, list[float]]
    problems: list[str]
    judgments: int
    counted: int
    seconds: float
    requests: int
    processor: float
    """Seconds that the server's processes used."""
    raters: float
    """Seconds that the raters used, on the same machine."""
    load: float
    """Processes that were running on the machine before, in the mean of a minute."""
    told_none: int
    resent: int = 0
    """Requests that had to be sent again, in a trial with faults."""

    @property
    def cost(self) -> float:
        """Milliseconds of the server's processors that a request took."""
        return 1000 * self.processor / max(1, self.requests)

    def percentile(self, kind: str, share: float) -> float:
        """Seconds that this share of the requests took at most; of none, infinite."""
        waits = sorted(self.waits.get(kind, ()))
        return waits[min(len(waits) - 1, math.ceil(share * len(waits)) - 1)] if waits else math.inf

    def lines(self) -> list[str]:
        found = [f"{'':<12} {'requests':>8} {'p50 ms':>8} {'p99 ms':>8} {'most ms':>8}"]
        for kind in ("next", "show", "draft", "submit", "next+submit"):
            if kind in self.waits:
                marks = (1000 * self.percentile(kind, share) for share in (0.5, 0.99, 1.0))
                figures = " ".join(f"{mark:8.0f}" for mark in marks)
                found.append(f"{kind:<12} {len(self.waits[kind]):>8} {figures}")
        own = 1000 * self.raters / max(1, self.requests)
        found.append(
            f"{self.requests} requests in {self.seconds:.1f} s: {self.requests / self.seconds:.0f} a second, "
            f"{self.cost:.1f} ms of processor each, and {own:.1f} of its rater's; "
            f"{self.judgments} judgments, {self.counted} counted; {self.told_none} times no work; "
            f"load before {self.load:.1f} on {os.cpu_count()} cores"
            + (f"; {self.resent} sent again, killed processes' time not counted" if self.resent else "")
        )
        more = [f"and {len(self.problems) - TOLD} more"] if len(self.problems) > TOLD else []
        return [*found, *(f"WRONG: {one}" for one in self.problems[:TOLD] + more)]


def drive(
    folder: Path, *, raters: int, items: int, quota: int, think: float = 0.0, seconds: float = 120.0,
    workers: int = 1, database: str = "", faults: Callable[[Studio], AbstractContextManager[None]] | None = None,
) -> Report:  # fmt: skip
    """Run a trial on a fresh folder; on PostgreSQL the database must hold no studio of others.

    Args:
        folder: of the studio.
        raters: how many at once.
        items: of the batch.
        quota: judgments that an item gets.
        think: mean seconds that a rater looks at an item.
        seconds: end after this long, done or not.
        workers: server processes.
        database: address; by default the folder's own SQLite file.
        faults: what goes wrong while the raters are at work; they send again what was not answered.
    """
    with studio(folder, database, ("--workers", str(workers))) as running:
        made = store("prepare", folder, running.database, raters=raters, items=items, quota=quota)
        trial = Trial(made["slug"], math.inf, think, faults=faults is not None)
        people = [Rater(trial, running, number, one) for number, one in enumerate(made["raters"])]
        together([one.open for one in people], trial.wrong)
        load = os.getloadavg()[0]
        before, own, began = running.seconds(), time.process_time(), time.time()
        trial.until = began + seconds
        with faults(running) if faults else nullcontext():
            together([one.work for one in people], trial.wrong)
        taken, processor, raters_own = time.time() - began, running.seconds() - before, time.process_time() - own
        waits = {kind: list(found) for kind, found in trial.waits.items()}
        requests = trial.requests
        finished = time.time() < trial.until
        if finished:
            _once_more(trial, people)
        told = {"slug": trial.slug, "kept": trial.kept, "sent": trial.sent, "none": trial.none, "finished": finished}
        found = store("check", folder, running.database, **told)
    return Report(
        waits=waits,
        problems=trial.problems + found["problems"],
        judgments=found["judgments"],
        counted=found["counted"],
        seconds=taken,
        requests=requests,
        processor=processor,
        raters=raters_own,
        load=load,
        told_none=len(trial.none),
        resent=trial.resent,
    )


def _once_more(trial: Trial, people: Sequence[Rater]) -> None:
    """Ask everybody again until nobody has work: what was given back after somebody left is theirs now."""
    trial.think = 0.0
    for _ in range(100):
        before = len(trial.sent)
        for one in people:
            one.work(patient=1)
        if len(trial.sent) == before:
            return
    trial.wrong("there is always more work")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raters", type=int, default=32)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--quota", type=int, default=2)
    parser.add_argument("--server", default="", help="a PostgreSQL server; without one, SQLite alone")
    parser.add_argument("--workers", type=int, nargs=2, default=(1, 2), help="server processes: SQLite, PostgreSQL")
    parser.add_argument(
        "--read", type=float, nargs="+", default=[1.0], help="mean seconds that a rater looks at an item"
    )
    parser.add_argument("--seconds", type=float, default=120.0, help="end after this long, done or not")
    parser.add_argument("--limits", type=float, nargs=2, default=(0.0, 0.0), help="ms for p99 of next+submit; 0: none")
    given = parser.parse_args()
    table = [f"{'':<12} {'reading s':>9} {'workers':>7} {'p50 ms':>8} {'p99 ms':>8} {'a second':>8} {'ms each':>8}"]
    failed = False
    trials = zip(("", given.server) if given.server else ("",), given.workers, given.limits, strict=False)
    for (server, workers, limit), read in itertools.product(trials, given.read):
        name = "PostgreSQL" if server else "SQLite"
        with tempfile.TemporaryDirectory() as folder, scratch(server) as database:
            report = drive(
                Path(folder),
                raters=given.raters,
                items=given.items,
                quota=given.quota,
                think=read,
                seconds=given.seconds,
                workers=workers,
                database=database,
            )
        print(f"{name}, {workers} of its processes, {read:g} s of reading", *report.lines(), "", sep="\n", flush=True)
        half, most = (1000 * report.percentile("next+submit", share) for share in (0.5, 0.99))
        rate = report.requests / report.seconds
        table.append(f"{name:<12} {read:9g} {workers:7} {half:8.0f} {most:8.0f} {rate:8.0f} {report.cost:8.1f}")
        failed |= bool(report.problems) or 0 < limit < most
    print(f"next+submit of {given.raters} raters", *table, sep="\n")
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
