"""The C library's allocator, set for training on a CPU: freed memory is kept for the next pass.

As it comes, glibc hands every large tensor back to the kernel as soon as it is freed, and the next one is paid for page
by page. A step then takes up to 1.6 times as long (benchmarks/allocator.py). Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of glibc's `mallopt`."""

SETTINGS = {
    "MALLOC_MMAP_MAX_": (MMAP_MAX, 0),
    "MALLOC_TRIM_THRESHOLD_": (TRIM_THRESHOLD, 2**31 - 1),
    "MALLOC_TOP_PAD_": (TOP_PAD, 2**26),
}
"""By the environment variable that sets the same before a program starts, and then wins."""


def keep_freed_memory() -> bool:
    """Set the allocator for the rest of this process; whether there was anything to set.

    A parameter whose environment variable is set stays as it is.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    done = [mallopt(*parameter) == 1 for name, parameter in SETTINGS.items() if name not in os.environ]
    return bool(done) and all(done)
