"""The report's tables in the terminal."""

from __future__ import annotations

import dataclasses
import io

from report_example import example
from rich.console import Console

from heedful.pipeline.report import ReportData, render_terminal


def rendered(data: ReportData, width: int) -> str:
    out = io.StringIO()
    render_terminal(data, Console(file=out, width=width, force_terminal=False))
    return out.getvalue()


def row(out: str, method: str) -> list[str]:
    return next(line.split() for line in out.splitlines() if line.split()[:1] == [method])


def test_it_fits_eighty_columns_and_says_the_same_as_the_page() -> None:
    out = rendered(example(), 80)
    assert max(len(line) for line in out.splitlines()) <= 80
    assert row(out, "SFT") == "SFT baseline 58.0% 0.31 – 14.2 0.412 1.31".split()
    assert row(out, "PPO") == "PPO 79.4% 74.0% 1.02 6.40 14.8 0.412 0.99".split()
    assert "75.9–82.9%" in out
    assert "goal at most 6 min 00 s: reached" in " ".join(out.split())
    assert "unseen phrasings" in (line.strip() for line in out.splitlines())
    assert "…" not in out


def test_a_wide_terminal_shows_every_interval_and_column() -> None:
    out = rendered(example(), 130)
    assert "0.94–1.10" in out
    assert row(out, "PPO")[-1] == "0.5%"


def test_controls_findings_and_costs_are_there() -> None:
    out = rendered(example(), 100)
    assert "not as expected" in out
    assert "prompts differ" in out
    assert row(out, "reward") == "reward model on shuffled labels 51.0% a win rate of one half as expected".split()
    assert any(line.split() == ["All", "stages", "5", "min", "12", "s", "1.6", "GiB"] for line in out.splitlines())


def test_markup_and_control_codes_in_the_data_are_text() -> None:
    rows = [dataclasses.replace(r, method="[red]x[/]\x1b[31m\x07") for r in example().methods[:2]]
    out = rendered(dataclasses.replace(example(), headline="[bold]h[/bold]", methods=tuple(rows)), 100)
    assert "[bold]h[/bold]" in out
    assert "[red]x[/]\ufffd[31m\ufffd" in out
    assert "\x1b" not in out


def test_an_empty_report_prints_its_headline_alone() -> None:
    out = rendered(ReportData("Title", "", "Nothing yet."), 60)
    assert "Title" in out
    assert "Nothing yet." in out
    assert len(out.splitlines()) == 3
