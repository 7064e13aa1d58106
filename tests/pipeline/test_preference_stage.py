"""`heedful dpo` with every kind of data, reference and refusal, and that a stopped run ends as one that was not."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from heedful.errors import HeedfulError
from heedful.files import sha256_file
from heedful.models.policy import Policy
from heedful.pipeline.stages.preference import run_dpo
from heedful.training.progress import Display
from heedful.training.run import Intervene
from heedful.training.state import Event, Step
from stage_runs import config, write_inputs, write_model

LABELLED = "labelled.jsonl"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Preferences, the same as labelled answers, and a policy."""
    folder = tmp_path_factory.mktemp("preferences")
    write_inputs(folder / "inputs")
    write_model(folder / "policy")
    rows = [json.loads(line) for line in (folder / "inputs" / "preferences.jsonl").read_text().splitlines()]
    with open(folder / "inputs" / LABELLED, "w", encoding="utf-8") as file:
        for row in rows:
            for key, label in (("chosen", True), ("rejected", False)):
                file.write(json.dumps({"prompt": row["prompt"], "completion": row[key], "label": label}) + "\n")
    return folder


def settings(made: Path, out: Path, **over: Any) -> Any:
    return config("dpo", made / "inputs", made / "policy", made, out, **over)


def metrics(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


def run(given: Any, intervene: Callable[[Policy], Intervene] | None = None) -> tuple[dict[str, Any], str]:
    """The manifest of a run, and what it told."""
    text = io.StringIO()
    return run_dpo(given, Display(Console(file=text, width=400)), intervene), text.getvalue()


@pytest.mark.parametrize("loss", ["kto", "bco", "kto + 0.1*sft"])
def test_labelled_answers(loss: str, made: Path, tmp_path: Path) -> None:
    given = settings(made, tmp_path / "run", data=str(made / "inputs" / LABELLED), loss=loss)
    manifest, _ = run(given)
    rows = metrics(tmp_path / "run")
    assert len(rows) == 16  # three passes over the 42 answers that are not held out, eight at a time
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert manifest["data"]["records"] == 48
    assert manifest["figures"]["held_out_accuracy"] > 0.5


def test_a_pair_is_two_labelled_answers(made: Path, tmp_path: Path) -> None:
    manifest, _ = run(settings(made, tmp_path / "run", loss="kto", beta=0.2, settings={"undesirable": 2.0}))
    rows = metrics(tmp_path / "run")
    assert rows[0]["loss"] == pytest.approx((0.5 + 2 * 0.5) / 2, abs=1e-3)  # half of each weight at the start
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert manifest["loss"] == [{"loss": "kto", "weight": 1.0, "beta": 0.2, "desirable": 1.0, "undesirable": 2.0}]


@pytest.mark.parametrize(
    ("over", "said"),
    [
        ({"data": LABELLED}, "single answers with labels, and sigmoid compares two.*kto, bco, sft"),
        ({"data": LABELLED, "loss": "sft + ipo"}, "compares two"),
        ({"loss": "sigmoit"}, "Did you mean 'sigmoid'"),
        ({"loss": "ipo", "settings": {"gamma": 1.0}}, "reads gamma"),
        ({"loss": "simpo", "reference": {"update": "soft"}}, "needs no reference"),
        ({"loss": "ipo", "use_margin": True}, "ipo reads no margin"),
        ({"loss": "aot", "weighting": "wpo"}, "weights of single pairs"),
        ({"beta": -1.0}, "beta is -1.0"),
        ({"reference": {"every": 2}}, "a fixed reference never moves"),
        ({"reference": {"update": "hard", "alpha": 0.5}}, "only a soft update"),
        ({"reference": {"update": "soft", "alpha": 1.5}}, "between 0 and 1"),
        ({"reference": {"update": "soft", "every": 0}}, "1 or more"),
    ],
)
def test_refusals_leave_no_folder(over: dict[str, Any], said: str, made: Path, tmp_path: Path) -> None:
    if "data" in over:
        over = over | {"data": str(made / "inputs" / over["data"])}
    with pytest.raises(HeedfulError, match=said):
        run(settings(made, tmp_path / "run", **over))
    assert not (tmp_path / "run").exists()


def test_one_prompt_alone_is_refused_by_kto(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "one.jsonl"
    data.write_text(
        "".join(json.dumps({"prompt": "the sky", "chosen": c, "rejected": "no"}) + "\n" for c in ("yes", "blue"))
    )
    with pytest.raises(HeedfulError, match="all records answer one prompt"):
        run(settings(made, tmp_path / "run", data=str(data), loss="kto", records={"held_out": 0.0}))


def test_margins_and_soft_labels(made: Path, tmp_path: Path) -> None:
    data = tmp_path / "margins.jsonl"
    rows = [
        {"prompt": "the sky", "chosen": "yes", "rejected": "no", "margin": 1.0},
        {"prompt": "the sea", "chosen": "yes please", "rejected": "no", "margin": 2.0},
    ]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    over = {"data": str(data), "use_margin": True, "records": {"held_out": 0.0}, "loss": "hinge"}
    run(settings(made, tmp_path / "run", **over))
    assert metrics(tmp_path / "run")[0]["loss"] == pytest.approx(1 + 1.5, abs=1e-4)  # both margins are missed whole


class TestReference:
    def calls(self, monkeypatch: pytest.MonkeyPatch, given: Any) -> int:
        """How many answers went through a model without gradient before the first step."""
        count = 0
        whole = Policy.logprobs_from

        def counted(policy: Policy, hidden: torch.Tensor, *arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 0 if torch.is_grad_enabled() else len(hidden)
            return whole(policy, hidden, *arguments, **more)

        with monkeypatch.context() as patch:
            patch.setattr(Policy, "logprobs_from", counted)
            run(given)
        return count

    def test_a_sweep_over_beta_computes_it_once(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        counts = [
            self.calls(monkeypatch, settings(made, tmp_path / f"beta-{beta}", beta=beta)) for beta in (0.05, 0.1, 0.5)
        ]
        evaluation = counts[1]  # at the end of every run, of the policy itself
        assert counts == [48 + evaluation, evaluation, evaluation]
        assert len(list((tmp_path / ".heedful-cache").glob("logprobs-*"))) == 2  # trained on, and held out

    def test_the_cache_changes_no_bit_and_may_be_elsewhere_or_nowhere(self, made: Path, tmp_path: Path) -> None:
        for name, cache in (("none", "none"), ("empty", str(tmp_path / "kept")), ("full", str(tmp_path / "kept"))):
            run(settings(made, tmp_path / name / "run", reference={"cache": cache}))
            assert not (tmp_path / name / ".heedful-cache").exists()
        hashes = {sha256_file(tmp_path / name / "run" / "model.safetensors") for name in ("none", "empty", "full")}
        assert len(hashes) == 1

    def test_a_loss_without_a_reference_computes_and_keeps_none(
        self, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        over = {"loss": "simpo", "records": {"held_out": 0.0}}
        assert self.calls(monkeypatch, settings(made, tmp_path / "run", **over)) == 0
        assert not (tmp_path / ".heedful-cache").exists()

    def test_a_moving_one_ends_closer_to_the_policy(self, made: Path, tmp_path: Path) -> None:
        run(settings(made, tmp_path / "fixed"))
        run(settings(made, tmp_path / "moving", reference={"update": "soft", "every": 1, "alpha": 0.5}))
        fixed, moving = metrics(tmp_path / "fixed"), metrics(tmp_path / "moving")
        assert fixed[0]["loss"] == pytest.approx(moving[0]["loss"], abs=1e-4)
        assert abs(moving[-1]["margin"]) < 0.5 * abs(fixed[-1]["margin"])


class CrashError(Exception):
    """A machine that dies."""


@pytest.mark.parametrize(
    "over",
    [
        {"loss": "bco"},
        {"loss": "kto + aot"},
        {"reference": {"update": "soft", "every": 2}},
        {"reference": {"update": "hard", "every": 2}, "loading": {"lora_rank": 2, "lora_dropout": 0.3}},
        {"weighting": "wpo"},
    ],
    ids=["bco", "kto-aot", "soft", "hard-lora", "wpo"],
)
def test_a_run_that_was_stopped_ends_bit_equal(over: dict[str, Any], made: Path, tmp_path: Path) -> None:
    def dies(policy: Policy) -> Intervene:
        def at(step: Step) -> list[Event]:
            if step.number == 5:
                raise CrashError
            return []

        return at

    run(settings(made, tmp_path / "whole", **over))
    stopped = settings(made, tmp_path / "stopped", **over)
    with pytest.raises(CrashError):
        run(stopped, dies)
    _, said = run(stopped)
    assert "going on from step 4" in said
    for name in ("model.safetensors", "metrics.jsonl", "report.html"):
        assert sha256_file(tmp_path / "stopped" / name) == sha256_file(tmp_path / "whole" / name)


def test_the_report_says_where_the_log_probs_went(made: Path, tmp_path: Path) -> None:
    run(settings(made, tmp_path / "run"))
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "The chosen log-prob" in page
    assert "nats" in page
    assert page.count("<svg") >= 5
    assert "<script" not in page
