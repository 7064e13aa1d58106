"""compare, on files of answers and of judgments, by a reward, by the world, and side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.main import main
from heedful.world.world import World


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.name


def answers(path: Path, texts: list[str]) -> str:
    return write(path, [{"prompt": f"question {i}", "completion": text} for i, text in enumerate(texts)])


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "most_words.py").write_text("def score(prompts, texts):\n    return [len(t.split()) for t in texts]\n")
    answers(tmp_path / "short.jsonl", ["a"] * 8)
    answers(tmp_path / "middle.jsonl", ["a b"] * 7 + ["a"])
    answers(tmp_path / "long.jsonl", ["a b c d"] * 8)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


FILES = ["short.jsonl", "middle.jsonl", "long.jsonl"]


def test_files_of_answers_by_a_reward(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["compare", *FILES, "--reward", "most_words:score", "--out", "figures.json"]
    found = run(command, capsys)
    assert [row["model"] for row in found["models"]] == FILES[::-1]
    duels = {(row["a"], row["b"]): row for row in found["duels"]}
    assert list(duels) == [(FILES[0], FILES[1]), (FILES[0], FILES[2]), (FILES[1], FILES[2])]
    first = duels[FILES[0], FILES[1]]
    assert (first["wins"], first["ties"], first["losses"]) == (0, 1, 7)
    assert first["rate"]["mean"] == 0.0625
    assert json.loads((here / "figures.json").read_text()) == found
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "short.jsonl against middle.jsonl: 0.062" in printed
    assert "not preferred" in printed


def test_a_prompt_that_one_lacks_is_left_out(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    answers(here / "few.jsonl", ["a b c d e"] * 5)
    found = run(["compare", "few.jsonl", "long.jsonl", "--reward", "most_words:score"], capsys)
    assert found["judgments"] == 5
    write(here / "other.jsonl", [{"prompt": "another", "completion": "x"}])
    assert main(["compare", "few.jsonl", "other.jsonl", "--reward", "most_words:score"]) == 2
    assert "no prompt is answered in all files" in capsys.readouterr().err


def test_files_by_the_worlds_truth_with_its_kinds_as_topics(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = World(0)
    prompts = [prompt.prompt for prompt in world.prompts("phrasing")][:60]
    right = [" ".join(world.topic_of(prompt).right[0]) for prompt in prompts]
    wrong = [" ".join(world.topic_of(prompt).wrong[0][0]) for prompt in prompts]
    for name, texts in (("right.jsonl", right), ("wrong.jsonl", wrong)):
        rows = [{"prompt": p[0].content, "completion": t} for p, t in zip(prompts, texts, strict=True)]
        write(here / name, rows)
    found = run(["compare", "right.jsonl", "wrong.jsonl", "--world", "0"], capsys)
    assert found["duels"][0]["rate"]["mean"] == 1.0
    assert found["duels"][0]["by"]["topic: fact"]["mean"] == 1.0
    assert found["clusters"] == len({world.topic_of(prompt).name for prompt in prompts})


def test_a_file_of_judgments(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        {"model_a": a, "model_b": b, "prompt": f"q {i}", "a": "x", "b": "y", "probability": p, "topic": "sea"}
        for i in range(4)
        for a, b, p in (("one", "two", 1.0), ("two", "three", 0.5), ("three", "one", 0.25))
    ]
    write(here / "judged.jsonl", rows)
    found = run(["compare", "--judgments", "judged.jsonl"], capsys)
    assert found["judgments"] == 12
    assert {row["model"] for row in found["models"]} == {"one", "two", "three"}
    sea = found["duels"][0]["by"]["topic: sea"]
    assert (sea["mean"], sea["high"]) == (1.0, 1.0)
    assert sea["low"] == pytest.approx(0.510, abs=0.001)  # four wins of four
    assert run(["compare", "one", "three", "--judgments", "judged.jsonl"], capsys)["judgments"] == 4
    assert main(["compare", "one", "four", "--judgments", "judged.jsonl"]) == 2
    assert "nothing was judged of 'four'" in capsys.readouterr().err


def test_several_judges_by_a_column_and_on_a_page(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "fewest.py").write_text("def score(prompts, texts):\n    return [-len(t.split()) for t in texts]\n")
    rows = [{"prompt": f"question {i}", "sort": "even" if i % 2 == 0 else ""} for i in range(8)]
    write(here / "sorted.jsonl", rows)
    command = ["compare", *FILES, "--reward", "most_words:score", "--data", "sorted.jsonl", "--by", "sort"]
    found = run([*command, "--report", "page.html"], capsys)
    duels = {(row["a"], row["b"]): row for row in found["duels"]}
    even = duels[FILES[0], FILES[1]]["by"]["topic: even"]
    assert (even["mean"], even["low"]) == (0.0, 0.0)
    assert even["high"] == pytest.approx(0.490, abs=0.001)  # no win of four
    page = (here / "page.html").read_text()
    for part in (
        "long.jsonl is preferred to middle.jsonl in 100.0% of pairs on 8 prompts, by most_words:score",
        "long.jsonl against short.jsonl",
        "What style is worth, by most_words:score",
        "0 wins, 1 ties, 7 losses of 8 pairs",
    ):
        assert part in page, part
    assert main([*command[:-1], "sorts"]) == 2
    assert "no row has a column 'sorts'" in capsys.readouterr().err


def test_a_pair_seen_from_the_other_side() -> None:
    from heedful.evaluation.contest import contest
    from heedful.evaluation.judgments import Judged
    from heedful.pipeline.compare_report import turned

    rows = [Judged((), f"c{i}", "one", "two", "x y", "x", float(i < 3), "sea") for i in range(8)]
    duel = contest(rows, samples=50).duels[0]
    other = turned(duel)
    assert (other.a, other.b, other.wins, other.losses) == ("two", "one", 5, 3)
    assert (other.rate.mean, other.rate.low) == (1 - duel.rate.mean, 1 - duel.rate.high)
    assert other.by["topic: sea"].mean == pytest.approx(5 / 8)


def test_files_side_by_side(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run(["compare", *FILES, "--limit", "2"], capsys)
    assert [row["answers"] for row in rows] == [dict(zip(FILES, ["a", "a b", "a b c d"], strict=True))] * 2
    assert main(["compare", *FILES[:2]]) == 0
    assert capsys.readouterr().out.count("user: question") == 8


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["short.jsonl"], "1 cannot be compared"),
        (["short.jsonl", "short.jsonl", "--reward", "most_words:score"], "stands there twice"),
        ([*FILES, "--blind"], "a blind vote is between two"),
        (
            [*FILES, "--reward", "most_words:score", "--judgments", "x.jsonl"],
            "one judge at a time, not reward and judgments",
        ),
        ([*FILES, "--report", "x.html"], "no figures to write"),
        ([*FILES, "--reward", "most_words:score", "--by", "topic"], "names a column of --data"),
        ([*FILES[:2], "--blind", "--world", "0"], "one judge at a time, not world and blind"),
        ([*FILES, "--out", "x.json"], "no figures to write"),
        ([*FILES, "--reward", "most_words:score", "--samples", "0"], "0 samples"),
    ],
)
def test_compare_refuses_what_makes_no_sense(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["compare", *arguments]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out
