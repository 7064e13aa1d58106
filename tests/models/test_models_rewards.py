from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.rewards import load_reward
from heedful.models.scalar import RewardModel, new_reward_model

PROMPTS = [(Message("user", "hello"),), (Message("user", "why"),)]


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's module in the current folder."""
    (tmp_path / "my_scores.py").write_text(
        "import torch\n"
        "def shortness(prompts, completions):\n"
        "    return [-float(len(text)) for text in completions]\n"
        "def first(prompts, completions):\n"
        "    return torch.tensor([prompt[0].content == 'hello' for prompt in prompts])\n"
        "def too_few(prompts, completions):\n"
        "    return [1.0]\n"
        "def broken(prompts, completions):\n"
        "    return [0.5, float('nan')]\n"
        "def words(prompts, completions):\n"
        "    return ['good', 'bad']\n"
        "CONSTANT = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(__import__("sys").modules, "my_scores", raising=False)
    return "my_scores"


def test_a_callable_is_a_reward(module: str) -> None:
    scores = load_reward(f"{module}:shortness")(PROMPTS, ["abc", "a"])
    assert scores.dtype == torch.float32
    assert scores.tolist() == [-3.0, -1.0]
    assert load_reward(f"{module}:first")(PROMPTS, ["x", "y"]).tolist() == [1.0, 0.0]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("too_few", r"shape \[1\] for 2 completions"),
        ("broken", "gave nan for the completion 'second'"),
        ("words", "not numbers"),
    ],
)
def test_wrong_answers_are_named(module: str, function: str, message: str) -> None:
    reward = load_reward(f"{module}:{function}")
    with pytest.raises(HeedfulError, match=message):
        reward(PROMPTS, ["first", "second"])


def test_what_cannot_be_imported_is_named(module: str) -> None:
    with pytest.raises(HeedfulError, match="cannot import the module 'nowhere_at_all'"):
        load_reward("nowhere_at_all:score")
    with pytest.raises(HeedfulError, match="Did you mean 'shortness'"):
        load_reward(f"{module}:shortnes")
    with pytest.raises(HeedfulError, match="is no function"):
        load_reward(f"{module}:CONSTANT")


def test_a_folder_is_a_reward_model(llama, tmp_path: Path) -> None:
    made = new_reward_model(llama)
    made.set_normalisation(2.0, 4.0)
    made.save(tmp_path / "reward")
    loaded = load_reward(str(tmp_path / "reward"))
    assert isinstance(loaded, RewardModel)
    assert torch.equal(loaded(PROMPTS, ["the sky", "no"]), made(PROMPTS, ["the sky", "no"]))
