"""Who watches over the workers: replaced are those that end, and it gives up on those that cannot start."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest
from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from heedful.errors import HeedfulError
from heedful.studio import metrics, workers
from heedful.studio.workers import YOUNG, Workers

KILLED = -9


class Worker:
    """A process that ends when a test says so."""

    numbers = itertools.count(100)

    def __init__(self, config: Any, sockets: Any) -> None:
        self.pid = next(self.numbers)
        self.exitcode: int | None = None
        self.unseen = False
        """It ends, but after this look at it."""

    def start(self) -> None: ...

    def is_alive(self, timeout: float) -> bool:
        if self.unseen:
            self.unseen, self.exitcode = False, KILLED
            return True
        return self.exitcode is None

    def kill(self) -> None: ...

    def join(self) -> None: ...

    def terminate(self) -> None: ...


@pytest.fixture
def time_() -> list[float]:
    return [1000.0]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch, time_: list[float]) -> Workers:
    monkeypatch.setattr(multiprocess, "Process", Worker)
    monkeypatch.setattr(multiprocess.signal, "signal", lambda *_: None)
    monkeypatch.setattr(workers.time, "monotonic", lambda: time_[0])
    made = Workers(Config("none:app", workers=3), [])
    made.init_processes()
    made.keep_subprocess_alive()
    return made


def replaced() -> float:
    return float(metrics.RESTARTS._value.get())


@pytest.mark.parametrize(("code", "age"), [(KILLED, 0.0), (1, YOUNG + 1), (0, 0.0)])
def test_who_ends_is_replaced(watch: Workers, time_: list[float], code: int, age: float) -> None:
    before, counted = list(watch.processes), replaced()
    watch.processes[1].exitcode = code  # type: ignore[misc]
    time_[0] += age
    watch.keep_subprocess_alive()
    assert [a is b for a, b in zip(before, watch.processes, strict=True)] == [True, False, True]
    assert replaced() == counted + 1
    assert not watch.should_exit.is_set()


def test_who_dies_just_after_a_look_is_replaced_at_the_next(watch: Workers) -> None:
    before, counted = list(watch.processes), replaced()
    watch.processes[0].unseen = True  # type: ignore[attr-defined]
    watch.keep_subprocess_alive()
    assert watch.processes == before
    assert not watch.failed
    watch.keep_subprocess_alive()
    assert watch.processes[0] is not before[0]
    assert replaced() == counted + 1
    assert not watch.should_exit.is_set()


@pytest.mark.parametrize("code", [1, STARTUP_FAILURE])
def test_it_gives_up_on_workers_that_cannot_start(
    watch: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    watch.processes[2].exitcode = code  # type: ignore[misc]
    with caplog.at_level(logging.ERROR):
        watch.keep_subprocess_alive()
    assert watch.should_exit.is_set()
    assert f"exit code {code}" in caplog.text
    monkeypatch.setattr(multiprocess.Multiprocess, "run", lambda self: None)
    with pytest.raises(HeedfulError, match="do not start"):
        watch.run()


def test_one_that_is_told_to_stop_replaces_nobody(watch: Workers) -> None:
    before = list(watch.processes)
    watch.handle_term()
    watch.processes[0].exitcode = KILLED  # type: ignore[misc]
    watch.keep_subprocess_alive()
    assert watch.processes == before
    assert not watch.failed


def test_a_closed_terminal_stops_it_and_a_signal_to_a_service_replaces_workers(
    watch: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    monkeypatch.setattr(workers, "collect", lambda: done.append("files"))
    monkeypatch.setattr(watch, "restart_all", lambda: done.append("workers"))
    watch._terminal = False
    watch.handle_hup()
    assert done == ["files", "workers"]
    assert not watch.should_exit.is_set()
    watch._terminal = True
    watch.handle_hup()
    assert done == ["files", "workers"]
    assert watch.should_exit.is_set()
