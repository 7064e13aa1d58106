"""Comparisons: who meets whom, what is kept, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from heedful.data.records import Conversation, Message
from heedful.errors import HeedfulError
from heedful.evaluation.compare import Answer, Comparison, Generate, compare, judge_by, judged


def ask(words: str) -> Conversation:
    return (Message("user", words),)


PROMPTS = [ask("how many ?"), ask("what colour ?"), ask("how many more ?")]


def says(*rounds: str) -> Generate:
    """A policy that answers every prompt with the same texts."""

    def generate(prompts: Sequence[Conversation]) -> list[list[Answer]]:
        return [[Answer(text, bool(text), len(text.split())) for text in rounds] for _ in prompts]

    return generate


def word_count(prompts: Sequence[Conversation], texts: Sequence[str]) -> np.ndarray:
    assert len(prompts) == len(texts)
    return np.array([len(text.split()) for text in texts], dtype=np.float32)


def shortness(prompts: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
    return [-float(answer.tokens) for answer in answers]


def sample_comparison() -> Comparison:
    return compare(
        PROMPTS,
        says("two red ones", "no"),
        says("two red", ""),
        {"words": judge_by(word_count), "short": shortness},
        policy_name="new",
        baseline_name="old",
        clusters=["number", "colour", "number"],
    )


def test_answer_k_meets_answer_k_and_each_judge_has_its_say() -> None:
    found = sample_comparison()
    assert [(p.policy.text, p.baseline.text) for p in found.pairs] == [("two red ones", "two red"), ("no", "")] * 3
    assert [p.cluster for p in found.pairs] == ["number", "number", "colour", "colour", "number", "number"]
    assert found.pairs[0].policy.scores == {"words": 3.0, "short": -3.0}
    assert found.judge == "words"
    assert found.prompts == 3
    assert found.verdict.win_rate.rate.mean == 1.0
    assert found.verdicts["short"].win_rate.rate.mean == 0.0
    assert found.verdict.win_rate.clusters == 2
    assert found.verdict.policy_mean.mean == 2.0
    assert found.verdict.baseline_mean.mean == 1.0
    assert found.verdict.gain.mean == 1.0
    assert found.baseline_text.truncated == 0.5


def test_a_policy_against_itself_is_at_one_half() -> None:
    same = says("yes it is")
    found = compare(PROMPTS, same, same, {"words": judge_by(word_count)}, policy_name="a", baseline_name="b")
    rate = found.verdict.win_rate
    assert (rate.rate.mean, rate.rate.low, rate.rate.high) == (0.5, 0.5, 0.5)
    assert (rate.ties, rate.sign_p) == (3, 1.0)


def test_clusters_widen_the_interval_where_prompts_go_together() -> None:
    prompts = [ask(f"question {i}") for i in range(60)]

    def topical(seen: Sequence[Conversation]) -> list[list[Answer]]:
        return [[Answer("long answer" if i // 15 % 2 else "", True, 1)] for i, _ in enumerate(seen)]

    found = compare(
        prompts,
        topical,
        says("word"),
        {"words": judge_by(word_count)},
        policy_name="new",
        baseline_name="old",
        clusters=[f"topic {i // 15}" for i in range(60)],
    ).verdict
    assert found.win_rate.rate.mean == found.by_prompt.mean == 0.5
    assert found.win_rate.rate.high - found.win_rate.rate.low > 2 * (found.by_prompt.high - found.by_prompt.low)


def test_a_record_is_written(tmp_path: Path) -> None:
    found = sample_comparison()
    path = tmp_path / "comparison.json"
    found.write(path)
    assert json.loads(path.read_text())["verdicts"]["words"]["win_rate"]["wins"] == 6


def test_judging_again_needs_no_sampling() -> None:
    found = sample_comparison()
    again = judged(found.pairs, judge="short", policy_name="new", baseline_name="old")
    assert again.verdicts == found.verdicts
    assert again.verdict.win_rate.losses == 6
    with pytest.raises(ValueError, match="lack a score by 'people'"):
        judged(found.pairs, judge="people", policy_name="new", baseline_name="old")


def short_judge(prompts: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
    return [0.0]


def nan_judge(prompts: Sequence[Conversation], answers: Sequence[Answer]) -> list[float]:
    return [float("nan")] * len(answers)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"policy": says("a", "b")}, "2 times a prompt"),
        ({"policy": lambda prompts: []}, "equally often"),
        ({"policy": lambda prompts: [[] for _ in prompts]}, "at least once"),
        ({"judges": {"j": short_judge}}, "1 scores for 3 answers"),
        ({"judges": {"j": nan_judge}}, "3 of them not finite"),
        ({"judges": {}}, "needs a judge"),
        ({"clusters": ["a", "a", "a"]}, "at least two clusters"),
        ({"clusters": ["a"]}, "3 prompts but 1 clusters"),
        ({"prompts": PROMPTS[:1]}, "at least two clusters"),
    ],
)
def test_what_cannot_be_compared_is_refused(change: dict, words: str) -> None:
    asked = {"prompts": PROMPTS, "policy": says("a"), "baseline": says("b"), "judges": {"j": judge_by(word_count)}}
    with pytest.raises(HeedfulError, match=words):
        compare(**(asked | change), policy_name="new", baseline_name="old")
