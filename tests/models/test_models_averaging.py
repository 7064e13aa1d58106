"""WARM: weights are exactly the mean, and what does not average is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification

from architectures import VOCABULARY, tiny_architectures, tiny_tokenizer
from heedful.data.records import Message
from heedful.errors import HeedfulError
from heedful.files import artifact
from heedful.models.averaging import INITIALISATION, average, check_members
from heedful.models.head_bank import HeadBank
from heedful.models.policy import new_policy
from heedful.models.rewards import load_reward
from heedful.models.scalar import RewardModel, new_reward_model

ASKED = [(Message("user", "hello"),)] * 2


def member(folder: Path, seed: int, start: str = "same", tokenizer: Any = None, **architecture: Any) -> Path:
    """A reward model that has wandered from a start."""
    settings = tiny_architectures()["llama"] | architecture
    made = new_reward_model(new_policy(settings, tokenizer or tiny_tokenizer(), seed=1), seed=1)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in made.model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.01)
    made.set_normalisation(0.5 * seed, 1.0 + seed)
    with artifact(folder, {"kind": "reward", **({INITIALISATION: start} if start else {})}) as temporary:
        made.save(temporary)
    return folder


def averaged(folders: list[Path], out: Path) -> Path:
    with artifact(out, {"kind": "average"}) as temporary:
        average(folders, temporary)
    return out


def test_every_weight_is_the_mean(tmp_path: Path) -> None:
    folders = [member(tmp_path / name, seed) for seed, name in enumerate("abc")]
    assert check_members(folders) == "same"
    out = averaged(folders, tmp_path / "mean")
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    found = load_file(out / "model.safetensors")
    assert found.keys() == weights[0].keys()
    for name, value in found.items():
        exact = (weights[0][name].double() + weights[1][name].double() + weights[2][name].double()) / 3
        assert torch.equal(value, exact.float()), name
    plain = AutoModelForSequenceClassification.from_pretrained(out)
    assert plain.config.heedful_reward == {"offset": 0.5, "scale": 2.0}
    reward = load_reward(str(out))
    assert isinstance(reward, RewardModel)
    assert torch.isfinite(reward(ASKED, ["yes", "no"])).all()
    assert not (out / "heedful.yaml").exists()


def test_the_mean_of_a_model_with_itself_is_the_model(tmp_path: Path) -> None:
    folders = [member(tmp_path / name, 4) for name in "ab"]
    scores = load_reward(str(folders[0]))(ASKED, ["yes", "no"])
    assert torch.equal(load_reward(str(averaged(folders, tmp_path / "mean")))(ASKED, ["yes", "no"]), scores)


def test_further_heads_are_averaged_too(tmp_path: Path) -> None:
    made = new_reward_model(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1))
    folders = []
    for number in range(2):
        shared = RewardModel(copy.deepcopy(made.model), made.tokenizer)
        shared.bank = HeadBank("ensemble", ("one", "two"), 32, seed=number)
        shared.bank.offset += torch.tensor([1.0, -1.0]) * number
        with artifact(tmp_path / f"{number}", {INITIALISATION: "same"}) as temporary:
            shared.save(temporary)
        folders.append(tmp_path / f"{number}")
    check_members(folders)
    out = load_reward(str(averaged(folders, tmp_path / "mean")))
    banks = [HeadBank("ensemble", ("one", "two"), 32, seed=number).weight for number in range(2)]
    torch.testing.assert_close(out.bank.weight, (banks[0] + banks[1]) / 2)  # type: ignore[union-attr]
    assert out.bank.offset.tolist() == [0.5, -0.5]  # type: ignore[union-attr]


def other_tokenizer() -> Any:
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = tokenizer.chat_template.replace("<|", "<|").replace("}}", " }}", 1)
    return tokenizer


@pytest.mark.parametrize(
    ("second", "said"),
    [
        ({"start": "elsewhere"}, "did not begin from the weights"),
        ({"start": ""}, "what this model began from is not known"),
        ({"hidden_size": 16, "head_dim": 8}, "configurations differ in .*hidden_size"),
        ({"num_hidden_layers": 1}, "configurations differ in .*num_hidden_layers"),
        ({"vocab_size": VOCABULARY + 1}, "configurations differ in vocab_size"),
        ({"tokenizer": other_tokenizer()}, "tokenizers or chat templates differ"),
    ],
)
def test_what_does_not_average_is_refused(second: dict[str, Any], said: str, tmp_path: Path) -> None:
    folders = [member(tmp_path / "a", 1), member(tmp_path / "b", 2, **second)]
    with pytest.raises(HeedfulError, match=said) as caught:
        check_members(folders)
    assert caught.value.where == str(tmp_path / "b")


def test_somebody_may_vouch_for_the_start(tmp_path: Path) -> None:
    folders = [member(tmp_path / "a", 1, start=""), member(tmp_path / "b", 2, start="x")]
    assert check_members(folders, same_start=True) == ""


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    folders = [member(tmp_path / "a", 1), member(tmp_path / "b", 2)]
    from safetensors.torch import save_file

    weights = load_file(folders[1] / "model.safetensors")
    weights["score.weight"] = weights["score.weight"].repeat(2, 1)
    save_file(weights, folders[1] / "model.safetensors")
    with pytest.raises(HeedfulError, match=r"weights differ in name, type or shape: model.safetensors:score.weight"):
        check_members(folders)


def test_one_model_or_the_same_twice_is_no_average(tmp_path: Path) -> None:
    folder = member(tmp_path / "a", 1)
    for folders in ([folder], [folder, folder]):
        with pytest.raises(HeedfulError, match="two different models"):
            check_members(folders)
    with pytest.raises(HeedfulError, match="no such folder"):
        check_members([folder, tmp_path / "nowhere"])


def test_a_policy_is_no_member(tmp_path: Path) -> None:
    new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1).save(tmp_path / "policy")
    with pytest.raises(HeedfulError, match="not a reward model"):
        check_members([member(tmp_path / "a", 1), tmp_path / "policy"])
    assert json.loads((tmp_path / "a" / "manifest.json").read_text())["kind"] == "reward"
