from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from heedful.errors import HeedfulError
from heedful.files import artifact, read_manifest
from heedful.models.fingerprint import model_fingerprint
from heedful.models.policy import load_policy
from heedful.models.scalar import new_reward_model
from heedful.models.storage import check_source


@pytest.fixture
def folder(llama, tmp_path: Path) -> Path:
    llama.save(tmp_path / "model")
    return tmp_path / "model"


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("tokenizer*"):
        path.unlink()


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")


def pickle_behind_a_stray_file(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    torch.save({"lm_head.weight": torch.zeros(64, 32)}, folder / "pytorch_model.bin")


def cut(folder: Path) -> None:
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(whole[: len(whole) // 2])


def with_own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "own", "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text("raise SystemExit('this code must not run')\n")


def larger(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))


def wider(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 99}))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_tokenizer, r"has no tokenizer.*save_pretrained"),
        (as_pickle, r"pickle files \(pytorch_model.bin\).*safetensors"),
        (pickle_behind_a_stray_file, r"no file named model\.safetensors"),
        (cut, "damaged"),
        (with_own_code, "cannot open the model's configuration"),
        (larger, r"missing: model\.layers\.2"),
        (wider, "cannot open the model"),
        (lambda folder: (folder / "model.safetensors").unlink(), "no weights"),
        (lambda folder: (folder / "config.json").unlink(), "no config.json"),
        (lambda folder: (folder / "config.json").write_text("{"), "configuration"),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), "cannot open the tokenizer"),
    ],
)
def test_a_spoilt_folder_is_one_clear_error(folder: Path, spoil: Callable[[Path], object], message: str) -> None:
    spoil(folder)
    with pytest.raises(HeedfulError, match=message) as caught:
        load_policy(folder)
    assert caught.value.where == str(folder)
    assert caught.value.mend


def test_a_mistyped_folder_is_no_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "sft").mkdir(parents=True)
    (tmp_path / "runs" / "sft" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HeedfulError, match="no such model folder") as refused:
        check_source("runs/sfft")
    assert "'sft'" in refused.value.mend
    check_source("someone/sfft")  # nothing here says that this is no hub id


def test_a_missing_folder_and_a_file_are_named(folder: Path) -> None:
    with pytest.raises(HeedfulError, match="no such model folder"):
        load_policy(folder / "gone")
    with pytest.raises(HeedfulError, match="this is a file"):
        load_policy(folder / "config.json")


def test_a_disk_that_fills_leaves_no_folder(llama, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(llama.tokenizer, "save_pretrained", full)
    with (
        pytest.raises(HeedfulError, match="disk is full"),
        artifact(tmp_path / "model", {"kind": "policy"}) as temporary,
    ):
        llama.save(temporary)
    assert not list(tmp_path.iterdir())


def test_a_sealed_folder_loads(llama, batch, tmp_path: Path) -> None:
    with artifact(tmp_path / "model", {"kind": "policy"}) as temporary:
        llama.save(temporary)
    assert "model.safetensors" in (read_manifest(tmp_path / "model") or {})["files"]
    assert torch.equal(load_policy(tmp_path / "model").token_logprobs(*batch)[0], llama.token_logprobs(*batch)[0])


def test_the_fingerprint_follows_the_content(llama, folder: Path, tmp_path: Path) -> None:
    llama.save(tmp_path / "copy")
    assert model_fingerprint(folder) == model_fingerprint(tmp_path / "copy")
    again = load_policy(folder)
    assert model_fingerprint(again) == model_fingerprint(llama)
    before = model_fingerprint(folder)
    with torch.no_grad():
        llama.model.lm_head.weight[9, 9] += 1e-6
    assert model_fingerprint(llama) != model_fingerprint(again)
    llama.save(folder)
    assert model_fingerprint(folder) != before
    again.tokenizer.chat_template += " "
    assert model_fingerprint(again) != model_fingerprint(load_policy(tmp_path / "copy"))


def test_the_fingerprint_of_a_reward_model_knows_its_offset(llama) -> None:
    reward = new_reward_model(llama)
    before = model_fingerprint(reward)
    reward.set_normalisation(0.5, 1.0)
    assert model_fingerprint(reward) != before


def test_a_folder_without_a_model_has_no_fingerprint(tmp_path: Path) -> None:
    with pytest.raises(HeedfulError, match="no model here"):
        model_fingerprint(tmp_path)
