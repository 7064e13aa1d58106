"""Seeds out of seeds. Works without torch."""

from __future__ import annotations

import numpy as np


def mix(seed: int, *parts: int) -> int:
    """A 63-bit seed from a seed and some counters; neighbouring counters give unrelated seeds."""
    return int(np.random.SeedSequence([seed, *parts]).generate_state(2, np.uint64)[0] >> 1)
