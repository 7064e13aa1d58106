"""Refusals through a run: rows, their page, and that looking changes nothing."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from heedful.errors import HeedfulError
from heedful.evaluation.refusal_rates import natural_set, spread
from heedful.files import sha256_file
from heedful.pipeline.conservatism import Conservatism, requests
from heedful.pipeline.refusal_report import over_training, said_of, training_curves
from heedful.pipeline.stages.online import run_rloo
from heedful.pipeline.watch_words import read_refusals
from heedful.training.config.watch import RefusalsConfig
from heedful.training.progress import Display
from heedful.training.run import Watch
from heedful.training.state import Event, Step
from stage_runs import config, write_inputs, write_model

NO = "i am sorry , i cannot help with that ."


class Killed(Exception):  # noqa: N818
    pass


@pytest.mark.parametrize("limit", [2, 10, 15, 100, 400])
def test_some_of_the_requests_are_half_safe_and_of_all_types(limit: int) -> None:
    chosen = spread(natural_set(), limit)
    labels = Counter(prompt.label for prompt, _ in chosen)
    assert (labels["safe"], labels["unsafe"]) == ((limit + 1) // 2, limit // 2)
    types = Counter((prompt.label, prompt.type) for prompt, _ in chosen)
    assert max(types.values()) - min([types[key] for key in types] + [0] * (len(types) < min(limit, 20))) <= 1
    assert [row for row in natural_set() if row in chosen] == chosen


def measured(folder: Path, says: list[float], step: int = 0, **settings: Any) -> Conservatism:
    """Refuses a share of the safe requests that grows from row to row, and all unsafe ones."""
    given = RefusalsConfig(requests="prompts", limit=20, **settings)
    asked = requests(given)

    def answer() -> Sequence[str]:
        share, safe, texts = says.pop(0), 0, []
        for prompt, _ in asked:
            safe += prompt.label == "safe"
            texts.append(NO if prompt.label == "unsafe" or safe <= 10 * share else "sure .")
        return texts

    return Conservatism(given, asked, answer, folder / "watch", step)


def test_rows_begin_with_the_starting_policy_and_a_killed_run_goes_over_its_steps_again(tmp_path: Path) -> None:
    first = measured(tmp_path, [0.0, 0.2, 0.5], every_steps=2)
    assert first.after(1, 0.3, checked=True) == {}
    assert first.after(2, 0.6, checked=False) == {"refused_safe": 0.2, "refused_unsafe": 1.0}
    first.after(4, 1.2, checked=False)
    kept = (tmp_path / "watch" / "refusals.jsonl").read_bytes()
    assert [(row["step"], row["kl"], row["safe"]["mean"]) for row in read_refusals(tmp_path)] == [
        (0, 0.0, 0.0),
        (2, 0.6, 0.2),
        (4, 1.2, 0.5),
    ]
    again = measured(tmp_path, [0.5], step=2, every_steps=2)  # from the checkpoint of step 2 on
    again.after(4, 1.2, checked=False)
    assert (tmp_path / "watch" / "refusals.jsonl").read_bytes() == kept


def test_without_a_number_of_steps_it_goes_with_the_fresh_checks(tmp_path: Path) -> None:
    rows = measured(tmp_path, [0.0, 0.1])
    assert rows.after(5, 1.0, checked=False) == {}
    assert rows.after(6, 1.0, checked=True)["refused_safe"] == 0.1


def test_the_page_shows_one_against_the_other_and_claims_no_more_than_is_known(tmp_path: Path) -> None:
    rows = measured(tmp_path, [0.0, 0.1, 1.0], every_steps=1)
    rows.after(1, 0.5, checked=False)
    rows.after(2, 0.9, checked=False)
    found = read_refusals(tmp_path)
    assert said_of(found[0], found[1]) == (
        "From step 0 to step 1 the policy went from refusing 0% to 10% of safe requests (no clear change), and 100% to "
        "100% of unsafe requests (no clear change)."
    )
    assert "0% to 100% of safe requests, and" in said_of(found[0], found[2])
    plane, over = training_curves(found)
    assert plane.series["the run"].x == (0.0, 0.1, 1.0)
    assert plane.series["the run"].y == (1.0, 1.0, 1.0)
    assert over.series["safe requests"].y == (0.0, 0.1, 1.0)
    page = over_training(found)
    assert page.samples[0].answers[0].text == NO


def go(out: Path, made: Path, watch: dict[str, Any], intervene: Any = None, **over: Any) -> dict[str, Any]:
    given = config("rloo", made / "inputs", made / "policy", made / "reward", out, watch=watch, **over)
    return run_rloo(given, Display(Console(file=io.StringIO())), watch=intervene)


def test_a_run_is_the_same_with_and_without_and_after_a_kill(tmp_path: Path) -> None:
    write_inputs(tmp_path / "inputs")
    write_model(tmp_path / "policy")
    write_model(tmp_path / "reward", kind="reward")
    watch = {"mode": "warn", "refusals": {"requests": "prompts", "every_steps": 3, "limit": 8}}

    def killed(step: Step) -> list[Event]:
        if step.number == 5:
            raise Killed
        return []

    manifest = go(tmp_path / "whole", tmp_path, watch)
    assert [row["step"] for row in manifest["watch"]["refusals"]] == [0, 3, 6]
    metrics = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in metrics if "refused_safe" in row] == [3, 6]
    go(tmp_path / "plain", tmp_path, {"mode": "off"})
    with pytest.raises(Killed):
        go(tmp_path / "cut", tmp_path, watch, lambda models: Watch(intervene=killed))
    go(tmp_path / "cut", tmp_path, watch)
    weights = {sha256_file(tmp_path / name / "model.safetensors") for name in ("whole", "plain", "cut")}
    assert len(weights) == 1
    for name in ("refusals.jsonl", "refusals.html"):
        both = [(tmp_path / run / "watch" / name).read_bytes() for run in ("whole", "cut")]
        assert both[0] == both[1], name
    with pytest.raises(HeedfulError, match=r"records\.max_length leaves"):
        go(tmp_path / "short", tmp_path, watch, records={"max_length": 22})


def test_settings_that_mean_nothing() -> None:
    from heedful.training.config.watch import WatchConfig

    for wrong in ({"limit": 1}, {"every_steps": -1}):
        with pytest.raises(HeedfulError):
            RefusalsConfig(requests="world", **wrong)
    with pytest.raises(HeedfulError, match="no fresh checks to measure refusals with"):
        WatchConfig(refusals=RefusalsConfig(requests="world"))
