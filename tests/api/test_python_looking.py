"""Answers, scores, comparisons, probes, judges and agreement from Python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from test_python_training import pair, rows, says_please

import heedful
from heedful.errors import HeedfulError

POLITE = [{"prompt": row["prompt"], "completion": "yes please"} for row in rows()]
CURT = [{"prompt": row["prompt"], "completion": "no" if i % 4 else "no please"} for i, row in enumerate(rows())]


def test_scores_are_the_rewards_own() -> None:
    texts = ["yes please", "no", "please"]
    talk = [{"role": "system", "content": "be kind"}, {"role": "user", "content": "why"}]
    assert heedful.score(says_please, ["how", talk, "what"], texts) == [1.0, 0.0, 1.0]
    seen: list[Any] = []

    def looks(prompts: Any, completions: Any) -> list[float]:
        seen.extend(prompts)
        return [0.0] * len(completions)

    heedful.score(looks, ["how", talk], ["a", "b"])
    assert [[(m.role, m.content) for m in prompt] for prompt in seen] == [
        [("user", "how")],
        [("system", "be kind"), ("user", "why")],
    ]


def test_samples_are_rows_that_sft_reads() -> None:
    policy = pair()
    drawn = heedful.sample(policy, ["how", "what"], samples=2, max_new_tokens=6, quiet=True)
    assert [row["prompt"][0]["content"] for row in drawn] == ["how", "how", "what", "what"]
    assert all(1 <= row["tokens"] <= 6 for row in drawn)
    assert heedful.sample(policy, ["how", "what"], samples=2, max_new_tokens=6, quiet=True) == drawn


def test_answers_that_are_held_are_compared() -> None:
    found = heedful.compare({"polite": POLITE, "curt": CURT}, reward=says_please)
    (duel,) = found.duels
    assert {duel.a, duel.b} == {"polite", "curt"}
    wins = duel.wins if duel.a == "polite" else duel.losses
    assert (wins, duel.ties) == (12, 4)
    assert found.models[0].model == "polite"


def test_a_policy_is_compared_with_answers() -> None:
    found = heedful.compare({"policy": pair(), "polite": POLITE}, reward=says_please, max_new_tokens=4, quiet=True)
    assert found.models[0].model == "polite"


def test_a_probe_finds_what_a_reward_pays_for() -> None:
    def length(prompts: Any, completions: Any) -> list[float]:
        return [float(len(text)) for text in completions]

    found = {effect.kind: effect for effect in heedful.probe(length, rows(), kinds=["length"], quiet=True).effects}
    assert found["length"].reward.low > 0


def test_agreement_of_rows() -> None:
    said = [{"item": i, "rater": rater, "value": "ab"[i % 2]} for i in range(6) for rater in ("ann", "bo")]
    found = heedful.agreement(said)
    assert (found.raw.mean, found.alpha.mean) == (1.0, 1.0)
    assert (found.items, found.judgments, found.raters) == (6, 12, 2)
    said[0]["value"] = "b"
    # 5 of 6 pairs agree; alpha = 1 - (n - 1) o_ab / (n_a n_b), n = 12: 1 - 11 * 1 / (5 * 7)
    found = heedful.agreement(said)
    assert found.raw.mean == pytest.approx(5 / 6)
    assert found.alpha.mean == pytest.approx(1 - 11 / 35)


def test_a_function_judges_and_is_asked_once(tmp_path: Path) -> None:
    asked: list[str] = []

    def verdicts(conversations: Any) -> list[str]:
        asked.extend(talk[-1]["content"] for talk in conversations)
        return [_verdict(talk[-1]["content"]) for talk in conversations]

    found = heedful.judge(rows()[:6], verdicts, out=tmp_path / "judged", way="verdict", quiet=True)
    assert found["finished"]
    assert found["judges"][0]["judged"] == 6
    assert found["judges"][0]["troubles"] == {}
    assert len(asked) == 12  # both orders
    labels = heedful.load_preferences(tmp_path / "judged" / found["files"]["preferences"]).records
    assert [one.a if one.probability > 0.5 else one.b for one in labels] == [row["chosen"] for row in rows()[:6]]
    heedful.judge(rows()[:6], verdicts, out=tmp_path / "judged", way="verdict", quiet=True)
    assert len(asked) == 12


def _verdict(question: str) -> str:
    """The answer with a please in it, whichever comes first."""
    first = question.partition("=== answer A")[2].partition("=== answer B")[0]
    return json.dumps({"rationale": "it asks", "verdict": "A" if "please" in first else "B", "strength": 2})


@pytest.mark.parametrize(
    ("prompts", "completions", "said"),
    [
        (None, None, "two lists"),
        ([3], ["b"], "number 1 is a int"),
        (["a", "b"], ["c", 4.0], "number 2 is a float"),
        (["a", "b"], ["c"], "two lists"),
    ],
)
def test_what_is_no_text_is_refused_before_it_is_scored(prompts: Any, completions: Any, said: str) -> None:
    def never(prompts: Any, completions: Any) -> list[float]:
        raise AssertionError("it was asked")

    with pytest.raises(HeedfulError, match=said):
        heedful.score(never, prompts, completions)


@pytest.mark.parametrize("data", [None, 5])
def test_what_holds_no_rows_is_said_to_hold_none(data: Any) -> None:
    with pytest.raises(HeedfulError, match="is nothing that holds rows"):
        heedful.load_preferences(data)
