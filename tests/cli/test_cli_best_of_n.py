"""best-of-n, from the command line, on a tiny policy and reward model."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heedful.cli.main import main
from heedful.data.load import DataSpec, load_demonstrations, load_preferences
from heedful.files import read_manifest
from stage_runs import write_inputs, write_model

FILES = {"best.jsonl", "heedful.yaml", "manifest.json", "pairs.jsonl", "report.html", "samples.jsonl"}
JUDGES = """
def longest(prompts, completions):
    return [len(text.split()) for text in completions]

def varied(prompts, completions):
    return [len(set(text.split())) - 0.2 * len(text.split()) for text in completions]

def constant(prompts, completions):
    return [1.0] * len(completions)

def short(prompts, completions):
    return [1.0]

def broken(prompts, completions):
    return [float("nan") if prompt[-1].content == "no bird why" else 1.0 for prompt in prompts]

def interrupted(prompts, completions):
    raise KeyboardInterrupt
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy, a reward model, prompts, and a module of judges."""
    root = tmp_path_factory.mktemp("best-of-n")
    write_inputs(root)
    write_model(root / "policy")
    write_model(root / "reward", kind="reward")
    (root / "bon_judges.py").write_text(JUDGES)
    prompts = ["the sea", "red bird", "why", "no bird why", "why"]
    (root / "few.jsonl").write_text("".join(json.dumps({"prompt": text}) + "\n" for text in prompts))
    return root


@pytest.fixture(autouse=True)
def there(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(folder)
    yield
    sys.modules.pop("bon_judges", None)


def command(out: Path | str, *more: str, reward: str = "bon_judges:longest", data: str = "few.jsonl") -> list[str]:
    settings = ["--samples", "4", "--max-new-tokens", "8"]
    return ["best-of-n", "policy", "--reward", reward, "--data", data, "--out", str(out), *settings, *more]


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    capsys.readouterr()
    code = main([*arguments, "--json"])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return json.loads(captured.out)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_from_a_policy_and_a_reward_model_to_files_that_training_reads(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    said = run(command(out, "--gold", "bon_judges:varied", reward="reward", data="prompts.jsonl"), capsys)
    assert {item.name for item in out.iterdir()} - {".lock"} == FILES
    samples, best = rows(out / "samples.jsonl"), rows(out / "best.jsonl")
    prompts = [row["prompt"][0]["content"] for row in samples[::4]]
    assert len(prompts) == len(set(prompts)) == said["figures"]["prompts"]
    for p in range(len(prompts)):
        drawn = samples[4 * p : 4 * p + 4]
        assert [row["sample"] for row in drawn] == [0, 1, 2, 3]
        assert len({row["prompt"][0]["content"] for row in drawn}) == 1
    top = [max(samples[i : i + 4], key=lambda row: row["proxy"]) for i in range(0, len(samples), 4)]
    assert best == [row for row in top if row["completion"][0]["content"].strip()]

    demonstrations = load_demonstrations(DataSpec(str(out / "best.jsonl"), on_bad_row="error")).records
    assert [d.completion for d in demonstrations] == [row["completion"][0]["content"] for row in best]
    assert [d.prompt[0].content for d in demonstrations] == [row["prompt"][0]["content"] for row in best]
    preferences = load_preferences(DataSpec(str(out / "pairs.jsonl"), on_bad_row="error")).records
    assert len(preferences) == said["figures"]["pairs"] > 0
    score = {(row["prompt"][0]["content"], row["completion"][0]["content"]): row["proxy"] for row in samples}
    for pair in preferences:
        scores = [row["proxy"] for row in samples if row["prompt"][0]["content"] == pair.prompt[0].content]
        asked = pair.prompt[0].content
        assert (score[asked, pair.a], score[asked, pair.b]) == pytest.approx((max(scores), min(scores)), abs=1e-6)
        assert pair.margin == pytest.approx(max(scores) - min(scores), abs=1e-6)
        assert pair.probability == 1.0


def test_the_manifest_holds_figures_cost_and_lineage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    said = run(command(out, "--gold", "bon_judges:varied", reward="reward"), capsys)
    manifest = read_manifest(out)
    assert manifest is not None
    assert said == {"out": str(out), **json.loads(json.dumps(manifest))}
    assert {role: parent["name"] for role, parent in manifest["parents"].items()} == {
        "policy": "policy",
        "reward": "reward",
        "gold": "bon_judges:varied",
    }
    assert all(parent["fingerprint"] for parent in manifest["parents"].values())
    assert manifest["data"]["source"] == "few.jsonl"
    assert manifest["data"]["records"] == 4  # "why" stands twice in the file
    assert manifest["seconds"] >= sum(manifest["seconds_of"].values()) > 0
    assert manifest["peak_memory_bytes"] > 10**8
    assert set(manifest["files"]) == FILES - {"heedful.yaml", "manifest.json"}
    assert manifest["meaning"] in (out / "report.html").read_text()


def test_the_curve_is_that_of_every_choice_among_the_samples(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    figures = run(command(out, "--gold", "bon_judges:varied"), capsys)["figures"]
    samples = rows(out / "samples.jsonl")
    for judge in ("proxy", "gold"):
        for point in figures["curves"][judge]:
            values = []
            for start in range(0, len(samples), 4):
                for subset in combinations(samples[start : start + 4], point["n"]):
                    top = max(row["proxy"] for row in subset)
                    values.append(np.mean([row[judge] for row in subset if row["proxy"] == top]))
            assert point["mean"] == pytest.approx(np.mean(values), abs=1e-5)
            assert point["low"] <= point["mean"] <= point["high"]
            assert point["kl_bound"] == pytest.approx(np.log(point["n"]) - (point["n"] - 1) / point["n"])
    assert [point["n"] for point in figures["curves"]["gold"]] == [1, 2, 4]
    assert figures["gains"]["gold"]["mean"] == pytest.approx(
        figures["curves"]["gold"][2]["mean"] - figures["curves"]["gold"][0]["mean"]
    )


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run(command(tmp_path / name, "--seed", seed), capsys)
    for name in ("best.jsonl", "pairs.jsonl", "samples.jsonl"):
        a, b, c = ((tmp_path / run_ / name).read_bytes() for run_ in ("a", "b", "c"))
        assert a == b != c


def test_a_person_reads_the_table_and_what_it_means(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tmp_path / "out", "--gold", "bon_judges:varied")) == 0
    captured = capsys.readouterr()
    assert "KL at most" in captured.out
    assert "proxy [95%]" in captured.out
    assert "gold [95%]" in captured.out
    assert "Keeping the best of 4 raises the reward that chooses" in captured.out
    assert "1 of 5 prompts are repeats; each is answered once" in captured.err
    assert max(map(len, captured.out.replace(str(tmp_path), "").splitlines())) <= 80


def test_a_reward_that_likes_all_alike_writes_no_pair_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(out, reward="bon_judges:constant")) == 0
    printed = capsys.readouterr().out
    assert "no pair of 4 of 4 prompts: their answers all score alike" in printed
    assert "there was nothing to choose" in " ".join(printed.split())
    assert (out / "pairs.jsonl").read_text() == ""


@pytest.mark.parametrize(
    ("more", "reward", "said"),
    [
        (["--samples", "1"], "bon_judges:longest", "1 leaves nothing to choose among"),
        (["--temperature", "0"], "bon_judges:longest", "decoding.temperature: at 0 all answers"),
        (["--gold", "bon_judges:longest"], "bon_judges:longest", "cannot check its own choice"),
        (["--gold", "reward/"], "reward", "cannot check its own choice"),
        (["--gold", "copy"], "reward", "cannot check its own choice"),
        ([], "bon_judges:broken", "gave nan for the answer"),
        ([], "bon_judges:broken", "to the prompt 'no bird why'"),
        (["--gold", "bon_judges:broken"], "bon_judges:longest", "bon_judges:broken: the reward gave nan"),
        ([], "bon_judges:short", "gave scores of shape [1] for 16 completions"),
        ([], "bon_judges:shorter", "has no 'shorter'"),
        (["--prompt", "hello"], "bon_judges:longest", "either --data or --prompt"),
        (["--limit", "1"], "bon_judges:longest", "one prompt alone"),
    ],
)
def test_refusals_leave_nothing(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], reward: str, said: str
) -> None:
    if "copy" in more and not (folder / "copy").exists():
        shutil.copytree(folder / "reward", folder / "copy")
    out = tmp_path / "out"
    assert main(command(out, *more, reward=reward)) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert not captured.out
    assert not out.exists()


def test_a_folder_that_holds_something_else_is_left_as_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "best.jsonl").write_text("mine\n")
    assert main(command(out)) == 2
    assert "holds no run of heedful" in capsys.readouterr().err
    assert (out / "best.jsonl").read_text() == "mine\n"
    shutil.rmtree(out)
    out.mkdir()
    (out / "heedful.yaml").write_text("# heedful sft\nmodel: m\n")
    assert main(command(out)) == 2
    assert "another kind of run (sft)" in capsys.readouterr().err
    assert (out / "heedful.yaml").exists()


def test_a_finished_run_is_not_run_again_and_not_mixed_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    first = run(command(out), capsys)
    before = {item.name: item.read_bytes() for item in out.iterdir()}
    assert main([*command(out), "--json"]) == 0
    captured = capsys.readouterr()
    assert "finished already" in captured.err
    assert json.loads(captured.out) == first
    assert main(command(out, "--seed", "5")) == 2
    assert "other settings: decoding.seed (0 before, 5 now)" in capsys.readouterr().err
    assert {item.name: item.read_bytes() for item in out.iterdir()} == before


def test_an_interrupt_leaves_nothing_and_a_killed_run_is_begun_anew(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(command(out, reward="bon_judges:interrupted")) == 130
    assert "Interrupted" in capsys.readouterr().err
    assert not out.exists()
    out.mkdir()
    (out / "heedful.yaml").write_text("# heedful best-of-n\npolicy: another\n")
    (out / "best.jsonl").write_text("half")
    (out / ".result").mkdir()
    (out / ".result" / "pairs.jsonl").write_text("half")
    run(command(out), capsys)
    assert len(rows(out / "best.jsonl")) == 4
    assert {item.name for item in out.iterdir()} - {".lock"} == FILES


def test_its_settings_are_a_file_of_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, again = tmp_path / "out", tmp_path / "again"
    run(command(out, "--top-k", "20"), capsys)
    run(["best-of-n", "--config", str(out / "heedful.yaml"), "--out", str(again)], capsys)
    assert (again / "samples.jsonl").read_bytes() == (out / "samples.jsonl").read_bytes()
