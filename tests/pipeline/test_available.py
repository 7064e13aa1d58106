"""The memory that is left, by the machine and by control groups of both versions, on made-up file systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from heedful.pipeline.available import available_memory

GIB = 2**30


def system(root: Path, cgroup: str, files: dict[str, str | int]) -> Path:
    """A root with 8 GiB available, a line of /proc/self/cgroup, and files of /sys/fs/cgroup."""
    proc = root / "proc" / "self"
    proc.mkdir(parents=True)
    (root / "proc" / "meminfo").write_text(f"MemTotal: 1 kB\nMemAvailable: {8 * GIB // 1024} kB\n")
    (proc / "cgroup").write_text(cgroup)
    for name, content in files.items():
        path = root / "sys" / "fs" / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{content}\n")
    return root


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("", {}, 8),
        ("0::/\n", {"memory.max": "max", "memory.current": GIB}, 8),
        # version 2: 4 GiB less the 3 used, of which 1 is cache that can be given back
        (
            "0::/a/b\n",
            {"a/memory.max": 4 * GIB, "a/memory.current": 3 * GIB, "a/memory.stat": f"anon 5\ninactive_file {GIB}"},
            2,
        ),
        # the tightest of all groups above counts
        (
            "0::/a/b\n",
            {
                "a/memory.max": 4 * GIB,
                "a/memory.current": GIB,
                "a/b/memory.max": 2 * GIB,
                "a/b/memory.current": GIB,
            },
            1,
        ),
        # version 1
        (
            "9:cpu:/x\n4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": 6 * GIB,
                "memory/x/memory.usage_in_bytes": 4 * GIB,
                "memory/x/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB}",
            },
            3,
        ),
        # version 1 says "no limit" by a number near 2**63
        (
            "4:memory:/\n",
            {"memory/memory.limit_in_bytes": 9223372036854771712, "memory/memory.usage_in_bytes": GIB},
            8,
        ),
        # in a container the path is the host's, and the root of what is mounted is the group's own
        ("4:memory:/docker/1f\n", {"memory/memory.limit_in_bytes": GIB, "memory/memory.usage_in_bytes": 0}, 1),
    ],
)
def test_the_least_that_is_left_counts(tmp_path: Path, cgroup: str, files: dict[str, str | int], expected: int) -> None:
    assert available_memory(system(tmp_path, cgroup, files)) == expected * GIB


def test_a_system_that_does_not_say_is_unknown(tmp_path: Path) -> None:
    assert available_memory(tmp_path) is None


def test_this_machine_has_some() -> None:
    found = available_memory()
    assert found is None or found > 0
