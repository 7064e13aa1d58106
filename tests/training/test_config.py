"""Settings out of range are one clear error, before any model is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heedful.errors import HeedfulError
from heedful.training.config.online import GRPOConfig, PPOConfig, ReinforceConfig, RLOOConfig
from heedful.training.config.quickstart import QuickstartConfig
from heedful.training.config.updates import FORMS
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
        ({"loading": {"base_dtype": "bfloat16"}}, "without adapters all weights train"),
        ({"loading": {"base_dtype": "nf4", "lora_rank": 4, "precision": "float32"}}, "computes is bfloat16"),
        ({"records": {"held_out": 1.0}}, "nothing would be trained on"),
        ({"critic": "shared", "critic_warmup": 3}, "cannot be trained alone"),
        ({"kl": {"adaptive": True, "horizon": 20}}, "too many for kl.horizon"),
        ({"update": {"minibatches": 1000}}, "cannot be cut"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(HeedfulError, match=said):
        from_mapping(PPOConfig, {"model": "m", "reward": "r", "data": "d", "out": "o", **given}, "test")


NEEDED = {"model": "m", "reward": "r", "data": "d", "out": "o"}


@pytest.mark.parametrize("cls", [PPOConfig, RLOOConfig, GRPOConfig, ReinforceConfig])
@pytest.mark.parametrize(
    ("given", "where", "said"),
    [
        ({"kl": {"estimator": "k1", "place": "loss"}}, "kl.estimator", "gradient is zero on average"),
        ({"kl": {"coefficient": -0.1}}, "kl.coefficient", "coefficient is -0.1"),
        ({"kl": {"target": 0.0}}, "kl", "target and horizon"),
        ({"update": {"minibatches": 0}}, "update.minibatches", "minibatches is 0"),
        ({"steps": 0}, "steps", "train nothing"),
    ],
)
def test_every_online_method_refuses_by_name(cls: type, given: dict[str, Any], where: str, said: str) -> None:
    with pytest.raises(HeedfulError, match=said) as refused:
        from_mapping(cls, {**NEEDED, **given}, "test")
    assert refused.value.where == where


@pytest.mark.parametrize(
    ("cls", "given", "where"),
    [
        (RLOOConfig, {"rollout": {"samples_per_prompt": 1}}, "rollout.samples_per_prompt"),
        (GRPOConfig, {"rollout": {"samples_per_prompt": 1}}, "rollout.samples_per_prompt"),
        (RLOOConfig, {"update": {"clip": 1.0}}, "update.clip"),
        (ReinforceConfig, {"update": {"gamma": 1.1}}, "update.gamma"),
        (ReinforceConfig, {"update": {"clip": 0.0}}, "update.clip"),
        (GRPOConfig, {"update": {"clip_low": 1.5}}, "update.clip_low"),
        (GRPOConfig, {"update": {"clip_high": 0.0}}, "update.clip_high"),
        (GRPOConfig, {"update": {"resample_rounds": -1}}, "update.resample_rounds"),
        (GRPOConfig, {"update": {"overlong_share": 1.5}}, "update.overlong_share"),
        (GRPOConfig, {"update": {"form": "gspo", "aggregation": "token"}}, "update.aggregation"),
        (GRPOConfig, {"update": {"ratio": "sequence_mean", "aggregation": "constant"}}, "update.aggregation"),
        (PPOConfig, {"ptx": {"weight": -1.0}}, "ptx.weight"),
        (PPOConfig, {"ptx": {"sequences": 0}}, "ptx.sequences"),
    ],
)
def test_what_one_method_refuses(cls: type, given: dict[str, Any], where: str) -> None:
    with pytest.raises(HeedfulError) as refused:
        from_mapping(cls, {**NEEDED, **given}, "test")
    assert refused.value.where == where


def test_a_form_is_a_set_of_choices_and_each_can_be_set_apart() -> None:
    plain = from_mapping(GRPOConfig, NEEDED, "test")
    assert plain.form == FORMS["grpo"]
    given = {
        "update": {"form": "dapo", "scale": False, "clip_high": 0.3, "overlong_share": 0.0},
        "kl": {"coefficient": 0.01},
    }
    form = from_mapping(GRPOConfig, {**NEEDED, **given}, "test").form
    assert (form.scale, form.clip_high, form.overlong_share, form.kl_coefficient) == (False, 0.3, 0.0, 0.01)
    assert (form.aggregation, form.clip_low, form.resample_rounds) == ("token", 0.2, 4)
    assert from_mapping(GRPOConfig, {**NEEDED, "update": {"form": "dapo"}}, "test").form == FORMS["dapo"]


def test_the_published_forms_differ_where_their_papers_do() -> None:
    assert {name: form.scale for name, form in FORMS.items() if not form.scale} == {"dr_grpo": False}
    assert [form.aggregation for form in FORMS.values()] == ["sequence", "constant", "token", "sequence"]
    assert [form.kl_coefficient for form in FORMS.values()] == [0.04, 0.0, 0.0, 0.0]
    assert {name for name, form in FORMS.items() if form.ratio == "sequence_mean"} == {"gspo"}
    assert {name for name, form in FORMS.items() if form.resample_rounds} == {"dapo"}


def test_the_fast_loop_has_a_folder_of_its_own() -> None:
    assert QuickstartConfig().folder != QuickstartConfig(fast=True).folder
    assert QuickstartConfig(out=Path("x"), fast=True).folder == Path("x")
