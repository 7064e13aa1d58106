"""A scalar model's modules on a policy's trunk: on a copy of it, or on the same tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch

from heedful.errors import HeedfulError
from heedful.models.adapters import copy_what_trains, is_adapted, is_fresh, merged_state, underlying, without_adapters
from heedful.models.policy import Policy

QUANTISED = ("is_loaded_in_4bit", "is_quantized", "quantization_method")
"""What transformers notes on a model with quantised layers, and peft reads there."""


def classifier_on(policy: Policy, *, share: bool) -> Any:
    """A one-label sequence classifier of transformers on a policy's trunk; its head is not set.

    Args:
        share: take the same tensors, frozen, where nothing can move them; else, and otherwise, copies that train.

    Raises:
        HeedfulError: transformers has no sequence classifier of this architecture.
    """
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING as CLASSIFIERS

    source = underlying(policy.model)
    config = copy.deepcopy(source.config)
    name = type(source).__name__
    trunk = _frozen_trunk(policy.model) if share else None
    trained = trunk is None
    if trunk is None:
        trunk = _trunk_copy(policy.model)
    if type(config) not in CLASSIFIERS:
        raise HeedfulError(
            f"transformers has no sequence classifier for {name}, so it can be no reward model or critic.",
            mend="Use another architecture, or a value head on the policy's own trunk.",
        )
    config.num_labels = 1
    config.pad_token_id = policy.pad
    with torch.device("meta"):
        made: Any = CLASSIFIERS[type(config)]
        model = made(config)
    linear = isinstance(getattr(model, "score", None), torch.nn.Linear) and model.score.out_features == 1
    if not linear or type(model.base_model) is not type(trunk):
        raise HeedfulError(
            f"transformers' sequence classifier for {name} is not a linear score on its trunk.",
            mend="Use another architecture, or a value head on the policy's own trunk.",
        )
    setattr(model, model.base_model_prefix, trunk)
    trunk.config = config
    model.score = torch.nn.Linear(model.score.in_features, 1, bias=False, device=policy.device)
    if trained:
        model.requires_grad_(True)
    for fact in QUANTISED:
        if hasattr(source, fact):
            setattr(model, fact, getattr(source, fact))
    return model.train(source.training)


def _frozen_trunk(model: Any) -> Any | None:
    """A second trunk on the same tensors, or None where the first is not frozen or its adapters have learnt."""
    if is_adapted(model):
        return without_adapters(model).base_model if is_fresh(model) else None
    frozen = not any(parameter.requires_grad for parameter in model.base_model.parameters())
    return copy_what_trains(model.base_model) if frozen else None


def _trunk_copy(model: Any) -> Any:
    """A copy of a model's trunk with its adapters merged into it."""
    merged = merged_state(model)
    if merged is None:
        return copy.deepcopy(model.base_model)
    plain = without_adapters(model)
    plain.load_state_dict(merged, assign=True)
    return copy.deepcopy(plain.base_model)
