"""`heedful cost` as a person and a program meet it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cost_manifests import write_costs
from heedful.cli.cost import energy, seconds
from heedful.cli.main import main


def test_the_table_has_stages_rounds_and_what_a_point_cost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_costs(tmp_path)
    assert main(["cost", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    rows = {line.split()[0]: line for line in said.splitlines() if "/" in line.split()[0]}
    assert rows["1/judge"].split()[-2:] == ["3", "(0.25)"]
    assert "2.00 h" in rows["1/judge"]
    assert "30.00 USD, 1000.00 VND" in rows["1/judge"]
    assert rows["2/policy"].split()[1:] == ["10.0", "s", "?", "?"]
    assert "round 1 won +10.0 points by human [+0.0, +20.0]; a point cost" in said
    assert "round 2 won -5.0 points by human [-15.0, +5.0]; no point was won." in said
    assert "The rounds that were kept won 10.0 points by human" in said
    assert "with their time alone: 2/policy." in said
    assert "Energy is an estimate: 10 W" in said


def test_columns_that_hold_nothing_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_costs(tmp_path)
    for stage in ("judge", "check", "policy"):
        (tmp_path / "rounds/1" / stage / "manifest.json").unlink()
    assert main(["cost", str(tmp_path)]) == 0
    head = capsys.readouterr().out.splitlines()[0]
    assert head.split() == ["stage", "time", "processor", "energy"]


def test_a_program_reads_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_costs(tmp_path)
    assert main(["cost", str(tmp_path), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["total"]["rater_money"] == {"USD": 36.0, "VND": 1000.0}
    (gain,) = found["rounds"][1]["gains"]
    assert gain["per_point"]["rater_hours"] == pytest.approx(0.25)
    assert gain["per_point_at_best"]["rater_hours"] == pytest.approx(0.125)
    assert gain["per_point_at_worst"] is None
    assert found["won"]["human"]["points"] == pytest.approx(10.0)
    assert found["won"]["gold"]["per_point"] is None
    assert main(["cost", str(tmp_path / "nowhere")]) == 2
    assert "there are no rounds here" in capsys.readouterr().err


def test_figures_are_told_in_units_for_people() -> None:
    assert [seconds(value) for value in (0.04, 119.0, 120.0, 7200.0)] == ["0.0 s", "119.0 s", "2.0 min", "2.0 h"]
    assert [energy(value) for value in (0.00123, 1.5, 2500.0)] == ["1.23 mWh", "1.50 Wh", "2.50 kWh"]
