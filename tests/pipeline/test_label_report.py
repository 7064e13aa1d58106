"""What a report says of the labels that a run learnt from."""

from __future__ import annotations

import dataclasses
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from report_example import example
from rich.console import Console

from heedful.core.statistics import Interval
from heedful.data.records import Message, Preference
from heedful.pipeline.label_report import MODELLED, labels_of, split_votes
from heedful.pipeline.preference_report import preference_report
from heedful.pipeline.report import ReportData, build_report, render_terminal
from heedful.world.raters import judge_pairs, panel
from heedful.world.world import World


def pair(prompt: int, probability: float, votes: int = 2) -> Preference:
    return Preference((Message("user", f"question {prompt}"),), "yes", "no", probability, votes)


def test_agreement_ceiling_and_anchors_of_votes() -> None:
    found = labels_of([pair(i, 0.5 if i < 10 else float(i % 2)) for i in range(40)])
    assert found is not None
    rows = {row.name: row.value for row in found.rows}
    agreed = rows["Two raters of this data agree"]
    assert isinstance(agreed, Interval)
    assert agreed.mean == 0.75
    assert agreed.low < 0.75 < agreed.high
    assert rows["Best possible reward model"] == "75.0% to 85.4%"  # (1 + sqrt(0.5)) / 2
    beyond = rows["Beyond chance"]
    assert isinstance(beyond, Interval)
    assert beyond.mean == pytest.approx(0.50625)  # 1 - 0.25 / (2 * 40 * 40 / (80 * 79)): 40 votes for each answer
    assert rows["InstructGPT, raters who made the training data"] == Interval(0.726, 0.711, 0.741)
    assert "75% to 85%" in found.do
    assert found.notes[0] == "40 of 40 pairs were judged by two raters or more, 2.0 on average."


def test_single_labels_and_a_consensus_tell_no_agreement() -> None:
    assert labels_of([pair(1, 1.0, votes=1), pair(2, 0.7, votes=1)]) is None
    assert labels_of([]) is None
    found = labels_of([pair(1, 0.81, votes=3), pair(2, 1 / 3, votes=3)])
    assert found is not None
    assert (found.do, found.rows) == (MODELLED, ())


def test_a_named_consensus_is_believed_though_its_probabilities_look_like_shares() -> None:
    records = [dataclasses.replace(pair(i, 1.0, votes=3), consensus="majority") for i in (1, 2)]
    found = labels_of(records)
    assert found is not None
    assert found.rows == ()
    assert "the consensus majority." in found.notes[0]
    single = labels_of([dataclasses.replace(pair(1, 0.7, votes=1), consensus="rater-aware")])
    assert single is not None
    assert single.notes == (
        "0 of 1 pairs were judged by two raters or more. Their probabilities come of the consensus rater-aware.",
    )
    shared = labels_of([dataclasses.replace(record, consensus="share") for record in records])
    assert shared is not None
    assert shared.rows


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda two: sum(two) > 0), min_size=1))
def test_shares_give_the_votes_back(given: list[tuple[int, int]]) -> None:
    records = [pair(i, a / (a + b), a + b) for i, (a, b) in enumerate(given)]
    found = split_votes(records)
    assert found is not None
    assert found.tolist() == [list(two) for two in given]


def test_one_vote_for_neither_is_left_out() -> None:
    found = split_votes([pair(1, 0.5, 3), pair(2, 5 / 6, 3), pair(3, 0.75, 2)])
    assert found is not None
    assert found.tolist() == [[1, 1], [2, 0], [1, 0]]


def test_one_prompt_alone_has_no_interval() -> None:
    found = labels_of([pair(1, 1.0), pair(1, 0.5)])
    assert found is not None
    page = build_report(ReportData("t", "", "", labels=found))
    assert "50.0%" in page
    assert "not a number" not in page


def test_the_page_and_the_terminal_show_it_and_a_report_without_it_does_not() -> None:
    found = labels_of([pair(i, 0.5 if i < 10 else 1.0) for i in range(40)], "simulated raters")
    assert found is not None
    page = build_report(dataclasses.replace(example(), labels=found))
    assert 'id="labels"' in page
    assert "Two simulated raters of this data agree" in page
    assert "Ouyang et al. 2022" in page
    out = Console(file=io.StringIO(), width=120)
    render_terminal(dataclasses.replace(example(), labels=found), out)
    told = out.file.getvalue()  # type: ignore[attr-defined]
    assert "75.0%" in told
    assert "AlpacaFarm, always the longer answer" in told
    assert 'id="labels"' not in build_report(example())
    rows = [{"step": 1.0, "loss": 0.6}]
    assert 'id="labels"' in build_report(preference_report("dpo", rows, 0.1, against_start=True, labels=found))


def test_the_simulated_panel_agrees_as_the_world_promises() -> None:
    world = World(0)
    shown = world.demonstrations(150, 3)
    pairs = [(one.prompt, one.completion, "Well.") for one in shown]
    sure = labels_of(judge_pairs(world, pairs, panel(noise=0.1), votes=3, seed=1), "simulated raters")
    unsure = labels_of(judge_pairs(world, pairs, panel(noise=500.0), votes=3, seed=1), "simulated raters")
    assert sure is not None
    assert unsure is not None
    high, low = sure.rows[0].value, unsure.rows[0].value
    assert isinstance(high, Interval)
    assert isinstance(low, Interval)
    assert high.mean > 0.95
    assert low.low < 0.5 < low.high
