"""Settings from the command line: defaults, then the YAML file, then flags; and results for two readers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from heedful.cli.command import full_flags, parse, print_json, print_result, shown
from heedful.core.statistics import Interval
from heedful.errors import HeedfulError
from heedful.training.config.online import PPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig

SFT = ["--model", "m", "--data", "d", "--out", "o"]


def written(folder: Path, text: str) -> str:
    path = folder / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def mistake(capsys: pytest.CaptureFixture[str], cls: type, arguments: list[str]) -> str:
    """What tyro says on standard error, its box and line breaks taken out; the exit code must be 2."""
    with pytest.raises(SystemExit) as stop:
        parse(cls, "sft", arguments)
    assert stop.value.code == 2
    captured = capsys.readouterr()
    assert not captured.out
    return " ".join(re.sub(r"[│╭╮╰╯─]", " ", captured.err).split())


def test_flags_over_the_file_over_the_defaults(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "model: from-file\ndata: d\nout: o\nbatch_size: 8\noptimiser: {learning_rate: 1e-4, warmup: 0.5}\n",
    )
    config = parse(SFTConfig, "sft", ["--config", path, "--batch-size", "9", "--optimiser.warmup", "0.25"]).settings
    assert (config.model, config.out) == ("from-file", Path("o"))
    assert config.batch_size == 9
    assert (config.optimiser.learning_rate, config.optimiser.warmup) == (1e-4, 0.25)
    assert config.optimiser.clip_norm == 1.0
    assert config.epochs == 2.0


def test_the_file_may_leave_required_settings_to_flags_and_bad_values_to_be_overruled(tmp_path: Path) -> None:
    path = f"--config={written(tmp_path, 'batch_size: 0')}"
    assert parse(SFTConfig, "sft", [*SFT, path, "--batch-size", "2"]).settings.batch_size == 2
    with pytest.raises(HeedfulError, match="0 sequences"):
        parse(SFTConfig, "sft", [*SFT, path])


def test_switches_turn_both_ways_whatever_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, "run: {tensorboard: false}\nmemory: {gradient_checkpointing: true}\n")
    config = parse(
        SFTConfig, "sft", [*SFT, "--config", path, "--run.tensorboard", "--memory.no-gradient-checkpointing"]
    ).settings
    assert config.run.tensorboard
    assert not config.memory.gradient_checkpointing


def test_json_is_a_flag_of_every_command() -> None:
    assert parse(SFTConfig, "sft", [*SFT, "--json"]).json
    assert not parse(SFTConfig, "sft", SFT).json


def test_an_unknown_key_of_the_file_is_named_with_the_nearest(tmp_path: Path) -> None:
    path = written(tmp_path, "model: m\noptimiser:\n  learning_rat: 1\n")
    with pytest.raises(HeedfulError) as caught:
        parse(SFTConfig, "sft", ["--config", path])
    assert caught.value.where == f"{path}:3"
    assert caught.value.mend == "Did you mean 'optimiser.learning_rate'?"


def test_an_unknown_flag_is_named_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    said = mistake(capsys, SFTConfig, [*SFT, "--optimiser.learning-rat", "1"])
    assert "Unrecognized options: --optimiser.learning-rat" in said
    assert "Perhaps you meant: --optimiser.learning-rate" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "m", "--data", "d"], "--out PATH"),
        ([*SFT, "--epochs", "many"], "--epochs"),
        ([*SFT, "--optimiser.schedule", "cosin"], "Expected one of ('constant', 'linear', 'cosine')"),
        ([*SFT, "--config"], "Missing value for argument '--config'"),
    ],
)
def test_a_mistaken_flag_is_explained(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    assert said in mistake(capsys, SFTConfig, arguments)


def test_a_block_may_be_left_out_where_that_is_clear() -> None:
    short = ["--learning-rate", "1e-3", "--on-bad-row=error", "--no-tensorboard", "--lora-rank", "8"]
    config = parse(SFTConfig, "sft", [*SFT, *short]).settings
    assert config.optimiser.learning_rate == 1e-3
    assert config.records.on_bad_row == "error"
    assert config.loading.lora_rank == 8
    assert not config.run.tensorboard


def test_underscores_in_flags_are_read_as_hyphens() -> None:
    words = ["--learning_rate", "1e-3", "--max_length=64", "--no-tensorboard", "--optimiser.weight_decay", "0.5"]
    config = parse(SFTConfig, "sft", [*SFT, *words, "--batch_size", "4"]).settings
    assert (config.optimiser.learning_rate, config.optimiser.weight_decay) == (1e-3, 0.5)
    assert (config.records.max_length, config.batch_size) == (64, 4)


def test_a_short_name_of_two_blocks_is_refused_with_both() -> None:
    with pytest.raises(HeedfulError, match=r"--score\.clip or --update\.clip"):
        full_flags(PPOConfig, ["--clip", "0.1"])


def test_full_names_values_and_unknown_flags_are_left_alone() -> None:
    words = ["--steps", "3", "--update.clip", "0.1", "--nonsense", "clip", "--", "-1"]
    assert full_flags(PPOConfig, words) == words


@pytest.mark.parametrize("cls", [SFTConfig, RewardConfig, PPOConfig, DPOConfig])
def test_help_explains_every_setting(
    cls: type, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as stop:
        parse(cls, "sft", ["--help"], notes="A note.")
    assert stop.value.code == 0
    printed = re.sub(r"\x1b\[[0-9;]*m", "", capsys.readouterr().out)
    assert "A note." in printed
    assert max(map(len, printed.splitlines())) <= 80
    rows = [line.strip("│ ") for line in printed.splitlines()]
    for number, row in enumerate(rows):
        if re.match(r"--[a-z]", row):
            help_text = re.split(r"\s{2,}", row)[1:] or [rows[number + 1]]
            assert help_text[0], row
            assert not re.match(r"\(?default|--|\(required", help_text[0]), f"{row} is not explained"


def test_results_as_json_hold_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    @dataclass
    class Made:
        rate: Interval
        path: Path

    print_json({"a": float("nan"), "b": [1, True, None, "é"], "c": Made(Interval(0.5, 0.25, 0.75), Path("x"))})
    printed = json.loads(capsys.readouterr().out)
    assert printed["a"] is None
    assert printed["b"] == [1, True, None, "é"]
    assert printed["c"] == {"rate": {"mean": 0.5, "low": 0.25, "high": 0.75}, "path": "x"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.123456, "0.1235"),
        (True, "yes"),
        (12, "12"),
        (Interval(0.6, 0.512, 0.701), "0.600 [0.512, 0.701]"),
        ([0.5, "a"], "0.5, a"),
    ],
)
def test_values_in_tables(value: Any, text: str) -> None:
    assert shown(value) == text


def test_results_for_a_person_are_a_table_of_all_figures(capsys: pytest.CaptureFixture[str]) -> None:
    print_result("sft: out", {"steps": 3, "figures": {"held_out_loss": 0.25, "[odd]": "[red]x"}})
    printed = capsys.readouterr().out
    assert "sft: out" in printed
    assert re.search(r"figures\.held out loss\s+0\.25", printed)
    assert re.search(r"\[odd\]\s+\[red\]x", printed)
