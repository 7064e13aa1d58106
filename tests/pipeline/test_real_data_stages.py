"""Every stage from a file of real human comparisons, as it is, with a small model and tokenizer made from it."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from heedful.pipeline.stages.online import run_ppo
from heedful.pipeline.stages.preference import run_dpo
from heedful.pipeline.stages.reward import run_reward
from heedful.pipeline.stages.sft import run_sft
from heedful.training.config.common import RecordsConfig, RunConfig
from heedful.training.config.online import PPOConfig
from heedful.training.config.preference import DPOConfig
from heedful.training.config.reward import RewardConfig
from heedful.training.config.rollout import RolloutConfig
from heedful.training.config.sft import SFTConfig
from heedful.training.progress import Display

pytestmark = pytest.mark.real_data


def test_the_four_stages_run_from_the_file_as_it_is(repository: Path, shared_data: Path, tmp_path: Path) -> None:
    data = str(shared_data / "hh-harmless.jsonl.gz")
    records = RecordsConfig(max_length=512, limit=60, held_out=0.3)
    settings = RunConfig(tensorboard=False, sample_every=0)
    said = io.StringIO()
    quiet = Display(Console(file=said, width=200))
    sft, reward = tmp_path / "sft", tmp_path / "reward"
    scratch = str(repository / "examples" / "hh_model.yaml")
    run_sft(SFTConfig(scratch, data, sft, epochs=0.5, batch_size=8, records=records, run=settings), quiet)
    found = run_reward(
        RewardConfig(str(sft), data, reward, epochs=0.5, batch_size=8, records=records, run=settings), quiet
    )
    held_out = found["held_out"]
    assert held_out["accuracy"]["low"] <= held_out["accuracy"]["mean"] <= held_out["accuracy"]["high"]
    assert held_out["pairs"] >= 5
    assert "the longer answer alone" in said.getvalue()
    run_dpo(DPOConfig(str(sft), data, tmp_path / "dpo", epochs=0.5, batch_size=8, records=records, run=settings), quiet)
    rollout = RolloutConfig(prompts_per_step=4, max_new_tokens=8)
    done = run_ppo(
        PPOConfig(
            str(sft), str(reward), data, tmp_path / "ppo", steps=2, rollout=rollout, records=records, run=settings
        ),
        quiet,
    )
    assert done["steps"] == 2
