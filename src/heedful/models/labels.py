"""Sequence classifiers as rewards: their configuration, and which of their labels is the score."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from heedful.errors import HeedfulError, nearest
from heedful.models.storage import check_source, open_config


def classifier_config(source: str, revision: str | None) -> Any:
    """The configuration of a folder or hub id that holds a sequence classifier.

    Raises:
        HeedfulError: there is none, or it is of another kind.
    """
    check_source(source)
    config = open_config(source, revision)
    if not any("ForSequenceClassification" in name for name in config.architectures or ()):
        raise HeedfulError(
            "this is not a reward model: its configuration names no sequence classifier.",
            where=source,
            mend="Train one with heedful reward, or give the folder of one.",
        )
    return config


def chosen_label(config: Any, label: str | None, source: str) -> int:
    """Which output of a classifier is the score: its only one, or the one that is named.

    Args:
        label: a label's name (`id2label`) or its number.

    Raises:
        HeedfulError: several labels and none named, or no such label.
    """
    names = [str(config.id2label.get(number, number)) for number in range(config.num_labels)]
    if label is None and len(names) == 1:
        return 0
    shown = ", ".join(names[:12])
    if label is None:
        raise HeedfulError(
            f"a reward is one number, and this classifier has {len(names)} labels: {shown}.",
            where=source,
            mend=f"Name the one whose output is the reward: {source}#{names[-1]}.",
        )
    if label in names:
        return names.index(label)
    if label.isdecimal() and int(label) < len(names):
        return int(label)
    raise HeedfulError(
        f"the classifier has no label {label!r}.", where=source, mend=nearest(label, names) or f"It has {shown}."
    )


@torch.no_grad()
def keep_label(model: Any, label: int) -> None:
    """Make a classifier of several labels one of a single label."""
    if model.config.num_labels == 1:
        return
    old = model.score
    model.score = torch.nn.Linear(old.in_features, 1, bias=old.bias is not None)
    model.score.weight.copy_(old.weight[label : label + 1])
    if old.bias is not None:
        model.score.bias.copy_(old.bias[label : label + 1])
    model.config.num_labels = 1
    model.num_labels = 1


def finite(scores: Tensor, where: str) -> Tensor:
    """The scores of a model, if all of them are numbers.

    Raises:
        HeedfulError: one is not.
    """
    if not bool(torch.isfinite(scores).all()):
        raise HeedfulError(
            "the reward model gives scores that are no finite numbers.",
            where=where,
            mend="Its weights are damaged, or its training diverged: train it again.",
        )
    return scores
