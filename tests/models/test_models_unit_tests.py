"""A file of unit tests as a reward, and rewards that are sums of others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError
from heedful.models.fingerprint import source_fingerprint
from heedful.models.rewards import judged, load_reward

pytestmark = pytest.mark.usefixtures("jailed")
ADD, TWICE = "Write add(a, b).", "Write twice(x)."


def asked(text: str) -> Conversation:
    return (Message("user", text),)


def written(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def problems(tmp_path: Path) -> Path:
    return written(
        tmp_path / "problems.jsonl",
        {"prompt": ADD, "tests": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"]},
        {"prompt": [{"role": "user", "content": TWICE}], "tests": "assert twice(math.pi) > 6", "setup": "import math"},
    )


ANSWERS = ("```python\ndef add(a, b):\n    return a + b\n```", "def add(a, b):\n    return 3", "I would rather not.")


def test_the_score_is_the_share_of_tests_that_pass(problems: Path) -> None:
    scores, more = judged(load_reward(f"unit-tests:{problems}"), [asked(ADD)] * 3, ANSWERS)
    assert torch.as_tensor(scores).tolist() == [1.0, 0.5, 0.0]
    assert more["solved"].tolist() == [1.0, 0.0, 0.0]
    reward = load_reward(f"unit-tests=all:{problems}")
    assert torch.as_tensor(reward([asked(ADD)] * 3, ANSWERS)).tolist() == [1.0, 0.0, 0.0]
    assert torch.as_tensor(reward([asked(TWICE)], ["def twice(x): return 2 * x"])).tolist() == [1.0]


def test_files_of_mbpp_and_humaneval_are_read(tmp_path: Path) -> None:
    mbpp = written(
        tmp_path / "mbpp.jsonl",
        {"prompt": ADD, "code": "?", "test_list": ["assert add(1, 2) == 3"], "test_setup_code": "import math"},
    )
    human = written(
        tmp_path / "human.jsonl",
        {"prompt": ADD, "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n", "entry_point": "add"},
    )
    for path in (mbpp, human):
        scores = torch.as_tensor(load_reward(f"unit-tests:{path}")([asked(ADD)] * 2, ANSWERS[:2]))
        assert scores.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": ADD}, "no tests in this row"),
        ({"prompt": ADD, "tests": [3]}, "the tests are no texts"),
        ({"prompt": ADD, "tests": "assert add("}, "the tests are no Python"),
        ({"prompt": ADD, "test": "x", "entry_point": "a b"}, "no name of a function"),
    ],
)
def test_a_row_that_has_no_tests_is_named(tmp_path: Path, row: dict[str, object], said: str) -> None:
    path = written(tmp_path / "bad.jsonl", {"prompt": TWICE, "tests": "assert twice(1) == 2"}, row)
    with pytest.raises(HeedfulError, match=said) as caught:
        load_reward(f"unit-tests:{path}")
    assert caught.value.where == f"{path}:2"


def test_a_prompt_without_tests_and_one_with_two_sets_are_refused(problems: Path, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match=r"no tests for the prompt 'Write sub'"):
        load_reward(f"unit-tests:{problems}")([asked("Write sub")], ["x"])
    double = [{"prompt": ADD, "tests": f"assert add(1, {n}) == {1 + n}"} for n in (1, 2)]
    with pytest.raises(HeedfulError, match="other tests in an earlier row"):
        load_reward(f"unit-tests:{written(tmp_path / 'double.jsonl', *double)}")
    with pytest.raises(HeedfulError, match="unknown rule"):
        load_reward(f"unit-tests=some:{problems}")


def test_a_sum_gives_each_member_its_weight(problems: Path) -> None:
    reward = load_reward(f"sum:unit-tests:{problems},-0.5*unit-tests=all:{problems}")
    scores, more = judged(reward, [asked(ADD)] * 3, ANSWERS)
    assert torch.as_tensor(scores).tolist() == [0.5, 0.5, 0.0]
    assert "disagreement" not in more  # members of a sum judge unlike things
    with pytest.raises(HeedfulError, match="no weight that is a number"):
        load_reward(f"sum:x*unit-tests:{problems}")
    with pytest.raises(HeedfulError, match="'sum' takes no number"):
        load_reward(f"sum=2:unit-tests:{problems}")


def test_lineage_knows_the_tests_by_their_content(problems: Path) -> None:
    before = source_fingerprint(f"unit-tests:{problems}")
    written(problems, {"prompt": ADD, "tests": "assert add(0, 0) == 0"})
    assert before != source_fingerprint(f"unit-tests:{problems}")
    assert source_fingerprint(f"unit-tests:{problems}") == source_fingerprint(f"unit-tests=all:{problems}")
