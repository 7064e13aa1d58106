"""`heedful sample --select`: pairs for people to compare, on a small policy and rewards that are plain functions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from architectures import tiny_architectures, tiny_tokenizer
from heedful.cli.main import main
from heedful.models.policy import new_policy

REWARDS = """
def some(prompts, completions):
    return [float(len(c)) / 10 for c in completions]

def other(prompts, completions):
    return [float(sum(map(ord, c)) % 17) for c in completions]
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("select")
    new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=0).save(root / "policy")
    (root / "prompts.jsonl").write_text("".join(json.dumps({"prompt": f"tell me of {i}"}) + "\n" for i in range(6)))
    (root / "scores.py").write_text(REWARDS)
    return root


@pytest.fixture(autouse=True)
def here(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    common = ["sample", "policy", "--data", "prompts.jsonl", "--samples", "3", "--max-new-tokens", "8"]
    code = main([*common, *arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


BOTH = ("--reward", "mean:scores:some,scores:other")


def margins(row: dict[str, Any]) -> tuple[float, float]:
    a, b = row["completion_a"], row["completion_b"]
    return (len(a) - len(b)) / 10, float(sum(map(ord, a)) % 17 - sum(map(ord, b)) % 17)


def test_disagreement_takes_the_pairs_about_which_rewards_differ_most(capsys: pytest.CaptureFixture[str]) -> None:
    every = run(capsys, "--select", "disagreement", *BOTH, "--pairs", "100")
    assert 6 < len(every) <= 18
    for row in every:
        one, other = margins(row)
        assert row["score"] == pytest.approx((one - other) ** 2 / 2, abs=1e-5)
    scores = [row["score"] for row in every]
    assert scores == sorted(scores, reverse=True)
    assert run(capsys, "--select", "disagreement", *BOTH, "--pairs", "4") == every[:4]
    assert len(run(capsys, "--select", "disagreement", *BOTH)) == 6  # as many as prompts


def test_information_is_another_order(capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "--select", "information", *BOTH, "--pairs", "100")
    scores = [row["score"] for row in told]
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] <= scores[0] <= 0.6931472
    one, other = margins(told[0])
    assert one * other < 0 or abs(one) < 1  # they name different winners, or one of them hardly any


def test_chance_goes_by_the_seed_and_spreads_over_prompts_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = run(capsys, "--select", "random", "--pairs", "6")
    assert drawn == run(capsys, "--select", "random", "--pairs", "6")
    assert {row["selected_by"] for row in drawn} == {"random"}
    spread = run(capsys, "--select", "random", "--pairs", "6", "--diversity", "1")
    assert len({row["prompt"][0]["content"] for row in spread}) == 6


def test_the_file_is_one_that_import_reads_as_comparisons(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    from heedful.feedback.import_plan import plan

    out = tmp_path / "pairs.jsonl"
    said = run(capsys, "--select", "random", "--pairs", "5", "--out", str(out))
    assert said == {"out": str(out), "pairs": 5}
    found = plan(out)
    assert not found.problem_count
    assert (found.items, found.task) == (5, "pairwise")
    assert found.policies == {"policy": 10}


def test_a_person_sees_both_answers(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["sample", "policy", "--prompt", "hello", "--samples", "3", "--select", "random", "--max-new-tokens", "8"])
        == 0
    )
    printed = capsys.readouterr().out
    assert "user: hello" in printed
    assert "\na: " in printed
    assert "\nb: " in printed
    assert "by random" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--pairs", "5"], "Give --select"),
        (["--diversity", "0.5"], "Give --select"),
        (["--select", "information"], "needs reward models"),
        (["--select", "random", *BOTH], "chance asks no reward model"),
        (["--select", "disagreement", "--reward", "scores:some"], "nothing to differ from"),
        (["--select", "random", "--pairs", "0"], "none to judge"),
        (["--select", "random", "--diversity", "2"], "from 0 to 1"),
        (["--select", "random", "--temperature", "0"], "decoding.temperature"),
    ],
)
def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert main(["sample", "policy", "--prompt", "hello", "--samples", "2", *arguments]) == 2
    assert said in capsys.readouterr().err


def test_one_answer_a_prompt_makes_no_pair(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sample", "policy", "--prompt", "hello", "--select", "random"]) == 2
    assert "makes no pair" in capsys.readouterr().err


def test_a_judge_at_once_makes_preferences_that_a_reward_model_learns_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    from heedful.data.load import DataSpec, load_preferences

    out = tmp_path / "fresh.jsonl"
    said = run(capsys, "--select", "random", "--pairs", "5", "--judge", "scores:some", "--out", str(out))
    assert said == {"out": str(out), "pairs": 5}
    records = load_preferences(DataSpec(str(out))).records
    assert len(records) == 5
    for record in records:  # the judge prefers the longer answer
        assert record.probability == (len(record.a) > len(record.b)) + 0.5 * (len(record.a) == len(record.b))
        assert record.votes == 1
    assert main(["sample", "policy", "--data", "prompts.jsonl", "--judge", "scores:some"]) != 0
    assert "none are" in capsys.readouterr().err
