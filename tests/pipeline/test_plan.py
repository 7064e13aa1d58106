"""What a plan says: weights to the byte, the micro-batch that fits, and a run that keeps the one it began with."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from heedful.errors import HeedfulError
from heedful.models.policy import load_policy
from heedful.models.rehearsal import Passes
from heedful.pipeline import plan as planning
from heedful.pipeline.plan import SHARE, Plan, plan, planned_tokens
from heedful.pipeline.stages import common
from stage_runs import STAGES, WITHOUT_CRITIC, config, run_stage, write_inputs, write_model

AUTO = {"memory": {"micro_batch_tokens": "auto"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plan")
    write_inputs(root / "inputs")
    write_model(root / "model")
    write_model(root / "reward", kind="reward")
    return root


def light(models: Any, device: str, rows: int, width: int, learnt: int) -> Passes:
    """A rehearsal that takes no time: 5 kB a token, and 1 MiB whatever it reads."""
    return Passes(5000 * rows * width * len(models), 2**20)


@pytest.fixture
def no_rehearsal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "update", light)
    monkeypatch.setattr(planning, "reading", lambda model, device, rows, width: rows * width)


def settings(stage: str, made: Path, out: Path | None = None, **over: Any) -> Any:
    models = (Path(over.pop(name, made / name)) for name in ("model", "reward"))
    return config(stage, made / "inputs", *models, out or made / "out", **over)


def size_of(made: Plan, what: str) -> int:
    return sum(need.bytes for need in made.needs if need.what == what)


def size(made: Path) -> tuple[int, int]:
    """Bytes of all tensors of the policy, and of its weights."""
    model = load_policy(made / "model").model
    weights = sum(p.nbytes for p in model.parameters())
    return weights + sum(b.nbytes for b in model.buffers()), weights


@pytest.mark.usefixtures("no_rehearsal")
def test_weights_gradients_and_moments_are_those_of_the_models(made: Path) -> None:
    total, weights = size(made)
    sft = plan("sft", settings("sft", made))
    assert size_of(sft, "weights: policy") == total
    assert size_of(sft, "gradients") == weights
    assert size_of(sft, "optimiser state") == 2 * weights
    ppo = plan("ppo", settings("ppo", made))
    assert size_of(ppo, "weights: reference") == total
    assert 0 < size_of(ppo, "weights: critic") < total + 1000
    assert size_of(ppo, "gradients") > 1.5 * weights


@pytest.mark.usefixtures("no_rehearsal")
def test_adapters_learn_little_and_their_reference_weighs_nothing(made: Path) -> None:
    ppo = plan("ppo", settings("ppo", made, loading={"lora_rank": 2}, critic="shared"))
    assert size_of(ppo, "weights: reference") == 0
    assert size_of(ppo, "gradients") < 0.3 * size(made)[1]
    separate = plan("ppo", settings("ppo", made, loading={"lora_rank": 2}))
    assert 0 < size_of(separate, "weights: critic") < 0.3 * size(made)[1]
    assert size_of(separate, "gradients") > size_of(ppo, "gradients")


@pytest.mark.usefixtures("no_rehearsal")
def test_the_heap_keeps_nothing_of_a_step_that_is_one_pass(made: Path) -> None:
    def kept(tokens: int) -> int:
        found = plan("sft", settings("sft", made, batch_size=4, memory={"micro_batch_tokens": tokens}))
        return sum(need.bytes for need in found.needs if need.what == "kept by the allocator")

    assert kept(4 * 64) == 0
    assert kept(2 * 64) > 0


@pytest.mark.usefixtures("no_rehearsal")
def test_adapters_of_one_base_weigh_what_they_add(made: Path, tmp_path: Path) -> None:
    lora = {"lora_rank": 2}
    total = size(made)[0]
    ppo = plan("ppo", settings("ppo", made, loading=lora))
    assert 0 < size_of(ppo, "weights: critic") < 0.3 * total
    assert size_of(ppo, f"weights: reward {made / 'reward'}") > 0.8 * total
    reward = plan("reward", settings("reward", made, loading=lora))
    assert 0 < size_of(reward, "weights: reward model") < 0.3 * total
    assert size_of(reward, "weights: SFT model") == total
    half = plan("reward", settings("reward", made, loading=lora | {"base_dtype": "bfloat16"}))
    assert size_of(half, "weights: SFT model") == total // 2
    standing = tmp_path / "adapter"
    shutil.copytree(made / "reward", standing)
    (standing / "manifest.json").write_text('{"base": "a fingerprint"}')
    found = plan("ppo", settings("ppo", made, loading=lora, reward=str(standing)))
    assert size_of(found, f"weights: reward {standing}") < 0.3 * total
    assert "adapter of the policy's base" in found.remarks[-1]


def test_a_critic_goes_back_before_the_policy_goes_forward(made: Path) -> None:
    apart, shared = (plan("ppo", settings("ppo", made, critic=critic)) for critic in ("separate", "shared"))
    kept = [need.bytes for found in (apart, shared) for need in found.needs if need.what.startswith("activations")]
    assert kept[0] <= kept[1]
    alone_first = plan("ppo", settings("ppo", made, critic="separate", critic_warmup=1))
    assert alone_first.at("update") > apart.at("update")


@pytest.mark.usefixtures("no_rehearsal")
@pytest.mark.parametrize("stage", [*STAGES, *WITHOUT_CRITIC])
def test_every_stage_has_a_plan_of_its_parts(stage: str, made: Path) -> None:
    found = plan(stage, settings(stage, made))
    assert found.micro_batch_tokens == 128
    assert not found.chosen
    names = {need.what.split(" of ")[0] for need in found.needs}
    assert {"optimiser state", "gradients", "activations"} <= names
    online = stage not in ("sft", "reward", "dpo")
    assert ("sampler" in names) == online
    assert (found.at("scoring") > 0) == online
    assert found.total == found.at("always") + max(found.at("update"), found.at("rollouts"), found.at("scoring"))
    assert json.loads(json.dumps(found.describe()))["total"] == found.total


@pytest.mark.usefixtures("no_rehearsal")
def test_no_weights_are_read(made: Path, tmp_path: Path) -> None:
    for name in ("model", "reward"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text((made / name / "config.json").read_text())
    bare = config("ppo", made / "inputs", tmp_path / "model", tmp_path / "reward", tmp_path / "out")
    assert plan("ppo", bare).total == plan("ppo", settings("ppo", made)).total


@pytest.mark.usefixtures("no_rehearsal")
def test_a_new_model_is_planned_with_its_full_vocabulary(made: Path, repository: Path) -> None:
    found = plan("sft", settings("sft", made, model=str(repository / "examples" / "small_model.yaml")))
    assert "not trained yet" in found.remarks[0]


@pytest.mark.usefixtures("no_rehearsal")
def test_a_reward_in_python_is_not_known(made: Path) -> None:
    found = plan("rloo", settings("rloo", made, reward="some_module:score"))
    assert any("some_module:score" in remark for remark in found.remarks)
    assert found.at("scoring") == 0


def test_a_model_that_is_not_there_is_an_error(made: Path) -> None:
    with pytest.raises(HeedfulError, match="configuration"):
        plan("sft", settings("sft", made, model=str(made / "nowhere")))


def test_a_model_that_cannot_be_rehearsed_has_a_rough_figure_on_the_safe_side(
    made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = plan("sft", settings("sft", made))

    def refuse(*args: Any) -> None:
        raise planning.NoRehearsal("a test's")

    monkeypatch.setattr(planning, "update", refuse)
    rough = plan("sft", settings("sft", made))
    assert exact.total < rough.total
    assert "rough" in rough.remarks[-1]


def with_available(monkeypatch: pytest.MonkeyPatch, size: float | None) -> None:
    monkeypatch.setattr(planning, "available_memory", lambda: None if size is None else int(size))


@pytest.mark.usefixtures("no_rehearsal")
@pytest.mark.parametrize("stage", ["dpo", "rloo"])
def test_auto_is_the_largest_of_the_halves_that_fits(stage: str, made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over: dict[str, Any] = {"batch_size": 500} if stage == "dpo" else {"rollout": {"prompts_per_step": 80}}
    fitting = plan(stage, settings(stage, made, memory={"micro_batch_tokens": 512}, **over))
    needed = (fitting.at("always") + fitting.at("update")) / SHARE
    for available, expected in ((None, 1024), (needed + 8, 512), (needed - 8, 256)):
        with_available(monkeypatch, available)
        assert plan(stage, settings(stage, made, **AUTO, **over)).micro_batch_tokens == expected


def test_where_memory_is_plenty_nothing_is_rehearsed(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: Any) -> None:
        raise AssertionError("rehearsed")

    monkeypatch.setattr(planning, "update", never)
    with_available(monkeypatch, 2**40)
    assert planned_tokens("sft", settings("sft", made, **AUTO)) == (1024, "")


def test_a_model_that_cannot_be_planned_is_left_to_the_stage(made: Path) -> None:
    assert planned_tokens("sft", settings("sft", made, model=str(made / "nowhere"), **AUTO)) == (1024, "")


@pytest.mark.usefixtures("no_rehearsal")
def test_memory_that_is_short_is_said(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_available(monkeypatch, 1000)
    tokens, said = planned_tokens("sft", settings("sft", made, **AUTO))
    assert tokens == 64  # one row of the longest
    assert "gradient-checkpointing" in said


def test_a_run_writes_down_its_micro_batch_and_goes_on_with_it(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings("sft", made, tmp_path / "run", epochs=1.0, **AUTO)
    monkeypatch.setattr(common, "planned_tokens", lambda stage, config: (96, "memory is short"))
    save = common.finish

    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(common, "finish", die)
    with pytest.raises(KeyboardInterrupt):
        run_stage("sft", given)
    written = yaml.safe_load((tmp_path / "run" / "heedful.yaml").read_text())
    assert written["memory"]["micro_batch_tokens"] == 96

    seen = []
    monkeypatch.setattr(common, "planned_tokens", lambda stage, config: pytest.fail("planned again"))
    monkeypatch.setattr(common, "finish", save)
    real = common.conclude
    monkeypatch.setattr(
        "heedful.pipeline.stages.sft.conclude", lambda *a, **k: seen.append(a[0].config) or real(*a, **k)
    )
    run_stage("sft", given)
    assert seen[0].memory.micro_batch_tokens == 96


def test_activations_cannot_leave_a_cpu(made: Path, tmp_path: Path) -> None:
    given = settings("sft", made, tmp_path / "run", memory={"offload_activations": True})
    with pytest.raises(HeedfulError, match="no GPU"):
        run_stage("sft", given)
    assert not (tmp_path / "run").exists()


def test_moments_cannot_leave_a_cpu(made: Path, tmp_path: Path) -> None:
    given = settings("sft", made, tmp_path / "run", optimiser={"offload": True})
    with pytest.raises(HeedfulError, match="moments lie in the machine's memory already") as refused:
        run_stage("sft", given)
    assert refused.value.where == "optimiser.offload"
    assert not (tmp_path / "run").exists()


def test_moments_off_the_device_are_not_planned_there(made: Path, tmp_path: Path) -> None:
    def state(offload: bool) -> list[int]:
        given = settings("sft", made, tmp_path / "run", optimiser={"offload": offload})
        return [need.bytes for need in plan("sft", given).needs if need.what == "optimiser state"]

    assert state(False)[0] > 0
    assert state(True) == [0]
