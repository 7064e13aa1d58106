"""The stages that learn online without a critic, PPO-ptx, and that all of them go on where they stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.files import sha256_file
from heedful.training.run import Watch
from heedful.training.state import Event, SetKLCoefficient, Step
from stage_runs import WITHOUT_CRITIC, config, metrics, run_stage, said, stage_of, write_inputs, write_model


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs, a policy and a reward model."""
    folder = tmp_path_factory.mktemp("online")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    write_model(folder / "reward", kind="reward")
    return folder


def settings(stage: str, made: Path, out: Path, **over: Any) -> Any:
    return config(stage, made / "inputs", made / "policy", made / "reward", out, **over)


@pytest.mark.parametrize("stage", WITHOUT_CRITIC)
def test_a_stage_leaves_a_policy_and_its_figures(stage: str, made: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    manifest = run_stage(stage, settings(stage, made, tmp_path / "run"))
    rows = metrics(tmp_path / "run")
    assert (manifest["kind"], manifest["steps"], len(rows)) == (stage, 6, 6)
    assert rows[0]["kl"] == pytest.approx(0.0, abs=1e-4)
    assert abs(rows[-1]["kl"]) > 0.01  # of a few samples, so either side of 0
    assert rows[0]["logprob_mismatch"] < 1e-3
    if stage != "online-dpo":
        assert rows[0]["first_ratio"] == pytest.approx(1.0, abs=1e-4)
        assert rows[-1]["kl_coefficient"] != rows[0]["kl_coefficient"]  # the tests' settings steer it
    assert set(manifest["parents"]) == {"model", "reward"}
    assert not (tmp_path / "run" / "critic").exists()
    AutoModelForCausalLM.from_pretrained(tmp_path / "run")


@pytest.mark.parametrize("stage", WITHOUT_CRITIC)
def test_micro_batches_lora_and_log_probs_computed_again(stage: str, made: Path, tmp_path: Path) -> None:
    small = settings(stage, made, tmp_path / "small", memory={"micro_batch_tokens": 20})
    large = settings(stage, made, tmp_path / "large", memory={"micro_batch_tokens": 100_000})
    run_stage(stage, small)
    run_stage(stage, large)
    for a, b in zip(*(metrics(tmp_path / name)[:2] for name in ("small", "large")), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], abs=1e-4)
    if stage == "online-dpo":
        with pytest.raises(HeedfulError, match="recompute_logprobs"):
            settings(stage, made, tmp_path / "again", rollout={"recompute_logprobs": True})
    else:
        run_stage(stage, settings(stage, made, tmp_path / "again", rollout={"recompute_logprobs": True}))
        rows = metrics(tmp_path / "again")
        assert rows[0]["first_ratio"] == pytest.approx(1.0, abs=1e-6)
        assert [row["loss"] for row in rows[:2]] == pytest.approx(
            [a["loss"] for a in metrics(tmp_path / "small")[:2]], abs=1e-3
        )
    run_stage(stage, settings(stage, made, tmp_path / "lora", loading={"lora_rank": 2}))
    assert (tmp_path / "lora" / "model.safetensors").exists()


@pytest.mark.parametrize("form", ["dr_grpo", "dapo", "gspo"])
def test_every_form_of_grpo_runs_and_is_written_out(form: str, made: Path, tmp_path: Path) -> None:
    manifest = run_stage("grpo", settings("grpo", made, tmp_path / "run", update={"form": form, "clip_high": 0.5}))
    assert manifest["form"]["clip_high"] == 0.5
    assert manifest["form"]["scale"] == (form != "dr_grpo")
    assert len(metrics(tmp_path / "run")) == 6


class Killed(Exception):  # noqa: N818
    pass


PTX = {"ptx": {"data": "demonstrations", "sequences": 3}}


@pytest.mark.parametrize(
    ("stage", "over"),
    [
        ("rloo", {}),
        ("grpo", {"update": {"form": "dapo"}}),
        ("reinforce", {}),
        ("ppo", PTX),
        ("ppo", {"loading": {"precision": "bfloat16"}}),
        pytest.param("ppo", {"loading": {"precision": "bfloat16", "compile": True}}, marks=pytest.mark.slow),
        ("ppo", {"kl": {"estimator": "k2", "place": "loss", "level": "sequence"}}),
        ("raft", {"ranking": "batch"}),
        ("online-dpo", {"reference": {"update": "soft", "every": 2}}),
        ("online-dpo", {"loss": "bco", "loading": {"lora_rank": 2, "lora_dropout": 0.3}}),
        ("online-dpo", {"loss": "aot + 0.1*sft", "pairs": "all", "loading": {"lora_rank": 2, "lora_dropout": 0.3}}),
    ],
    ids="rloo dapo reinforce ppo-ptx bfloat16 compiled ppo-k2 raft moving online-bco online-aot".split(),
)
def test_a_run_that_stopped_ends_with_the_same_bytes(
    stage: str, over: dict[str, Any], made: Path, tmp_path: Path
) -> None:
    over = dict(over)
    if "ptx" in over:
        over["ptx"] = over["ptx"] | {"data": str(made / "inputs" / "demonstrations.jsonl")}

    def intervene(step: Step) -> list[Event]:
        return [SetKLCoefficient(0.3)] if step.number == 3 and stage != "online-dpo" else []

    def killed(step: Step) -> list[Event]:
        if step.number == 5:  # after the checkpoint of step 4
            raise Killed
        return intervene(step)

    stage_of(stage)(settings(stage, made, tmp_path / "whole", **over), watch=lambda models: Watch(intervene=intervene))
    given = settings(stage, made, tmp_path / "killed", **over)
    with pytest.raises(Killed):
        stage_of(stage)(given, watch=lambda models: Watch(intervene=killed))
    assert "going on from step 4" in said(stage, given, watch=lambda models: Watch(intervene=intervene))
    told = () if stage == "online-dpo" else ("events.jsonl",)
    for name in ("model.safetensors", "metrics.jsonl", "samples.jsonl", *told):
        assert sha256_file(tmp_path / "whole" / name) == sha256_file(tmp_path / "killed" / name), name
    if told:
        assert metrics(tmp_path / "killed")[3]["kl_coefficient"] == 0.3


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"loss": "aot", "labels": "soft"}, "takes no soft labels"),
        ({"loss": "simpo", "reference": {"update": "hard"}}, "needs no reference"),
        ({"loss": "sigmoid", "settings": {"gamma": 1.0}}, "reads gamma"),
        ({"loss": "sigmoit"}, "Did you mean 'sigmoid'"),
    ],
)
def test_online_dpo_refuses_before_it_leaves_a_trace(
    over: dict[str, Any], said: str, made: Path, tmp_path: Path
) -> None:
    with pytest.raises(HeedfulError, match=said):
        run_stage("online-dpo", settings("online-dpo", made, tmp_path / "run", **over))
    assert not (tmp_path / "run").exists()


def test_online_dpo_writes_its_loss_out_and_its_moving_reference_stays_closer(made: Path, tmp_path: Path) -> None:
    over = {"loss": "ipo", "beta": 0.2, "steps": 8}
    manifest = run_stage("online-dpo", settings("online-dpo", made, tmp_path / "fixed", **over))
    assert manifest["loss"] == [{"loss": "ipo", "weight": 1.0, "beta": 0.2}]
    run_stage("online-dpo", settings("online-dpo", made, tmp_path / "moving", reference={"update": "hard"}, **over))
    fixed, moving = metrics(tmp_path / "fixed"), metrics(tmp_path / "moving")
    assert fixed[0]["loss"] == moving[0]["loss"]
    assert moving[-1]["reference_kl"] == pytest.approx(0.0, abs=1e-4)  # it has just become the policy that samples
    for rows in (fixed, moving):
        assert abs(rows[-1]["kl"]) > 0.01  # to where the run began; of six samples, so either side of 0


def test_the_log_says_what_a_kl_descends(made: Path, tmp_path: Path) -> None:
    assert "KL(reference || policy)" in said("grpo", settings("grpo", made, tmp_path / "a", steps=1))
    fixed = {"kl": {"adaptive": False, "coefficient": 0.0}}
    assert "warning" not in said(
        "grpo", settings("grpo", made, tmp_path / "b", steps=1, update={"form": "dapo"}, **fixed)
    )
    assert "warning" not in said("rloo", settings("rloo", made, tmp_path / "c", steps=1))
    biased = {"kl": {"estimator": "k3"}}
    assert "k3 in the reward is biased" in said(
        "reinforce", settings("reinforce", made, tmp_path / "d", steps=1, **biased)
    )


def test_ptx_reads_plain_documents_and_knows_them_again(made: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.jsonl"
    rows = [{"text": f"the sky is blue {word}"} for word in ("red", "green", "what")] + [{"text": " "}]
    text.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = settings("ppo", made, tmp_path / "run", steps=4, ptx={"data": str(text), "sequences": 2})

    def killed(step: Step) -> list[Event]:
        if step.number == 3:
            raise Killed
        return []

    with pytest.raises(Killed):
        stage_of("ppo")(given, watch=lambda models: Watch(intervene=killed))
    kept = text.read_text()
    text.write_text(kept.replace("green", "yellow"))
    with pytest.raises(HeedfulError, match="ptx_data"):
        run_stage("ppo", given)
    text.write_text(kept)
    manifest = run_stage("ppo", given)
    assert manifest["ptx_data"]["documents"] == 3
    assert all(row["ptx_loss"] > 0 for row in metrics(tmp_path / "run"))


def test_ptx_refuses_a_file_without_text(made: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.write_text('{"text": ""}\n')
    with pytest.raises(HeedfulError, match="no usable text"):
        run_stage("ppo", settings("ppo", made, tmp_path / "run", ptx={"data": str(empty)}))
    assert not (tmp_path / "run").exists()
