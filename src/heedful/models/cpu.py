"""This process, made ready for training on a CPU: freed memory is kept for the next pass, and compiled products too.

As it comes, glibc hands every large tensor back to the kernel as soon as it is freed, and the next one is paid for page
by page. oneDNN compiles a matrix product for every shape and keeps 1,024 of them, which unequal lengths run through.
Other C libraries are left as they are.
"""

from __future__ import annotations

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
"""Parameters of glibc's `mallopt`."""

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": (MMAP_MAX, 0),
    "MALLOC_TRIM_THRESHOLD_": (TRIM_THRESHOLD, 2**31 - 1),
    "MALLOC_TOP_PAD_": (TOP_PAD, 2**26),
}
"""By the environment variable that sets the same before a program starts, and then wins."""

PRODUCTS = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "8192")
"""Read when the first product is compiled."""


def prepare() -> None:
    """Set both for the rest of this process. What the environment says already stays as it is."""
    os.environ.setdefault(*PRODUCTS)
    if not sys.platform.startswith("linux"):
        return
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return
    for name, parameter in ALLOCATOR.items():
        if name not in os.environ:
            mallopt(*parameter)
