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


@pytest.mark.slow
def test_from_python_learns_to_say_please(tmp_path: Path) -> None:
    from heedful import load_policy
    from heedful.evaluation.sampling import sample
    from heedful.rollout.types import RolloutParams

    module = example("from_python")
    module.main(tmp_path)
    prompts = [(Message("user", f"how do i open the {thing}"),) for thing in module.THINGS]
    rates = {}
    for stage in ("sft", "ppo"):
        policy = load_policy(tmp_path / stage)
        answers = sample(policy, prompts, RolloutParams(16), samples_per_prompt=8).answers
        scores = module.says_please(prompts, [answer.text for drawn in answers for answer in drawn])
        rates[stage] = sum(scores) / len(scores)
    assert 0.2 < rates["sft"] < 0.8
    assert rates["ppo"] > rates["sft"] + 0.1
