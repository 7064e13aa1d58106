"""RewardBench's scores: the published example, the ties score of its own code, and files of every shape."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heedful.data.records import Conversation
from heedful.errors import HeedfulError
from heedful.evaluation.reward_bench import best_is_right, read_items, reward_bench, section_scores, ties_score

EXAMPLE = {
    "alpacaeval-easy": 0.5,
    "alpacaeval-hard": 0.7052631578947368,
    "alpacaeval-length": 0.5894736842105263,
    "donotanswer": 0.8235294117647058,
    "hep-cpp": 0.6280487804878049,
    "hep-go": 0.6341463414634146,
    "hep-java": 0.7073170731707317,
    "hep-js": 0.6646341463414634,
    "hep-python": 0.5487804878048781,
    "hep-rust": 0.6463414634146342,
    "llmbar-adver-GPTInst": 0.391304347826087,
    "llmbar-adver-GPTOut": 0.46808510638297873,
    "llmbar-adver-manual": 0.3695652173913043,
    "llmbar-adver-neighbor": 0.43283582089552236,
    "llmbar-natural": 0.52,
    "math-prm": 0.2953020134228188,
    "mt-bench-easy": 0.5714285714285714,
    "mt-bench-hard": 0.5405405405405406,
    "mt-bench-med": 0.725,
    "refusals-dangerous": 0.97,
    "refusals-offensive": 1.0,
    "xstest-should-refuse": 1.0,
    "xstest-should-respond": 0.284,
}
"""The example of RewardBench's README (0.1.4): accuracies of PKU-Alignment/beaver-7b-v1.0-cost."""

# Made at random, scored by `process_single_model` of rewardbench 0.1.4, which gives 0.7616091973161578.
QUESTIONS: dict[str, tuple[list[float], list[float]]] = {
    "ref:0": ([0.2], [-0.2, -1.0, -0.9]),
    "tied:0": ([0.5], [-0.7]),
    "ref:1": ([1.1], [2.2, -0.3]),
    "tied:1": ([1.4, 1.2, 1.0, 1.3, 1.7], [-0.7, 0.3]),
    "ref:2": ([1.5], [0.7, -0.1, -0.9]),
    "tied:2": ([1.8, 2.5], [-0.7]),
    "ref:3": ([1.4], [0.3, -1.2, -0.7]),
    "tied:3": ([1.8, 1.5, 1.8], [-2.8, 0.3, -1.3]),
    "ref:4": ([1.6], [0.1, -0.9]),
    "tied:4": ([1.5, 1.5, 2.2, 1.9, 1.6], [0.4, -0.7, -1.2]),
    "ref:5": ([1.8], [-0.0, -0.7]),
    "tied:5": ([1.6, 0.3, 1.8], [-0.1, -1.8]),
    "ref:6": ([1.0], [0.1]),
    "tied:6": ([1.0, 1.9, 2.1, 0.4], [-0.9, -0.2]),
    "ref:7": ([1.2], [0.8]),
    "tied:7": ([1.7], [-1.3]),
}


def test_sections_of_the_published_example() -> None:
    found = section_scores(EXAMPLE)
    assert list(found) == ["Chat", "Chat Hard", "Safety", "Reasoning"]
    assert list(found.values()) == pytest.approx([0.608939, 0.449561, 0.721622, 0.466757], abs=5e-7)
    assert list(section_scores({name: x for name, x in EXAMPLE.items() if name != "donotanswer"})) == [
        "Chat",
        "Chat Hard",
        "Reasoning",
    ]


def test_the_ties_score_is_that_of_the_published_code() -> None:
    assert ties_score(QUESTIONS).score == pytest.approx(0.7616091973161578, abs=1e-12)


def test_the_ties_score_by_hand_and_above_one() -> None:
    # Right answers 0.5 apart, 3 above the wrong one; the paired question's gap is 2: ratio 4.
    perfect = ties_score({"tied:1": ([5.0, 5.5], [2.0]), "ref:1": ([1.0], [-1.0])})
    assert (perfect.tied, perfect.reference, perfect.margin_preferred, perfect.margin_preferred_hard) == (1, 1, 1, 1)
    assert perfect.margin == pytest.approx(math.tanh(3))
    assert perfect.score == pytest.approx(1 + 0.01 * math.tanh(3))
    assert perfect.score > 1
    # Right answers 4 apart, 1 above the wrong one: sorted rightly, but the gap is the smaller.
    spread = ties_score({"tied:1": ([5.0, 9.0], [4.0]), "ref:1": ([1.0], [1.0])})
    assert (spread.tied, spread.reference, spread.margin_preferred, spread.margin_preferred_hard) == (1, 0, 0, 0)
    assert spread.margin == pytest.approx(math.tanh(0 / 4 - 1))
    assert spread.score == pytest.approx(0.3 + 0.01 * math.tanh(-1))


def test_the_partners_gap_counts_where_it_is_the_smaller() -> None:
    # On its own the question stands 3 above, its right answers 0.5 apart; its partner's gap is only 0.2.
    found = ties_score({"tied:1": ([5.0, 5.5], [2.0]), "ref:1": ([1.0], [0.8])})
    assert (found.margin_preferred, found.margin_preferred_hard) == (1, 0)
    assert found.score == pytest.approx(0.3 + 0.3 + 0.2 + 0.01 * math.tanh(0.2 / 0.5 - 1))


@pytest.mark.parametrize("name", ["odd", "other:1", "tied:"])
def test_ties_need_ids_and_both_sorts_of_answers(name: str) -> None:
    with pytest.raises(HeedfulError, match="ties question"):
        ties_score({name: ([1.0], [] if name == "tied:" else [0.0])})


def test_the_best_of_several_with_ties_by_lot() -> None:
    assert best_is_right([1.0], [0.5, 0.2, 0.1]) == 1.0
    assert best_is_right([1.0], [1.5, 0.2, 0.1]) == 0.0
    assert best_is_right([1.0], [1.0, 1.0, 0.1]) == pytest.approx(1 / 3)
    assert best_is_right([1.0, 1.0], [1.0]) == pytest.approx(2 / 3)


def write(path: Path, rows: Sequence[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def longest(prompts: Sequence[Conversation], texts: Sequence[str]) -> list[float]:
    return [float(len(text)) for text in texts]


def test_a_file_of_both_versions(tmp_path: Path) -> None:
    rows = [
        {"id": 0, "prompt": "p0", "chosen": ["long answer"], "rejected": ["a", "b", "c"], "subset": "Focus"},
        {"id": 1, "prompt": "p1", "chosen": ["a"], "rejected": ["ab", "b", "c"], "subset": "Focus"},
        {"id": 2, "prompt": "p2", "chosen": "yes", "rejected": "no", "subset": "Pairs"},
        {"id": "tied:0", "prompt": "p3", "chosen": ["aaaaa", "bbbbb"], "rejected": ["c"], "subset": "Ties"},
        {"id": "ref:0", "prompt": "p4", "chosen": ["aaaaa"], "rejected": ["c"], "subset": "Ties"},
    ]
    found = reward_bench(longest, read_items(write(tmp_path / "bench.jsonl", rows)))
    focus = found.subsets["Focus"]
    assert (focus.score, focus.chance, focus.items) == (0.5, 0.25, 2)
    assert focus.interval is not None
    assert (focus.interval.low, focus.interval.high) == (0.0, 1.0)
    assert (found.subsets["Pairs"].score, found.subsets["Pairs"].chance) == (1.0, 0.5)
    assert found.ties is not None
    assert found.ties.score == pytest.approx(1.0)  # right answers equally long: no spread, no bonus
    assert found.overall == pytest.approx((0.5 + 1 + 1) / 3)
    assert found.sections == {}


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "p", "chosen": "x"}, "no column 'rejected'"),
        ({"prompt": "p", "chosen": [], "rejected": "x"}, "'chosen' holds no answer"),
        ({"prompt": "p", "chosen": 3, "rejected": "x"}, "chosen"),
        ({"id": "7", "prompt": "p", "chosen": "y", "rejected": "x", "subset": "Ties"}, "the ties subset"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "bench.jsonl", [{"prompt": "p", "chosen": "y", "rejected": "x"}, row])
    with pytest.raises(HeedfulError, match=said) as caught:
        read_items(path)
    assert ":2" in str(caught.value)


def test_scores_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    items = read_items(write(tmp_path / "bench.jsonl", [{"prompt": "p", "chosen": "y", "rejected": "x"}]))
    with pytest.raises(HeedfulError, match="1 scores for 2 answers"):
        reward_bench(lambda prompts, texts: [1.0], items)
    with pytest.raises(HeedfulError, match="no rows"):
        reward_bench(longest, [])
