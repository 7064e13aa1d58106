"""One, two and four processes: the same gradients, the same curve, the same weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from heedful.files import read_manifest
from heedful.training.folders import checkpoints
from stage_runs import WITHOUT_CRITIC, config, run_stage, write_inputs, write_model
from worker_processes import curve, run_workers, train

FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "sft": ("sft", {}),
    "reward": ("reward", {}),
    "reward-length": ("reward", {"heads": {"kind": "length"}}),
    "reward-ensemble": ("reward", {"heads": {"kind": "ensemble"}}),
    "reward-lora": ("reward", {"loading": {"lora_rank": 2}}),
    "dpo": ("dpo", {}),
    "dpo-lora": ("dpo", {"loading": {"lora_rank": 2}}),
    "kto": ("dpo", {"loss": "kto"}),
    "bco": ("dpo", {"loss": "bco"}),
    "whole-batch": ("dpo", {"loss": "aot"}),
    "tr-dpo": ("dpo", {"reference": {"update": "soft", "every": 2}}),
    "wpo": ("dpo", {"weighting": "wpo"}),
    "ppo": ("ppo", {}),
    "ppo-shared": ("ppo", {"critic": "shared"}),
    "ppo-lora": ("ppo", {"loading": {"lora_rank": 2}}),
    **{stage: (stage, {}) for stage in WITHOUT_CRITIC},
}
ADAPTED = {name for name, (_, over) in FORMS.items() if "loading" in over}
MOVES = {"tr-dpo"}
NOISE = {"logprob_mismatch"}
"""Figures that are nothing but the rounding of sums, told on a scale of their own."""


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("workers")
    write_inputs(folder / "inputs")
    write_model(folder / "model")
    write_model(folder / "reward", kind="reward")
    return folder


def settings(form: str, given: Path, out: Path, **over: Any) -> tuple[str, Any]:
    stage, own = FORMS[form]
    return stage, config(stage, given / "inputs", given / "model", given / "reward", out, **{**own, **over})


def alone(form: str, given: Path) -> Path:
    """The run of one process, made once."""
    out = given / "alone" / form
    if read_manifest(out) is None:
        run_stage(*settings(form, given, out))
    return out


def same_run(one: Path, other: Path) -> None:
    """The same figures at every step but for rounding, and the same weights at the end."""
    before, now = curve(one), curve(other)
    assert len(before) == len(now)
    for a, b in zip(before, now, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - NOISE:
            if name == "accuracy" and a["step"] == 1:  # of margins that are all nought but for rounding
                continue
            assert b[name] == pytest.approx(a[name], rel=2e-3, abs=2e-5), f"{name} of step {a['step']}"
    first, second = (load_file(out / "model.safetensors") for out in (one, other))
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.allclose(value.float(), second[name].float(), rtol=1e-3, atol=1e-4), name


def test_two_workers_learn_what_one_learns(given: Path, tmp_path: Path) -> None:
    forms = ("sft", "ppo")
    assert run_workers(2, train, [settings(form, given, tmp_path / form) for form in forms]) == [0, 0]
    for form in forms:
        same_run(alone(form, given), tmp_path / form)
        assert not list((tmp_path / form).glob(".*tmp*"))


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_every_stage_learns_the_same_on_several_workers(count: int, given: Path, tmp_path: Path) -> None:
    runs = [settings(form, given, tmp_path / form) for form in FORMS]
    assert run_workers(count, train, runs, timeout=900) == [0] * count
    for form in FORMS:
        same_run(alone(form, given), tmp_path / form)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_every_stage_learns_the_same_with_sharded_weights(count: int, given: Path, tmp_path: Path) -> None:
    forms = [form for form in FORMS if form not in ADAPTED | MOVES]
    runs = [settings(form, given, tmp_path / form, launch={"shard": True}) for form in forms]
    assert run_workers(count, train, runs, timeout=900) == [0] * count
    for form in forms:
        same_run(alone(form, given), tmp_path / form)


@pytest.mark.slow
def test_sharded_weights_in_bfloat16_learn_what_whole_ones_do_but_for_its_rounding(given: Path, tmp_path: Path) -> None:
    forms, low = ("sft", "reward-length", "kto", "ppo"), {"loading": {"precision": "bfloat16"}}
    runs = [settings(form, given, tmp_path / form, launch={"shard": True}, **low) for form in forms]
    assert run_workers(2, train, runs, timeout=600) == [0, 0]
    for form in forms:
        run_stage(*settings(form, given, tmp_path / "alone" / form, **low))
        before, now = curve(tmp_path / "alone" / form), curve(tmp_path / form)
        told = {"loss", "held_out_loss", "gradient_norm", "policy_loss", "value_loss"}
        compared = [0] if form == "ppo" else [0, -1]  # what is sampled later differs by a token here and there
        for a, b in ((before[step], now[step]) for step in compared):
            assert a.keys() == b.keys()
            for name in told & a.keys():
                assert b[name] == pytest.approx(a[name], rel=0.1, abs=0.02), f"{form}: {name} of step {a['step']}"


def stop_after(runs: list[tuple[str, Any]], step: int) -> None:
    """Train, and be stopped by the leader after a step."""
    import heedful.training.run as module
    from heedful.training.workers import current

    plain = module._events

    def events(team: Any, journal: Any, now: Any, intervene: Any) -> Any:
        current().asked_to_stop = current().leads and now.number == step
        return plain(team, journal, now, intervene)

    module._events = events
    train(runs)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["sft", "ppo", "dpo"])
@pytest.mark.parametrize("shard", [False, True])
def test_a_run_goes_on_with_another_number_of_workers(form: str, shard: bool, given: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    given_up = run_workers(4, stop_after, [settings(form, given, out, launch={"shard": shard})], 2)
    assert given_up == [1] * 4
    assert read_manifest(out) is None
    (left,) = checkpoints(out)
    assert left.name == "step-00000002"
    assert (left / "parts").is_dir() == shard
    given_up = run_workers(2, stop_after, [settings(form, given, out, launch={"shard": shard})], 4)
    assert given_up == [1] * 2
    assert [one.name for one in checkpoints(out)] == ["step-00000004"]
    run_stage(*settings(form, given, out))
    same_run(alone(form, given), out)


@pytest.mark.slow
def test_whole_weights_go_on_sharded(given: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert run_workers(2, stop_after, [settings("sft", given, out)], 2) == [1, 1]
    assert run_workers(2, train, [settings("sft", given, out, launch={"shard": True})]) == [0, 0]
    same_run(alone("sft", given), out)
