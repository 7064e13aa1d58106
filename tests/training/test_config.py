"""Settings out of range are one clear error, before any model is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.training.config.online import PPOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.settings import from_mapping


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"update": {"epochs": 0}}, "epochs is 0"),
        ({"update": {"clip": 0.0}}, "clip is 0.0"),
        ({"update": {"lam": 1.5}}, "lam is 1.5"),
        ({"kl": {"coefficient": -0.1}}, "coefficient is -0.1"),
        ({"optimiser": {"learning_rate": -1e-5}}, "learning_rate is -1e-05"),
        ({"optimiser": {"beta2": 1.0}}, "below 1"),
        ({"rollout": {"temperature": 0.0}}, "temperature above 0"),
        ({"rollout": {"max_new_tokens": 0}}, "max_new_tokens is 0"),
        ({"loading": {"device": "gpu"}}, "'gpu' is not a device"),
        ({"records": {"held_out": 1.0}}, "nothing would be trained on"),
        ({"critic": "shared", "critic_warmup": 3}, "cannot be trained alone"),
        ({"kl": {"adaptive": True, "horizon": 20}}, "too many for kl.horizon"),
        ({"update": {"minibatches": 1000}}, "cannot be cut"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(HeedfulError, match=said):
        from_mapping(PPOConfig, {"model": "m", "reward": "r", "data": "d", "out": "o", **given}, "test")


def test_the_fast_loop_has_a_folder_of_its_own() -> None:
    assert QuickstartConfig().folder != QuickstartConfig(fast=True).folder
    assert QuickstartConfig(out=Path("x"), fast=True).folder == Path("x")
