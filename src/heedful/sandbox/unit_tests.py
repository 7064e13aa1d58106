"""Judging a program by unit tests, where the program cannot see what is expected of it.

A test `assert f(2) == 4` is taken apart: `f(2)` is evaluated in the sandbox, its value comes out as a literal, and the
comparison is made out here. A program whose values claim to equal everything, that changes `assert` or leaves with
success gains nothing. A test of another shape runs in the sandbox, where a program that is out to can spoil it.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal

from heedful.errors import HeedfulError
from heedful.sandbox.limits import Limits
from heedful.sandbox.running import Finished, run

_FENCE = re.compile(r"^[ \t]*(```+|~~~+)[ \t]*([\w+-]*)[^\n]*\n(.*?)(?:^[ \t]*\1[ \t]*$|\Z)", re.DOTALL | re.MULTILINE)
_PYTHON = {"", "py", "python", "python3"}
_TRUTH: dict[str, Any] = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class Case:
    """One test.

    Attributes:
        code: an expression to evaluate, or statements that raise where the test fails.
        kind: `equal`: the value of `code` is to equal `expected`; `truth`: it is to be true or false, as `expected`
            says; `check`: `code` is statements.
        expected: the value.
    """

    code: str
    kind: Literal["equal", "truth", "check"]
    expected: Any = None


@dataclass(frozen=True)
class Verdict:
    """What the tests found of one program: for each case, whether it passed; and why the first one did not."""

    passed: tuple[bool, ...]
    why: str

    @property
    def share(self) -> float:
        """Of the cases, how many passed."""
        return sum(self.passed) / len(self.passed)


def code_of(answer: str) -> str:
    """The program in an answer: its fenced blocks of Python, one after another, or all of it where it has no fence."""
    blocks = [text for _, language, text in _FENCE.findall(answer) if language.lower() in _PYTHON]
    return "\n".join(blocks) if blocks or "```" in answer else answer


def cases_of(tests: str) -> list[Case]:
    """The cases in lines of Python.

    Where all statements are such asserts each is a case of its own. Else (loops, helpers, a `check(candidate)`) the
    whole text is one.

    Raises:
        HeedfulError: it is no Python, or empty.
    """
    try:
        statements = ast.parse(tests).body
    except (SyntaxError, ValueError) as error:
        raise HeedfulError(f"the tests are no Python: {error}.", mend="Write asserts, one a line.") from error
    if not statements:
        raise HeedfulError("there are no tests.", mend="Write asserts, one a line.")
    found = [_case(statement) for statement in statements]
    if all(isinstance(statement, ast.Assert) for statement in statements):
        return found
    return [Case(tests, "check")]


def _case(statement: ast.stmt) -> Case:
    whole = Case(ast.unparse(statement), "check")
    if not isinstance(statement, ast.Assert):
        return whole
    test = statement.test
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not) and isinstance(test.operand, ast.Call):
        return Case(ast.unparse(test.operand), "truth", False)
    if isinstance(test, ast.Call) and not _compares_itself(test):
        return Case(ast.unparse(test), "truth", True)
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        left, right = test.left, test.comparators[0]
        for asked, given in ((left, right), (right, left)):
            known, value = _literal(given)
            if not known or _literal(asked)[0]:
                continue
            if isinstance(test.ops[0], ast.Eq) or (isinstance(test.ops[0], ast.Is) and value in (True, False, None)):
                return Case(ast.unparse(asked), "equal", value)
    return whole


def _compares_itself(call: ast.Call) -> bool:
    """Whether a call holds what is expected, as `isclose(f(2), 4.0)` does: it is better made where the values are."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    return name in {"isclose", "all", "any", "allclose"}


def _literal(node: ast.expr) -> tuple[bool, Any]:
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None


def judge(program: str, cases: Sequence[Case], *, setup: str = "", limits: Limits | None = None) -> Verdict:
    """Run one program against its cases, in one sandbox; what it did not come to counts as failed.

    Args:
        program: the source.
        cases: at least one.
        setup: source that goes before it, such as imports.
        limits: as `run`.

    Raises:
        HeedfulError: there is no sandbox to be had here.
    """
    if not program.strip():
        return Verdict((False,) * len(cases), "there is no program in the answer")
    numbered = list(enumerate(cases))
    finished = run(
        f"{setup}\n{program}" if setup else program,
        calls=[(place, case.code) for place, case in numbered if case.kind != "check"],
        checks=[(place, case.code) for place, case in numbered if case.kind == "check"],
        limits=limits,
    )
    told = _told(finished)
    outcomes = [_outcome(case, told.get(place), told.get(-1), finished) for place, case in numbered]
    why = next((reason for reason in outcomes if reason), "")
    return Verdict(tuple(not reason for reason in outcomes), why)


def _told(finished: Finished) -> dict[int, tuple[str, Any]]:
    """The last word on each case. Lines that are no results are none: the program may have written them."""
    found = {}
    for line in finished.results:
        try:
            kind, place, what = json.loads(line)
        except (ValueError, TypeError, RecursionError):
            continue
        if isinstance(place, int) and isinstance(kind, str) and place not in found:
            found[place] = (kind, what)
    return found


def _outcome(case: Case, told: tuple[str, Any] | None, started: tuple[str, Any] | None, finished: Finished) -> str:
    """Why a case failed, or nothing."""
    if told is None:
        if started is not None and started[0] == "failed":
            return f"the program does not run: {started[1]}"
        return f"it did not come to {case.code!r}: {finished.ended}"
    kind, what = told
    if kind == "failed":
        return f"{case.code}: {what}"
    if case.kind == "check":
        return "" if kind == "check" else f"{case.code}: no result"
    if kind != "call" or not isinstance(what, str):
        return f"{case.code}: no result"
    try:
        value = ast.literal_eval(what)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return f"{case.code}: gave {what[:80]}, which is no literal"
    right = bool(value) is case.expected if case.kind == "truth" else value == case.expected
    return "" if right else f"{case.code}: gave {what[:80]}, not {case.expected!r}"


def judge_all(
    programs: Sequence[str],
    cases: Sequence[Sequence[Case]],
    *,
    setups: Sequence[str],
    limits: Limits | None = None,
) -> list[Verdict]:
    """Many programs, each in a sandbox of its own, as many at a time as there are cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        jobs = [
            pool.submit(judge, program, own, setup=setup, limits=limits)
            for program, own, setup in zip(programs, cases, setups, strict=True)
        ]
        return [job.result() for job in jobs]
