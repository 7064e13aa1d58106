"""The embedded loop: its settings are whole, and its fast version runs, goes on after a kill, and improves."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from heedful.files import read_manifest
from heedful.pipeline.embedded import merge, read_settings
from heedful.training.config.online import PPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.progress import Display
from heedful.training.settings import from_mapping

CLASSES = {"pretrain": SFTConfig, "sft": SFTConfig, "reward": RewardConfig, "ppo": PPOConfig, "dpo": DPOConfig}


@pytest.mark.parametrize("fast", [False, True])
def test_the_shipped_settings_name_nothing_unknown(fast: bool) -> None:
    settings, stages = read_settings(fast)
    assert settings.pairs == (1000 if fast else 4000)
    assert stages.keys() == CLASSES.keys()
    for name, cls in CLASSES.items():
        given = {"model": "m", "data": "d", "out": "o"} | ({"reward": "r"} if cls is PPOConfig else {})
        from_mapping(cls, merge(stages[name], given), name)


def test_merge_goes_into_nested_settings() -> None:
    assert merge({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"c": 4}}) == {"a": {"b": 1, "c": 4}, "d": 3}


@pytest.mark.slow
def test_the_fast_loop_improves_on_sft_and_is_not_run_twice(tmp_path: Path) -> None:
    from heedful.pipeline.quickstart import run

    config = QuickstartConfig(out=tmp_path / "run", seed=200, fast=True)
    result = run(config, Display(Console(file=io.StringIO())))
    ppo = next(row for row in result["standings"] if (row["method"], row["split"]) == ("PPO", "phrasing"))
    assert ppo["win_rate"]["low"] > 0.5
    page = (tmp_path / "run" / "report" / "index.html").read_text()
    assert "PPO" in page
    assert "Two simulated raters of this data agree" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    base = read_manifest(tmp_path / "run" / "base")
    again = run(config, Display(Console(file=io.StringIO())))
    assert read_manifest(tmp_path / "run" / "base") == base
    assert json.dumps(again["standings"]) == json.dumps(result["standings"])
