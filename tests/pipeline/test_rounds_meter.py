"""What a stage takes is counted over all its attempts, however they ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from heedful.pipeline.rounds import meter as meter_module
from heedful.pipeline.rounds.meter import METER, Meter, Metered, cpu_seconds, energy_wh, gpus_in_use, metered_in


class Hand:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.wall, self.cpu = 100.0, 7.0

    def meter(self, part: Path, period: float = 60.0) -> Meter:
        return Meter(part, clock=lambda: self.wall, cpu=lambda: self.cpu, period=period)


def test_attempts_add_up_and_time_between_them_is_nobodys(tmp_path: Path) -> None:
    hand = Hand()
    with hand.meter(tmp_path) as first:
        hand.wall, hand.cpu = 110.0, 11.0
    assert first.now == Metered(10.0, 4.0, None, 1)
    hand.wall, hand.cpu = 500.0, 0.25  # another process, much later

    def interrupted() -> None:
        with hand.meter(tmp_path):
            hand.wall, hand.cpu = 503.0, 1.25
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert metered_in(tmp_path) == Metered(13.0, 5.0, None, 2)
    assert metered_in(tmp_path / "nowhere") == Metered()


def test_a_note_is_written_whole_over_the_last_one(tmp_path: Path) -> None:
    hand = Hand()
    for seconds in (1e-9, 12345.678901234567, 0.1):
        hand.wall, hand.cpu = 0.0, 0.0
        with hand.meter(tmp_path):
            hand.wall = hand.cpu = seconds
    text = (tmp_path / METER).read_text()
    assert len(text) == 256
    assert json.loads(text)["attempts"] == 3
    (tmp_path / METER).write_text(text[:50])
    assert metered_in(tmp_path) == Metered()


def test_energy_is_what_the_formula_says() -> None:
    assert energy_wh(Metered(9.0, 7200.0, None, 1), 12.0) == 24.0
    assert energy_wh(Metered(9.0, 7200.0, 3600.0, 1), 12.0) == 25.0
    assert energy_wh(Metered(9.0, 7200.0, 3600.0, 1), 0.0) == 1.0


def _work(part: str, told: Any) -> None:
    with Meter(Path(part), period=0.02):
        begun = cpu_seconds()
        while cpu_seconds() - begun < 0.2:
            pass
        while metered_in(Path(part)).cpu_seconds < 0.2:
            pass
        told.send(True)
        signal.pause()


def test_a_killed_attempt_leaves_what_it_took(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    took = 0.0
    for attempt in (1, 2):
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(str(tmp_path), theirs))
        process.start()
        assert ours.recv()
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        found = metered_in(tmp_path)
        assert found.attempts == attempt
        assert found.cpu_seconds >= took + (0.2 if attempt == 1 else 0.0)
        took = found.cpu_seconds
    assert took > 0.2


class Driver:
    """A driver's library with two GPUs, of which one does not count its energy."""

    def __init__(self) -> None:
        self.millijoules = 5_000_000

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str, value: Any) -> int:  # noqa: N802
        value._obj.value = self.millijoules
        return 0 if handle == "counts" else 3


def test_the_gpus_energy_is_the_drivers_count_of_those_in_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    driver, used = Driver(), ["GPU-a", "GPU-b"]
    boards = meter_module.Boards(driver, {"GPU-a": "counts", "GPU-b": "does not"})
    assert boards.joules() == {"GPU-a": 5000.0}
    monkeypatch.setattr(meter_module.Boards, "open", staticmethod(lambda: boards))
    monkeypatch.setattr(meter_module, "gpus_in_use", lambda: tuple(used))
    with Meter(tmp_path, period=60.0) as first:
        driver.millijoules += 250_000
    assert first.now.gpu_joules == 250.0
    with Meter(tmp_path, period=60.0):
        driver.millijoules += 50_000
    assert metered_in(tmp_path).gpu_joules == 300.0
    used.clear()
    with Meter(tmp_path, period=60.0):
        driver.millijoules += 50_000  # somebody else's
    assert metered_in(tmp_path).gpu_joules == 300.0


def test_a_gpu_is_in_use_once_there_is_memory_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    ids = ["one", "two"]
    cuda = types.SimpleNamespace(
        is_initialized=lambda: True,
        device_count=lambda: 2,
        memory_reserved=lambda number: 1024 * number,
        get_device_properties=lambda number: types.SimpleNamespace(uuid=ids[number]),
    )
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(cuda=cuda))  # type: ignore[arg-type]
    assert gpus_in_use() == ("GPU-two",)
    cuda.is_initialized = lambda: False
    assert gpus_in_use() == ()
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace())  # type: ignore[arg-type]
    assert gpus_in_use() == ()
