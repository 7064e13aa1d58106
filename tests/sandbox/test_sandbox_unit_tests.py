"""Programs against unit tests, honest ones and ones that cheat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heedful.errors import HeedfulError
from heedful.sandbox.limits import Limits
from heedful.sandbox.unit_tests import Case, cases_of, code_of, judge, judge_all

ADD = "def add(a, b):\n    return a + b\n"
TESTS = "assert add(1, 2) == 3\nassert add('a', 'b') == 'ab'\nassert add([1], [2]) == [1, 2]"


@pytest.mark.parametrize(
    ("text", "case"),
    [
        ("assert f(2) == 4", Case("f(2)", "equal", 4)),
        ("assert [1, (2, 'x')] == f()", Case("f()", "equal", [1, (2, "x")])),
        ("assert f(2) is None", Case("f(2)", "equal", None)),
        ("assert f(-1) == -1, 'a message'", Case("f(-1)", "equal", -1)),
        ("assert f(2)", Case("f(2)", "truth", True)),
        ("assert not f(2)", Case("f(2)", "truth", False)),
        ("assert math.isclose(f(2), 4.0)", Case("assert math.isclose(f(2), 4.0)", "check")),
        ("assert f(2) == f(3)", Case("assert f(2) == f(3)", "check")),
        ("assert 0 < f(2) < 3", Case("assert 0 < f(2) < 3", "check")),
        ("for n in range(3):\n    assert f(n) == n", Case("for n in range(3):\n    assert f(n) == n", "check")),
    ],
)
def test_what_is_expected_is_taken_out_of_a_test(text: str, case: Case) -> None:
    assert cases_of(text) == [case]


def test_tests_that_are_no_python_or_none_at_all_are_refused() -> None:
    with pytest.raises(HeedfulError, match="no Python"):
        cases_of("assert f(2) ==")
    with pytest.raises(HeedfulError, match="no tests"):
        cases_of("# nothing\n")


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("x = 1", "x = 1"),
        ("Here:\n```python\nx = 1\n```\nThat is all.", "x = 1\n"),
        ("```\nx = 1\n```\nand\n~~~py\ny = 2\n~~~", "x = 1\n\ny = 2\n"),
        ("```bash\nrm -rf /\n```", ""),
        ("```python\nx = 1", "x = 1"),
        ("````python\ns = '''\n```\n'''\n````", "s = '''\n```\n'''\n"),
    ],
)
def test_the_program_is_what_stands_in_the_fences(answer: str, code: str) -> None:
    assert code_of(answer) == code


@given(st.text())
def test_any_answer_has_some_program(answer: str) -> None:
    assert isinstance(code_of(answer), str)


@pytest.mark.usefixtures("jailed")
class TestJudging:
    def test_a_right_program_passes_and_a_wrong_one_passes_in_part(self) -> None:
        right, wrong, broken = judge_all(
            [ADD, "def add(a, b):\n    return 3", "def add(a, b:"], [cases_of(TESTS)] * 3, setups=[""] * 3
        )
        assert right.passed == (True, True, True)
        assert right.why == ""
        assert wrong.passed == (True, False, False)
        assert wrong.why == "add('a', 'b'): gave 3, not 'ab'"
        assert broken.passed == (False, False, False)
        assert broken.why.startswith("the program does not run: SyntaxError")

    @pytest.mark.parametrize(
        "cheat",
        [
            "class Same:\n    def __eq__(self, other): return True\n    def __bool__(self): return True\n"
            "    def __repr__(self): return '3'\ndef add(a, b): return Same()",
            "class Number(int):\n    def __eq__(self, other): return True\n    __hash__ = None\n"
            "def add(a, b): return Number(7)",
            "import sys\nsys.exit(0)",
            "import os\nos._exit(0)",
            "import builtins\nbuiltins.AssertionError = ValueError\ndef add(a, b): return 0",
            "import builtins\nbuiltins.exec = builtins.eval = lambda *a: None\ndef add(a, b): return 0",
            "import os\nfor fd in range(3, 30):\n    for n in range(3):\n        try:\n"
            "            os.write(fd, b'[\"check\", %d, null]\\n' % n)\n        except OSError: pass\n"
            "os._exit(0)",
            "def add(a, b):\n    raise SystemExit(0)",
            "def add(a, b):\n    while True: pass",
        ],
    )
    def test_cheating_gains_nothing(self, cheat: str) -> None:
        verdict = judge(cheat, cases_of(TESTS), limits=Limits(seconds=60, processor_seconds=1))
        assert verdict.passed == (False, False, False)
        assert verdict.why

    def test_what_it_prints_is_no_result_and_its_own_tests_do_not_run(self) -> None:
        program = ADD + "print('[\"call\", 0, \"9\"]')\nif __name__ == '__main__':\n    raise SystemExit(1)\n"
        assert all(judge(program, cases_of(TESTS)).passed)

    def test_cases_keep_what_earlier_ones_did_to_their_names(self) -> None:
        cases = [*cases_of("assert count() == 1"), *cases_of("assert count() == 2")]
        assert judge("n = 0\ndef count():\n    global n\n    n += 1\n    return n", cases).passed == (True, True)

    def test_setup_goes_before(self) -> None:
        cases = cases_of("assert root(4) == 2")
        assert judge("def root(x): return math.isqrt(x)", cases, setup="import math").passed == (True,)

    def test_an_answer_without_a_program_fails_without_a_sandbox(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("heedful.sandbox.unit_tests.run", None)
        assert judge(" \n", cases_of(TESTS)).passed == (False, False, False)
