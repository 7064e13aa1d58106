"""Training from Python on what a program holds: models, rows, functions; lineage, going on, and what is left alone."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import heedful
from architectures import WORDS, tiny_architectures, tiny_tokenizer
from heedful.data.held import Holding
from heedful.models.holding import code_sha256

QUICK: dict[str, Any] = {"max_length": 64, "quiet": True, "sample_every": 0, "tensorboard": False}
ONLINE: dict[str, Any] = {"steps": 2, "prompts_per_step": 2, "max_new_tokens": 8, **QUICK}


def pair(architecture: str = "llama", seed: int = 1) -> tuple[Any, Any]:
    from heedful.models.policy import new_policy

    policy = new_policy(tiny_architectures()[architecture], tiny_tokenizer(), seed=seed)
    return policy.model, policy.tokenizer


def rows() -> list[dict[str, str]]:
    return [
        {
            "prompt": f"{WORDS[i % 20]} {WORDS[(3 * i + 1) % 40]}",
            "chosen": f"{WORDS[i % 7]} yes please",
            "rejected": f"no {WORDS[(i + 9) % 25]}",
        }
        for i in range(16)
    ]


def says_please(prompts: Any, completions: list[str]) -> list[float]:
    return [float("please" in text) for text in completions]


def weights(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def test_objects_train_as_their_folders_do_and_stay_as_they_are(tmp_path: Path) -> None:
    model, tokenizer = pair()
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()))
    before = weights(model)
    settings = {"epochs": 1, "batch_size": 4, "learning_rate": 1e-3, **QUICK}
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    model.train()
    drawn = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    held = heedful.sft((model, tokenizer), rows(), out=tmp_path / "held", **settings)
    assert random.getstate() == drawn[0]
    assert np.random.get_state()[1].tolist() == drawn[1]
    assert torch.equal(torch.get_rng_state(), drawn[2])
    assert model.training
    assert all(one.grad is None for one in model.parameters())
    named = heedful.sft(tmp_path / "model", tmp_path / "rows.jsonl", out=tmp_path / "named", **settings)
    ours, theirs = (one.load()[0].state_dict() for one in (held, named))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert not torch.equal(ours["model.embed_tokens.weight"], before["model.embed_tokens.weight"])
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


def test_a_run_remembers_its_objects_by_content(tmp_path: Path) -> None:
    settings = {"out": tmp_path / "run", "epochs": 1, "batch_size": 8, **QUICK}
    first = heedful.dpo(pair(), rows(), **settings)
    parent = first.manifest["parents"]["model"]
    assert parent["name"] == f"memory:model-{parent['fingerprint'][:16]}"
    assert first.manifest["data"]["source"] == f"memory:rows-{first.manifest['data']['sha256'][:16]}"
    assert first.manifest["data"]["records"] == 16
    assert heedful.dpo(pair(), list(rows()), **settings).manifest == first.manifest
    with pytest.raises(heedful.HeedfulError, match=r"other settings: model \(memory:model-\w+ before, memory:model-"):
        heedful.dpo(pair(seed=2), rows(), **settings)
    with pytest.raises(heedful.HeedfulError, match=r"other settings: data \("):
        heedful.dpo(pair(), rows()[1:], **settings)


def test_a_run_that_was_stopped_goes_on_on_the_same_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.pipeline.stages import sft as stage

    settings = {"epochs": 2, "batch_size": 4, "learning_rate": 1e-3, "checkpoint_every": 2, **QUICK}
    whole = heedful.sft(pair(), rows(), out=tmp_path / "whole", **settings)

    class KilledError(Exception):
        pass

    def dies(*_: Any, **__: Any) -> None:
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(stage, "conclude", dies)
        with pytest.raises(KilledError):
            heedful.sft(pair(), rows(), out=tmp_path / "stopped", **settings)
    assert list((tmp_path / "stopped" / "checkpoints").iterdir())
    again = heedful.sft(pair(), rows(), out=tmp_path / "stopped", **settings)
    ours, theirs = (one.load()[0].state_dict() for one in (again, whole))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_function_rewards_and_a_classifier_does(tmp_path: Path) -> None:
    reward = heedful.reward_model(pair(), rows(), out=tmp_path / "reward", epochs=1, batch_size=8, **QUICK)
    by_function = heedful.grpo(
        pair(), ["how", "what now", "why"], reward=says_please, out=tmp_path / "grpo", samples_per_prompt=2, **ONLINE
    )
    assert by_function.manifest["parents"]["reward"]["fingerprint"] == code_sha256(says_please)
    assert by_function.manifest["data"]["records"] == 3
    by_model = heedful.ppo(pair(), rows(), reward=reward.load(), out=tmp_path / "ppo", **ONLINE)
    by_folder = heedful.ppo(pair(), rows(), reward=reward, out=tmp_path / "ppo-2", **ONLINE)
    assert by_model.figures["score"] == pytest.approx(by_folder.figures["score"])
    opened = heedful.load_reward(reward)
    grad = [p.requires_grad for p in opened.model.parameters()]  # type: ignore[union-attr]
    heedful.train("rloo", pair(), rows(), reward=opened, out=tmp_path / "rloo", samples_per_prompt=2, **ONLINE)
    assert [p.requires_grad for p in opened.model.parameters()] == grad  # type: ignore[union-attr]


def test_a_dataset_and_a_list_of_the_same_rows_have_one_name() -> None:
    from datasets import Dataset

    with Holding() as holding:
        assert holding.rows(Dataset.from_list(rows())) == holding.rows(rows())
        assert holding.rows(rows()) != holding.rows(rows()[::-1])


def test_records_of_heedful_are_rows_too(tmp_path: Path) -> None:
    loaded = heedful.load_preferences(rows())
    again = heedful.load_preferences(loaded.records)
    assert [(one.prompt, one.a, one.b, one.probability) for one in again.records] == [
        (one.prompt, one.a, one.b, one.probability) for one in loaded.records
    ]


def test_what_a_call_held_is_let_go() -> None:
    with Holding() as outer:
        name = outer.rows(rows())
        with Holding() as inner:
            assert inner.rows(rows()) == name
        from heedful.data.held import held

        assert len(held(name)) == 16
    with pytest.raises(heedful.HeedfulError, match="which is gone"):
        held(name)


def test_the_hash_of_a_function_is_of_what_it_does() -> None:
    def one(prompts: Any, texts: list[str]) -> list[float]:
        return [float(len(text)) for text in texts]

    first = code_sha256(one)

    def one(prompts: Any, texts: list[str]) -> list[float]:  # type: ignore[no-redef]
        return [float(len(text)) for text in texts]  # a remark, and another line

    assert code_sha256(one) == first

    def one(prompts: Any, texts: list[str]) -> list[float]:  # type: ignore[no-redef]
        return [float(len(text) + 1) for text in texts]

    assert code_sha256(one) != first
    weighed = functools.partial(says_please, weight=2)
    assert code_sha256(weighed) != code_sha256(functools.partial(says_please, weight=3))
    assert code_sha256(weighed) == code_sha256(functools.partial(says_please, weight=2))


@pytest.mark.parametrize("architecture", ["gpt2", "gemma3", "phi"])
def test_a_held_model_opens_as_its_folder_does(architecture: str, tmp_path: Path) -> None:
    from heedful.models.holding import hold_model
    from heedful.models.policy import load_policy

    model, tokenizer = pair(architecture)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with Holding() as holding:
        opened = load_policy(hold_model(holding, model.bfloat16().float(), tokenizer))
    assert all(p.dtype == torch.float32 for p in opened.model.parameters())
    folder = load_policy(tmp_path)
    assert opened.banned == folder.banned
    assert opened.eos == folder.eos
    storages = {p.data_ptr() for p in model.parameters()}
    assert not storages & {p.data_ptr() for p in opened.model.parameters()}
