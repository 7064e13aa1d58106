"""Tasks of lm-eval: what its results are read as, and, where it is installed, a task of one's own without a network."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from architectures import tiny_architectures, tiny_tokenizer
from heedful.cli.main import main
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.evaluation.tasks import TaskScore, lost, run_tasks, scores_of
from heedful.models.policy import new_policy
from stage_runs import write_model

FOUND = {
    "results": {
        "sums": {
            "alias": "sums",
            "exact_match,strict": 0.25,
            "exact_match_stderr,strict": 0.1,
            "exact_match,flexible": 0.5,
            "exact_match_stderr,flexible": 0.2,
            "sample_len": 4,
        },
        "text": {"alias": "text", "word_perplexity,none": 12.5, "word_perplexity_stderr,none": "N/A"},
    },
    "samples": {
        "sums": [
            *({"doc_id": i, "filter": "strict", "exact_match": float(i == 0)} for i in range(4)),
            *({"doc_id": i, "filter": "flexible", "exact_match": float(i < 2)} for i in range(4)),
        ],
        "text": [{"doc_id": i, "filter": "none", "word_perplexity": [1.0, 2]} for i in range(4)],
    },
}


def test_what_the_harness_returns_is_read() -> None:
    strict, flexible, text = scores_of(FOUND)
    assert (strict.name, flexible.name, text.name) == (
        "sums, exact_match (strict)",
        "sums, exact_match (flexible)",
        "text, word_perplexity",
    )
    assert (strict.value.mean, strict.value.low) == pytest.approx((0.25, 0.25 - 0.196), abs=1e-4)
    assert strict.each == {0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0}
    assert flexible.questions == 4
    assert text.value.mean == 12.5
    assert text.value.low != text.value.low  # the harness gives no error of it
    assert text.each == {}


def score(each: list[float], value: float | None = None) -> TaskScore:
    mean = sum(each) / len(each) if value is None else value
    return TaskScore("t", "acc", Interval(mean, mean, mean), len(each), dict(enumerate(each)))


def test_two_policies_are_compared_question_by_question() -> None:
    gap = lost(score([1, 0, 0, 1, 0, 0]), score([1, 1, 0, 1, 1, 0]))
    assert gap is not None
    # gaps 0 -1 0 0 -1 0: mean -1/3, deviation 0.516398, t of 5 degrees 2.570582
    assert (gap.mean, gap.low) == pytest.approx((-1 / 3, -1 / 3 - 2.570582 * 0.516398 / 6**0.5), abs=1e-5)
    same = lost(score([1, 0]), score([1, 0]))
    assert same == Interval(0.0, 0.0, 0.0)
    assert lost(score([1, 0]), score([1, 0, 1])) is None
    assert lost(score([1, 0], value=7.0), score([1, 0])) is None  # no mean of its questions


def test_without_the_package_it_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(HeedfulError, match=r"heedful\[lm-eval\]"):
        run_tasks(new_policy(tiny_architectures()["llama"], tiny_tokenizer(), seed=1), ["mmlu"])
    write_model(tmp_path / "policy")
    assert main(["evaluate", str(tmp_path / "policy"), "--lm-eval-chat", "--refusals", "world"]) == 2
    assert "are for --lm-eval" in capsys.readouterr().err


@pytest.mark.slow  # the package is no part of the developers' environment
def test_a_task_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("lm_eval")
    rows = [{"question": "what is the sky", "answer": "blue" if i % 2 else "red"} for i in range(8)]
    (tmp_path / "sky.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "sky.yaml").write_text(
        "task: sky\ndataset_path: json\ndataset_kwargs: {data_files: {test: " + str(tmp_path / "sky.jsonl") + "}}\n"
        'test_split: test\noutput_type: multiple_choice\ndoc_to_text: "{{question}}"\n'
        'doc_to_choice: ["blue", "red"]\ndoc_to_target: "{{answer}}"\nmetric_list: [{metric: acc}]\n'
    )
    for name in ("policy", "baseline"):
        write_model(tmp_path / name)
    words = [
        "evaluate",
        str(tmp_path / "policy"),
        "--baseline",
        str(tmp_path / "baseline"),
        "--lm-eval",
        "sky",
        "--lm-eval-include",
        str(tmp_path),
        "--json",
    ]
    assert main(words) == 0
    found = json.loads(capsys.readouterr().out)["lm_eval"]
    (own,) = found["policies"][str(tmp_path / "policy")]
    assert (own["task"], own["metric"], own["questions"]) == ("sky", "acc", 8)
    assert own["value"]["mean"] == 0.5  # it always says the same, and each is right half the time
    assert found["gaps"] == {"sky, acc": {"mean": 0.0, "low": 0.0, "high": 0.0}}
    assert main([*words[:5], "nothing_of_the_sort", *words[6:]]) == 2
    assert "knows no task" in capsys.readouterr().err
