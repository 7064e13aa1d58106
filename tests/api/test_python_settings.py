"""Settings from keyword arguments: short names, blocks, what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import heedful
from heedful.api.objects import configured
from heedful.errors import HeedfulError
from heedful.training.config.common import OptimiserConfig
from heedful.training.config.online import PPOConfig
from heedful.training.config.sft import SFTConfig

GIVEN = {"model": "m", "data": "d", "out": Path("o")}


def test_a_block_may_be_left_out_or_given_in_two_parts() -> None:
    made = configured(SFTConfig, "here", {**GIVEN, "learning_rate": 3e-3, "optimiser": {"warmup": 0.5}, "held_out": 0})
    assert (made.optimiser.learning_rate, made.optimiser.warmup, made.records.held_out) == (3e-3, 0.5, 0.0)
    assert made.out == Path("o")


def test_a_settings_object_is_a_block() -> None:
    made = configured(SFTConfig, "here", {**GIVEN, "optimiser": OptimiserConfig(learning_rate=4.0)})
    assert made.optimiser == OptimiserConfig(learning_rate=4.0)


def test_a_name_of_several_blocks_is_asked_about() -> None:
    with pytest.raises(HeedfulError) as told:
        configured(PPOConfig, "heedful.ppo", {**GIVEN, "reward": "r", "level": "token"})
    assert told.value.where == "heedful.ppo"
    assert told.value.mend == "Write watch={'gold': {'level': ...}} or kl={'level': ...}."


def test_without_torch_a_call_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr("heedful.cli.stages.import_module", absent)
    with pytest.raises(heedful.HeedfulError, match=r"needs torch.*heedful\[train\]"):
        heedful.sft("model", [{"prompt": "a", "completion": "b"}], out=tmp_path / "run")
