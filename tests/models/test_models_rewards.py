from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.models.fingerprint import source_fingerprint
from heedful.models.head_bank import HeadBank
from heedful.models.rewards import EnsembleReward, load_reward
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


def folders(llama, tmp_path: Path, count: int) -> list[str]:
    """Reward models of unlike heads and offsets."""
    for number in range(count):
        made = new_reward_model(llama, seed=number)
        made.set_normalisation(0.1 * number, 1.0 + number)
        made.save(tmp_path / f"member{number}")
    return [str(tmp_path / f"member{number}") for number in range(count)]


def test_several_models_are_one_reward_by_a_rule(llama, tmp_path: Path) -> None:
    members = folders(llama, tmp_path, 3)
    texts = ["the sky", "no"]
    scores = torch.stack([load_reward(member)(PROMPTS, texts) for member in members])
    assert scores.std(0).min() > 1e-3
    listed = ",".join(members)
    for rule, wanted in (
        ("mean", scores.sum(0) / 3),
        ("worst", torch.minimum(torch.minimum(scores[0], scores[1]), scores[2])),
        ("penalised=0.5", scores.mean(0) - 0.5 * ((scores - scores.mean(0)) ** 2).sum(0) / 2),
    ):
        reward = load_reward(f"{rule}:{listed}", device="cpu")
        assert isinstance(reward, EnsembleReward)
        torch.testing.assert_close(reward(PROMPTS, texts), wanted)
        assert torch.equal(reward.members(PROMPTS, texts), scores)


def test_a_callable_may_be_a_member(llama, module: str, tmp_path: Path) -> None:
    (member,) = folders(llama, tmp_path, 1)
    both = load_reward(f"worst:{member},{module}:shortness")
    alone = load_reward(member)(PROMPTS, ["the sky", "no"])
    torch.testing.assert_close(both(PROMPTS, ["the sky", "no"]), torch.minimum(alone, torch.tensor([-7.0, -2.0])))


def test_the_lineage_of_an_ensemble_is_that_of_its_members(llama, tmp_path: Path) -> None:
    first, second, third = folders(llama, tmp_path, 3)
    hashes = {source_fingerprint(f"mean:{a},{b}") for a, b in ((first, second), (first, third), (first, second))}
    assert len(hashes) == 2
    assert all(len(value) == 64 for value in hashes)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("penalised:{0},{0}", "needs the weight of the variance"),
        ("penalised=-1:{0},{0}", "needs the weight of the variance"),
        ("penalised=x:{0},{0}", "needs the weight of the variance"),
        ("mean=2:{0},{0}", "takes no number"),
        ("mean:{0},", "an empty member"),
        ("mean:{0}", "an ensemble needs several members"),
        ("worst:{0},nowhere/at/all", "no such model folder"),
    ],
)
def test_what_is_no_ensemble_is_refused(spec: str, said: str, llama, tmp_path: Path) -> None:
    (member,) = folders(llama, tmp_path, 1)
    with pytest.raises(HeedfulError, match=said):
        load_reward(spec.format(member))


def test_one_head_has_no_further_ones(llama, tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="one head alone"):
        load_reward(folders(llama, tmp_path, 1)[0]).head_scores(PROMPTS, ["a", "b"])


def test_missing_heads_are_named(llama, tmp_path: Path) -> None:
    made = new_reward_model(llama)
    made.bank = HeadBank("ensemble", ("one", "two"), 32)
    made.save(tmp_path / "shared")
    assert load_reward(str(tmp_path / "shared")).bank.names == ("one", "two")
    (tmp_path / "shared" / "heads.safetensors").unlink()
    with pytest.raises(HeedfulError, match="cannot read the model's further heads"):
        load_reward(str(tmp_path / "shared"))
