"""Every stage on every architecture, and what the folder of a run promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from architectures import tiny_architectures
from heedful.errors import HeedfulError
from stage_runs import STAGES, config, run_stage, write_inputs, write_model


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    write_inputs(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("llama")
    write_model(folder / "policy")
    write_model(folder / "reward", kind="reward")
    return folder / "policy", folder / "reward"


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("architecture", sorted(tiny_architectures()))
def test_every_architecture_goes_through_every_stage(architecture: str, inputs: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "base", architecture)
    sft = run_stage("sft", config("sft", inputs, tmp_path / "base", tmp_path, tmp_path / "sft"))
    assert metrics(tmp_path / "sft")[-1]["loss"] < metrics(tmp_path / "sft")[0]["loss"]
    reward = run_stage("reward", config("reward", inputs, tmp_path / "sft", tmp_path, tmp_path / "reward"))
    assert reward["figures"]["accuracy"] > 0.5
    ppo = run_stage("ppo", config("ppo", inputs, tmp_path / "sft", tmp_path / "reward", tmp_path / "ppo"))
    first = metrics(tmp_path / "ppo")[0]
    assert first["first_ratio"] == pytest.approx(1.0, abs=1e-4)
    assert first["kl"] == pytest.approx(0.0, abs=1e-4)
    assert first["logprob_mismatch"] < 1e-3
    dpo = run_stage("dpo", config("dpo", inputs, tmp_path / "sft", tmp_path, tmp_path / "dpo"))
    assert metrics(tmp_path / "dpo")[0]["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert {m["kind"] for m in (sft, reward, ppo, dpo)} == set(STAGES)
    from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

    for name in ("sft", "ppo", "dpo"):
        AutoModelForCausalLM.from_pretrained(tmp_path / name)
        assert AutoTokenizer.from_pretrained(tmp_path / name).chat_template
    assert AutoModelForSequenceClassification.from_pretrained(tmp_path / "reward").config.num_labels == 1


@pytest.mark.parametrize("stage", STAGES)
def test_lora_and_micro_batches_leave_the_loss_as_it_is(
    stage: str, inputs: Path, llama: tuple[Path, Path], tmp_path: Path
) -> None:
    policy, reward = llama
    small = config(stage, inputs, policy, reward, tmp_path / "small", memory={"micro_batch_tokens": 40})
    large = config(stage, inputs, policy, reward, tmp_path / "large", memory={"micro_batch_tokens": 100_000})
    run_stage(stage, small)
    run_stage(stage, large)
    for a, b in zip(metrics(tmp_path / "small")[:2], metrics(tmp_path / "large")[:2], strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    lora = config(stage, inputs, policy, reward, tmp_path / "lora", loading={"lora_rank": 2})
    run_stage(stage, lora)
    assert torch.isfinite(torch.tensor(metrics(tmp_path / "lora")[-1]["loss"]))
    assert (tmp_path / "lora" / "model.safetensors").exists()


def test_the_shared_critic_and_any_callable_as_reward(
    inputs: Path, llama: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my_reward.py").write_text(
        "def likes_yes(prompts, completions):\n    return [float('yes' in text.split()) for text in completions]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = config("ppo", inputs, llama[0], Path("my_reward:likes_yes"), tmp_path / "ppo", critic="shared")
    run_stage("ppo", settings)
    assert all(row["reward"] >= 0 for row in metrics(tmp_path / "ppo"))
    assert (tmp_path / "ppo" / "critic").is_dir()


def test_a_finished_run_is_not_run_again_and_other_settings_are_refused(
    inputs: Path, llama: tuple[Path, Path], tmp_path: Path
) -> None:
    settings = config("sft", inputs, llama[0], llama[1], tmp_path / "sft")
    first = run_stage("sft", settings)
    stamp = (tmp_path / "sft" / "model.safetensors").stat().st_mtime_ns
    assert run_stage("sft", settings) == first
    assert (tmp_path / "sft" / "model.safetensors").stat().st_mtime_ns == stamp
    with pytest.raises(HeedfulError, match=r"other settings: batch_size \(8 before, 4 now\)"):
        run_stage("sft", config("sft", inputs, llama[0], llama[1], tmp_path / "sft", batch_size=4))
    with pytest.raises(HeedfulError, match="another kind of run"):
        run_stage("dpo", config("dpo", inputs, llama[0], llama[1], tmp_path / "sft"))


def test_a_folder_with_other_things_in_it_is_left_alone(inputs: Path, llama: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "precious"
    out.mkdir()
    (out / "thesis.txt").write_text("years of work")
    with pytest.raises(HeedfulError, match="not empty"):
        run_stage("sft", config("sft", inputs, llama[0], llama[1], out))
    assert (out / "thesis.txt").read_text() == "years of work"


def test_the_lineage_names_what_a_model_was_made_from(inputs: Path, llama: tuple[Path, Path], tmp_path: Path) -> None:
    manifest = run_stage("dpo", config("dpo", inputs, llama[0], llama[1], tmp_path / "dpo"))
    assert len(manifest["parents"]["model"]["fingerprint"]) == 64
    assert len(manifest["data"]["sha256"]) == 64
    assert manifest["data"]["records"] == 24
    assert manifest["files"].keys() >= {"model.safetensors", "config.json", "tokenizer.json"}


def test_stated_margins_are_asked_for(inputs: Path, llama: tuple[Path, Path], tmp_path: Path) -> None:
    soft = tmp_path / "soft.jsonl"
    rows = [
        {"prompt": "the sky", "chosen": "yes", "rejected": "no", "margin": 1.0},
        {"prompt": "the sea", "chosen": "yes please", "rejected": "no", "margin": 2.0},
    ]
    soft.write_text("".join(json.dumps(row) + "\n" for row in rows))
    over = {"data": str(soft), "use_margin": True, "records": {"held_out": 0.0}}
    settings = config("reward", inputs, llama[0], llama[1], tmp_path / "margin", **over)
    run_stage("reward", settings)
    assert metrics(tmp_path / "margin")


def test_a_refused_input_leaves_no_folder_behind(inputs: Path, llama: tuple[Path, Path], tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(HeedfulError, match="no such file"):
        run_stage("sft", config("sft", inputs, llama[0], llama[1], out, data=str(tmp_path / "typo.jsonl")))
    assert not out.exists()
    run_stage("sft", config("sft", inputs, llama[0], llama[1], out))
    assert (out / "manifest.json").exists()


@pytest.mark.parametrize(("normalise", "centred", "divided"), [("offset", True, False), ("standard", True, True)])
def test_a_reward_model_is_centred_and_divided_only_when_asked(
    normalise: str, centred: bool, divided: bool, tmp_path: Path
) -> None:
    write_inputs(tmp_path / "inputs")
    write_model(tmp_path / "model")
    settings = config(
        "reward", tmp_path / "inputs", tmp_path / "model", tmp_path, tmp_path / "out", normalise=normalise
    )
    run_stage("reward", settings)
    stored = json.loads((tmp_path / "out" / "config.json").read_text())["heedful_reward"]
    assert (stored["offset"] != 0.0) == centred
    assert (stored["scale"] != 1.0) == divided
