"""The examples run."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

from heedful.data.records import Message

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_short_and_polite_prefers_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    from heedful.models.rewards import load_reward

    monkeypatch.chdir(EXAMPLES.parent)
    reward = load_reward("examples.short_and_polite:score")
    prompt = (Message("user", "how?"),)
    polite, curt, long = "so. Thank you!", "so.", " ".join(["so"] * 120)
    assert reward([prompt] * 3, [polite, curt, long]).tolist() == [1.0, 0.0, -1.0]


def test_a_loss_of_ones_own_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from stage_runs import config, run_stage, write_inputs, write_model

    monkeypatch.chdir(EXAMPLES.parent)
    write_inputs(tmp_path / "inputs")
    write_model(tmp_path / "model")
    names = {"pairs": "examples.own_loss:exponential", "mixed": "examples.own_loss:calm + 0.1*sft"}
    for name, loss in names.items():
        settings = config(
            "dpo", tmp_path / "inputs", tmp_path / "model", tmp_path, tmp_path / name, loss=loss, beta=0.3
        )
        manifest = run_stage("dpo", settings)
        rows = [json.loads(line) for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()]
        assert rows[-1]["loss"] < rows[0]["loss"]
        assert manifest["loss"][0] == {"loss": loss.split(" ")[0], "weight": 1.0, "beta": 0.3}
    assert json.loads((tmp_path / "pairs" / "metrics.jsonl").read_text().splitlines()[0])["loss"] == pytest.approx(1)


def test_the_exponential_loss_goes_on_as_a_line() -> None:
    import torch

    from heedful.core.answers import Anchored

    def answers(ratio: float) -> Anchored:
        return Anchored(torch.tensor([ratio]), torch.tensor([3]), torch.tensor([0.0]))

    loss = example("own_loss").exponential
    assert loss(answers(2.0), answers(0.0), beta=0.5).item() == pytest.approx(0.3678794)
    far = loss(answers(-1e6), answers(0.0), beta=1.0).item()
    assert far == pytest.approx(20 * 1e6, rel=1e-3)


def test_the_small_model_is_a_description_that_heedful_reads() -> None:
    from heedful.pipeline.scratch import describe_scratch

    assert describe_scratch(str(EXAMPLES / "small_model.yaml")).vocabulary == 512


def test_from_python_goes_through_every_stage(tmp_path: Path) -> None:
    figures = example("from_python").main(tmp_path, sft_epochs=2, ppo_steps=2)
    for stage in ("sft", "reward", "ppo"):
        assert json.loads((tmp_path / stage / "manifest.json").read_text())["kind"] == stage
    assert figures


def test_what_a_trl_user_holds_is_trained_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from datasets import Dataset

    from stage_runs import write_model

    write_model(tmp_path / "model")
    judged = Dataset.from_list(example("from_python").comparisons())
    run = example("objects").main(
        str(tmp_path / "model"), judged, tmp_path / "run", prompts=4, epochs=1, max_length=64, lora_rank=2, quiet=True
    )
    assert run.manifest["data"]["records"] == len(judged)
    printed = capsys.readouterr().out
    assert "before beats after" in printed or "after beats before" in printed
    assert "LlamaForCausalLM" in printed


def test_a_function_is_the_reward_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from stage_runs import write_model

    write_model(tmp_path / "model")
    run = example("short_and_polite").main(
        str(tmp_path / "model"), tmp_path / "run", steps=1, prompts_per_step=2, samples_per_prompt=2, max_new_tokens=8
    )
    assert run.manifest["kind"] == "grpo"
    assert capsys.readouterr().out.count("->") == 3


def test_any_function_judges(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = example("ai_judge").main(tmp_path / "judged")
    assert found["judges"][0]["card"].agreement.mean == pytest.approx(0.8)
    assert "60 labels" in capsys.readouterr().out


def test_the_notebook_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = json.loads((EXAMPLES / "first_hour.ipynb").read_text(encoding="utf-8"))["cells"]
    assert all(not cell.get("outputs") for cell in cells)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    (duel,) = names["found"].duels  # type: ignore[attr-defined]
    assert {duel.a, duel.b} == {"sft", "grpo"}


def test_five_examples_are_short() -> None:
    found = sorted(EXAMPLES.glob("*.py"))
    assert len(found) >= 5
    assert all(len(path.read_text(encoding="utf-8").splitlines()) < 60 for path in found)


@pytest.mark.slow
def test_from_python_learns_to_say_please(tmp_path: Path) -> None:
    from heedful.evaluation.sampling import sample
    from heedful.models.policy import load_policy
    from heedful.rollout.types import RolloutParams

    module = example("from_python")
    module.main(tmp_path)
    prompts = [(Message("user", f"how do i open the {thing}"),) for thing in module.THINGS]
    rates = {}
    for stage in ("sft", "ppo"):
        policy = load_policy(tmp_path / stage)
        answers = sample(policy, prompts, RolloutParams(16), samples_per_prompt=8).answers
        texts = [answer.text for drawn in answers for answer in drawn]
        rates[stage] = sum("please" in text for text in texts) / len(texts)
    assert 0.2 < rates["sft"] < 0.8
    assert rates["ppo"] > rates["sft"] + 0.1
