"""Programmes side by side, and the page of a single run, from folders written by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hand_made_programme import write_hand_made
from heedful.cli.main import main
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.pipeline.programme_report.compare import cautions, comparison, differing, names_of
from heedful.pipeline.programme_report.curves import chosen, line, overlaid
from heedful.pipeline.programme_report.fresh import Asked
from heedful.pipeline.programme_report.material import Material, gather
from heedful.pipeline.programme_report.reading import read_results
from heedful.pipeline.programme_report.run_page import place_of, run_page
from heedful.training.progress import Display

NOTHING = ["--no-samples", "--no-refusals", "--no-probes"]


def gathered(folder: Path) -> Material:
    return gather(read_results(folder), Asked(False, False, False), Display())


@pytest.fixture
def both(tmp_path: Path) -> dict[str, Material]:
    first = write_hand_made(tmp_path / "a")
    second = write_hand_made(tmp_path / "b", rounds=1, world={"use": True, "seed": 0, "documents": 64})
    return {"three": gathered(first), "one": gathered(second)}


def test_columns_have_the_same_figures(both: dict[str, Material]) -> None:
    html = comparison(both)
    rows = [row for row in html.split("<tr>") if row.startswith('<th scope="row">')]
    cells = {row.split(">")[1].split("<")[0]: row for row in rows}
    assert "73.6%" in cells["Last policy over the first"]
    assert "65.0%" in cells["Last policy over the first"]
    assert cells["Round 3 over the policy before it"].count("<td>") == 2
    assert "60.0%" in cells["Round 3 over the policy before it"]
    assert "<td>–</td>" in cells["Round 3 over the policy before it"]
    assert "14 min 00 s" in cells["Computing"]
    assert "5 min 00 s" in cells["Computing"]  # 30 s before the first round and 270 s of it
    assert "world.documents" in html
    assert "32000" in html
    assert html == comparison(both)


def test_names_and_what_stands_in_the_way(both: dict[str, Material], tmp_path: Path) -> None:
    results = [one.results for one in both.values()]
    assert names_of(results) == ["a", "b"]  # both recipes say shop
    with pytest.raises(HeedfulError, match="named twice"):
        names_of([results[0], results[0]])
    assert differing({"a": results[0], "b": results[1]}) == {"world.documents": [32000, 64]}
    assert cautions(both) == ["Their last policies were not judged by the same raters."]
    manifest = tmp_path / "b/rounds/1/check/manifest.json"
    manifest.write_text(manifest.read_text().replace('"sha256": "rounds/0/sft"', '"sha256": "another"'))
    said = cautions({"a": both["three"], "b": gathered(tmp_path / "b")})
    assert said[0].startswith("These programmes did not begin with the same policy")


def test_rounds_stand_one_behind_another(both: dict[str, Material]) -> None:
    curves = {curve.name: curve for curve in overlaid({name: one.results for name, one in both.items()})}
    kl = curves["KL to where it began"].series
    assert (kl["three"].x[0], kl["three"].x[20], kl["three"].x[-1]) == (1, 21, 60)
    assert (kl["three"].y[19], kl["three"].y[20]) == (4.0, 0.2)
    assert kl["one"].x == tuple(range(1, 21))
    checks = curves["Won against the policy before"].series["three"]
    assert (checks.x, checks.y) == ((1, 2, 3), (0.65, 0.45, 0.6))
    assert checks.bounds[1] == (0.37, 0.53)


def test_a_long_log_is_averaged_and_many_rounds_are_few_lines() -> None:
    rows = [{"step": float(step), "kl": float(step % 2)} for step in range(1, 241)]
    found = line(rows, "kl")
    assert len(found.x) == 60
    assert (found.x[0], found.y[0]) == (2.5, 0.5)
    runs, told = chosen({f"round {n}": rows for n in range(1, 10)} | {"round 10": []})
    assert list(runs) == ["round 1", "round 5", "round 6", "round 7", "round 8", "round 9"]
    assert told == "The first and the last 5 of 9."


def test_the_page_of_a_run_that_has_not_ended(tmp_path: Path) -> None:
    run = tmp_path / "ppo"
    run.mkdir()
    (run / "heedful.yaml").write_text("# heedful ppo\nsteps: 100\n")
    (run / "metrics.jsonl").write_text("".join(json.dumps({"step": s, "kl": s / 10}) + "\n" for s in range(1, 4)))
    sample = {"step": 2, "prompt": "the colour of milk ?", "completion": "white .", "reward": 0.25}
    (run / "samples.jsonl").write_text(json.dumps(sample) + "\n")
    html = run_page(run)
    assert "PPO: ppo" in html
    assert "It has not ended" in html
    assert "white ." in html
    assert "KL: 0.1" not in html
    assert "nats per answer against step. this run: 0.100 at the start (step 1.00), 0.300 at the end" in html
    assert place_of(run) == tmp_path / "ppo-report.html"
    assert place_of(tmp_path / "shop/rounds/2/policy") == tmp_path / "shop/report/round-2-policy.html"
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(HeedfulError, match="has logged nothing"):
        run_page(run)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "this is the folder of no programme (heedful.yaml) and of no training run (metrics.jsonl)"),
        (["--compare", "a"], "one programme alone is no comparison"),
        (["a", "--compare", "a", "b"], "a stands outside of --compare"),
        (["a", "--prompts", "3"], "it is 3"),
    ],
)
def test_mistakes_are_named(
    arguments: list[str], said: str, both: dict[str, Material], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["report", *arguments, *NOTHING]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_quickstart_has_a_report_of_its_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report/index.html").write_text("")
    assert main(["report", str(tmp_path)]) == 2
    assert f"Its own report is {tmp_path / 'report/index.html'}." in " ".join(capsys.readouterr().err.split())


def test_intervals_of_one_round_are_its_check(both: dict[str, Material]) -> None:
    assert both["one"].headline == (Interval(0.65, 0.58, 0.72), "its check")
