"""What a training process sets of its allocator and of oneDNN, tried in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource, sys, torch
from heedful.models import cpu
if sys.argv[1] == "prepared":
    cpu.prepare()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**24).add_(1)
before = faults()
for _ in range(5):
    torch.ones(2**24).add_(1)
print(faults() - before)
"""


def faults(how: str, **environment: str) -> int:
    """Pages that the kernel hands out while 64 MiB are taken and freed five times."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], env={**kept, **environment}, check=True, capture_output=True, text=True
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_freed_memory_is_kept_unless_the_environment_says_otherwise() -> None:
    as_it_comes = faults("as it comes")
    assert as_it_comes > 40_000  # every page anew, 81,920 in all
    assert faults("prepared") < as_it_comes / 20
    told = {"MALLOC_MMAP_MAX_": "65536", "MALLOC_MMAP_THRESHOLD_": "131072"}
    assert faults("prepared", **told) > as_it_comes / 2
