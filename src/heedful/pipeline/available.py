"""How much memory this process may still take: the machine's, and the limits of the groups it runs in. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

UNLIMITED = 2**60
"""Bytes above which a limit is none."""


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes of main memory that may still be taken, or None where the system does not say (it is no Linux).

    The least of `MemAvailable` and of what each control group above this process leaves: its limit, less what it
    uses, of which cached files that nobody needs at the moment are given back.

    Args:
        root: where `/proc` and `/sys` stand.
    """
    try:
        lines = (root / "proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    machine = next((int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")), None)
    left = [limit - max(0, used - files) for limit, used, files in _groups(root)]
    found = [*left, *([] if machine is None else [machine])]
    return max(0, min(found)) if found else None


def _groups(root: Path) -> Iterator[tuple[int, int, int]]:
    """(limit, used, inactive files) of every control group with a limit, of either version, from this one up."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return
    mounted = root / "sys/fs/cgroup"
    for line in lines:
        number, kinds, place = line.split(":", 2)
        if number == "0":
            top, names, files = mounted, ("memory.max", "memory.current"), "inactive_file"
        elif "memory" in kinds.split(","):
            top, files = mounted / "memory", "total_inactive_file"
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        inner = top / place.strip("/")
        for folder in (inner, *inner.parents):
            if not folder.is_relative_to(top):
                break
            limit, used = (_number(folder / name) for name in names)
            if limit is not None and used is not None and limit < UNLIMITED:
                yield limit, used, _statistic(folder / "memory.stat", files)


def _number(path: Path) -> int | None:
    """The number in a file; None where there is no such file, or it says `max`."""
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None


def _statistic(path: Path, name: str) -> int:
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
