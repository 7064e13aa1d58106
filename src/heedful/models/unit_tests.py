"""Unit tests as a reward: the Python in an answer is run against its prompt's tests, in a sandbox.

The tests come from a file with a prompt and its tests a row, in any format that prompts are read in:

- `tests`: a list of asserts, or lines of Python; `setup`, if there is one, goes before the program;
- `test_list` and `test_setup_code`, as MBPP has them;
- `test` and `entry_point`, as HumanEval has them: `check(candidate)` is called with the function of that name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heedful.data.load import by_prompt
from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.sandbox import jail
from heedful.sandbox.limits import Limits
from heedful.sandbox.unit_tests import Case, Verdict, cases_of, code_of, judge_all

_SPEC = re.compile(r"unit-tests(=[^:]*)?:(.+)")
SHAPES = "'tests', 'test_list' (MBPP), or 'test' with 'entry_point' (HumanEval)"


def names_unit_tests(spec: str) -> bool:
    """Whether a setting names a file of unit tests as the reward."""
    return bool(_SPEC.fullmatch(spec))


def tests_file(spec: str) -> Path:
    """The file that such a setting names."""
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise ValueError(f"{spec!r} names no unit tests")
    return Path(found[2])


@dataclass(frozen=True)
class Problem:
    """The tests of one prompt, and the source that goes before the program."""

    cases: tuple[Case, ...]
    setup: str = ""


class UnitTests:
    """A `Reward`: the share of its prompt's tests that an answer's program passes, or 1 where it passes all, else 0.

    Attributes:
        name: for messages and reports.
        problems: the tests of each prompt.
        rule: what a verdict is worth.
        limits: of each program.
    """

    def __init__(
        self,
        name: str,
        problems: Mapping[Conversation, Problem],
        rule: Callable[[Verdict], float],
        limits: Limits | None = None,
    ) -> None:
        self.name = name
        self.problems = problems
        self.rule = rule
        self.limits = limits

    def __call__(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> Tensor:
        """Scores [B] float32, from 0 to 1.

        Raises:
            HeedfulError: a prompt without tests, or no sandbox to be had here.
        """
        return self.measured(prompts, completions)[0]

    def measured(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> tuple[Tensor, dict[str, Tensor]]:
        """The scores, and `solved` [B]: 1 where a program passed every test."""
        verdicts = self.verdicts(prompts, completions)
        scores = torch.tensor([self.rule(verdict) for verdict in verdicts])
        return scores, {"solved": torch.tensor([float(all(verdict.passed)) for verdict in verdicts])}

    def verdicts(self, prompts: Sequence[Conversation], completions: Sequence[str]) -> list[Verdict]:
        """Of each answer: which tests passed, and why the first did not."""
        problems = [self._problem(prompt) for prompt in prompts]
        return judge_all(
            [code_of(completion) for completion in completions],
            [problem.cases for problem in problems],
            setups=[problem.setup for problem in problems],
            limits=self.limits,
        )

    def _problem(self, prompt: Conversation) -> Problem:
        found = self.problems.get(prompt)
        if found is None:
            raise HeedfulError(
                f"there are no tests for the prompt {prompt[-1].content[:80]!r}.",
                where=self.name,
                mend="The file of tests must hold every prompt of the data, word for word.",
            )
        return found


def load_unit_tests(spec: str, limits: Limits | None = None) -> UnitTests:
    """The reward that `unit-tests:FILE` (the share that passes) or `unit-tests=all:FILE` (all or nothing) names.

    Raises:
        HeedfulError: another rule, a row without tests or with tests that are no Python, a prompt with two sets of
            tests, or no sandbox to be had here.
    """
    found = _SPEC.fullmatch(spec)
    if found is None or found[1] not in (None, "=all", "=share"):
        raise HeedfulError("unknown rule.", where=spec, mend="Write unit-tests:FILE or unit-tests=all:FILE.")
    jail.check()
    problems = by_prompt(found[2], _problem, "tests")
    if found[1] == "=all":
        return UnitTests(spec, problems, lambda verdict: float(all(verdict.passed)), limits)
    return UnitTests(spec, problems, lambda verdict: verdict.share, limits)


def _problem(row: Mapping[str, Any], where: str) -> Problem:
    if "entry_point" in row and "test" in row:
        name = str(row["entry_point"])
        if not name.isidentifier():
            raise HeedfulError(f"{name!r} is no name of a function.", where=where, mend="See the column 'entry_point'.")
        return Problem((Case(f"{row['test']}\ncheck({name})", "check"),))
    listed = next((row[key] for key in ("tests", "test_list") if row.get(key)), None)
    if listed is None:
        raise HeedfulError("no tests in this row.", where=where, mend=f"It needs the columns {SHAPES}.")
    texts = [listed] if isinstance(listed, str) else listed
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise HeedfulError("the tests are no texts.", where=where, mend="Give a list of asserts, as strings.")
    try:
        cases = tuple(case for text in texts for case in cases_of(text))
    except HeedfulError as error:
        raise HeedfulError(error.what, where=where, mend=error.mend) from error
    return Problem(cases, str(row.get("setup") or row.get("test_setup_code") or ""))
