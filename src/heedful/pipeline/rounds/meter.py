"""What a stage takes of the machine while it runs: time, processor seconds, the GPU's energy. Imports no torch.

The count is written beside the half-made result every second, so that a stage that was killed and goes on adds up: a
`kill -9` loses what the last second took.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

METER = ".cost.json"
PERIOD = 1.0
"""Seconds between two notes."""
_WIDTH = 256
"""Bytes of a note: each is written over the last by one call, so that no kill leaves half of one."""


@dataclass(frozen=True)
class Metered:
    """What the attempts at a stage took together."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the process, all its threads, in user and system mode, and of the child processes that have ended."""
    gpu_joules: float | None = None
    """Of the GPUs that it had memory on, by the driver's own counter; None where there was none, or none that counts.
    A GPU that others use too is counted whole."""
    attempts: int = 0

    def __add__(self, other: Metered) -> Metered:
        joules = [one.gpu_joules for one in (self, other) if one.gpu_joules is not None]
        return Metered(
            self.wall_seconds + other.wall_seconds,
            self.cpu_seconds + other.cpu_seconds,
            sum(joules) if joules else None,
            self.attempts + other.attempts,
        )


def energy_wh(metered: Metered, watts_per_core: float) -> float:
    """Energy in watt-hours: (processor seconds x watts of a busy core + the GPUs' joules) / 3600.

    Memory, disks, cooling and what the machine draws at rest are not in it.
    """
    return (metered.cpu_seconds * watts_per_core + (metered.gpu_joules or 0.0)) / 3600


def cpu_seconds() -> float:
    """Processor seconds of this process so far, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def metered_in(part: Path) -> Metered:
    """What a half-made stage has taken so far; nothing where none was noted."""
    try:
        return Metered(**json.loads((part / METER).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return Metered()


class Meter:
    """Counts what happens inside a `with` block on top of what earlier attempts noted in the same folder.

    Args:
        part: the folder.
        clock, cpu: seconds so far.
        period: seconds between two notes.
    """

    def __init__(
        self,
        part: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu: Callable[[], float] = cpu_seconds,
        period: float = PERIOD,
    ) -> None:
        self._clock, self._cpu, self._period = clock, cpu, period
        self._part = part
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="heedful-meter", daemon=True)

    def __enter__(self) -> Meter:
        self._before = metered_in(self._part)
        self._began = (self._clock(), self._cpu())
        self._boards = Boards.open()
        self._joules = self._boards.joules() if self._boards is not None else {}
        self._file = os.open(self._part / METER, os.O_WRONLY | os.O_CREAT, 0o644)
        self._note()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()
        with suppress(OSError):  # a full disk: the stage itself has said so, and the count stands in the manifest
            self._note()
        os.close(self._file)

    @property
    def now(self) -> Metered:
        """All attempts, this one so far included."""
        wall, cpu = (now - then for now, then in zip((self._clock(), self._cpu()), self._began, strict=True))
        return self._before + Metered(wall, cpu, self._gpu(), 1)

    def _gpu(self) -> float | None:
        used = gpus_in_use() if self._boards is not None else ()
        if self._boards is None or not used:
            return None
        now = self._boards.joules()
        counted = [now[name] - self._joules[name] for name in used if name in now and name in self._joules]
        return sum(counted) if counted else None

    def _note(self) -> None:
        text = json.dumps(asdict(self.now))
        os.pwrite(self._file, text.ljust(_WIDTH - 1).encode() + b"\n", 0)

    def _watch(self) -> None:
        while not self._ended.wait(self._period):
            try:
                self._note()
            except OSError:  # a full disk: the stage itself will say so
                return


def gpus_in_use() -> tuple[str, ...]:
    """Ids of the GPUs that this process has memory on, as the driver names them."""
    torch: Any = sys.modules.get("torch")
    cuda = getattr(torch, "cuda", None)
    if cuda is None or not getattr(cuda, "is_initialized", lambda: False)():
        return ()
    held = [number for number in range(cuda.device_count()) if cuda.memory_reserved(number) > 0]
    return tuple(f"GPU-{cuda.get_device_properties(number).uuid}" for number in held)


class Boards:
    """The machine's NVIDIA GPUs, asked through the driver's own library (NVML)."""

    def __init__(self, library: Any, handles: Mapping[str, Any]) -> None:
        self._library, self._handles = library, handles

    @staticmethod
    def open() -> Boards | None:
        """The GPUs that count their energy; None where there is none, or no driver."""
        try:
            library: Any = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        if library.nvmlInit_v2() != 0:
            return None
        count = ctypes.c_uint()
        library.nvmlDeviceGetCount_v2(ctypes.byref(count))
        handles: dict[str, Any] = {}
        for number in range(count.value):
            handle, name = ctypes.c_void_p(), ctypes.create_string_buffer(96)
            if library.nvmlDeviceGetHandleByIndex_v2(number, ctypes.byref(handle)):
                continue
            if library.nvmlDeviceGetUUID(handle, name, ctypes.c_uint(96)) == 0:
                handles[name.value.decode()] = handle
        found = Boards(library, handles)
        return found if found.joules() else None

    def joules(self) -> dict[str, float]:
        """Joules since the driver was loaded, by GPU; those that do not count are left out."""
        found = {}
        for name, handle in self._handles.items():
            millijoules = ctypes.c_ulonglong()
            if self._library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(millijoules)) == 0:
                found[name] = millijoules.value / 1000
        return found
