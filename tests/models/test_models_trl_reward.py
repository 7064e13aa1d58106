"""Reward functions written for TRL: keywords, the shape of completions, columns; and what cannot be asked."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError
from heedful.models.fingerprint import source_fingerprint
from heedful.models.rewards import load_reward, names_code
from heedful.models.trl_reward import from_trl


def asked(text: str) -> Conversation:
    return (Message("user", text),)


@pytest.fixture
def data(tmp_path: Path) -> str:
    rows: list[dict[str, Any]] = [
        {"prompt": "2 + 2?", "answer": "4", "level": 1},
        {"prompt": "3 + 4?", "answer": "7", "level": 2},
    ]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.fixture
def turns(tmp_path: Path) -> str:
    path = tmp_path / "turns.jsonl"
    path.write_text(json.dumps({"prompt": [{"role": "user", "content": "2 + 2?"}], "answer": "4"}) + "\n")
    return str(path)


def test_columns_come_in_the_order_of_the_completions(data: str) -> None:
    seen: dict[str, Any] = {}

    def correct(completions: list[str], answer: list[str], **columns: Any) -> list[float]:
        seen.update(columns, completions=completions)
        return [float(text == right) for text, right in zip(completions, answer, strict=True)]

    reward = from_trl(correct, data)
    prompts = [asked("3 + 4?"), asked("2 + 2?"), asked("3 + 4?")]
    assert reward(prompts, ["7", "4", "8"]) == [1.0, 1.0, 0.0]
    assert seen == {
        "completions": ["7", "4", "8"],
        "prompts": ["3 + 4?", "2 + 2?", "3 + 4?"],
        "level": [2, 1, 2],
    }


def test_messages_in_the_data_make_messages_of_completions(turns: str) -> None:
    def shout(prompts: Any, completions: Any) -> list[float]:
        assert prompts == [[{"role": "user", "content": "2 + 2?"}]]
        return [float(one[0]["content"].isupper() and one[0]["role"] == "assistant") for one in completions]

    assert from_trl(shout, turns)([asked("2 + 2?")], ["FOUR"]) == [1.0]


def test_a_column_that_the_function_does_not_take_is_left_out(data: str) -> None:
    assert from_trl(lambda completions, level: level, data)([asked("2 + 2?")], ["x"]) == [1]


def test_a_setting_names_function_and_file(data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tmp_path / "rewards_for_trl.py"
    module.write_text(
        "def correct(completions, answer, **kw):\n    return [c == a for c, a in zip(completions, answer)]\n"
    )
    monkeypatch.chdir(tmp_path)
    spec = f"trl={data}:rewards_for_trl:correct"
    assert names_code(spec)
    scores = torch.as_tensor(load_reward(spec)([asked("2 + 2?")] * 2, ["4", "5"]))
    assert scores.tolist() == [1.0, 0.0]
    whole = torch.as_tensor(load_reward(f"sum:2*{spec},{spec}")([asked("2 + 2?")], ["4"]))
    assert whole.tolist() == [3.0]
    before = source_fingerprint(spec)
    Path(data).write_text(Path(data).read_text().replace('"4"', '"5"'))
    assert source_fingerprint(spec) != before


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda completions, truth: completions, "needs truth, and no column"),
        (lambda completion_ids, completions: completions, "needs completion_ids, which heedful does not have"),
    ],
)
def test_what_no_column_has_is_refused_before_anything_is_asked(function: Any, message: str, data: str) -> None:
    with pytest.raises(HeedfulError, match=message) as refused:
        from_trl(function, data, name="the reward")
    assert refused.value.mend


def test_an_asynchronous_function_is_refused(data: str) -> None:
    async def slow(completions: list[str]) -> list[float]:
        return [0.0 for _ in completions]

    with pytest.raises(HeedfulError, match="asynchronous"):
        from_trl(slow, data)


def test_a_prompt_that_is_not_in_the_file_is_named(data: str) -> None:
    with pytest.raises(HeedfulError, match="no row for the prompt '9 - 1"):
        from_trl(lambda completions: [0.0], data)([asked("9 - 1?")], ["8"])


def test_a_prompt_with_two_answers_is_refused(data: str) -> None:
    with open(data, "a") as file:
        file.write(json.dumps({"prompt": "2 + 2?", "answer": "5", "level": 1}) + "\n")
    with pytest.raises(HeedfulError, match="other columns in an earlier row") as refused:
        from_trl(lambda completions: [0.0], data)
    assert str(refused.value.where).endswith("sums.jsonl:3")
