"""Unit tests of the embedded world's little programs: each is turned into Python and run in the sandbox.

The world writes `def add ( a , b ) : return a + b .` among sentences. The reward is named
`heedful.pipeline.world_code:passed`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from heedful.data.records import Conversation
from heedful.sandbox import jail
from heedful.sandbox.unit_tests import cases_of, judge_all

_PROGRAM = re.compile(r"def (\w+) \( a , b \) : return a (\S+) b \.")
_ASKED = re.compile(r"\b(add|subtract|multiply|divide|compare|raise) a and b\b")
TESTS = {
    "add": ("(2, 3) == 5", "(-1, 1) == 0"),
    "subtract": ("(2, 3) == -1", "(7, 7) == 0"),
    "multiply": ("(2, 3) == 6", "(5, 0) == 0"),
    "divide": ("(6, 3) == 2", "(1, 2) == 0.5"),
    "compare": ("(2, 2) == True", "(2, 3) == False"),
    "raise": ("(2, 3) == 8", "(5, 0) == 1"),
}
"""What each function gives, by its name in the question."""
NAME = "f"
"""Of the function that is run: `raise` is no name in Python."""


def passed(prompts: Sequence[Conversation], completions: Sequence[str]) -> list[float]:
    """The share of tests that each answer's program passes; 0 without one, or where no code was asked for.

    Raises:
        HeedfulError: no sandbox can be had here.
    """
    jail.check()
    rows: list[tuple[int, str, str]] = []
    for row, (prompt, text) in enumerate(zip(prompts, completions, strict=True)):
        asked, said = _ASKED.search(prompt[-1].content), _PROGRAM.search(text)
        if asked is not None and said is not None and said[1] == asked[1]:
            rows.append((row, asked[1], f"def {NAME}(a, b):\n    return a {said[2]} b\n"))
    found = [0.0] * len(completions)
    cases = [cases_of("\n".join(f"assert {NAME}{test}" for test in TESTS[name])) for _, name, _ in rows]
    verdicts = judge_all([program for _, _, program in rows], cases, setups=[""] * len(rows))
    for (row, _, _), verdict in zip(rows, verdicts, strict=True):
        found[row] = verdict.share
    return found
