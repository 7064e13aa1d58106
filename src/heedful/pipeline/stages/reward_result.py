"""What becomes of a reward model once it is trained: its offset and scale, and how right it is on held-out pairs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from heedful.core.calibration import fit_temperature
from heedful.data.records import Conversation, prompt_key
from heedful.errors import HeedfulError
from heedful.evaluation.accuracy import RewardAccuracy, reward_accuracy
from heedful.models.head_bank import ENSEMBLE
from heedful.models.scalar import RewardModel
from heedful.training.config.reward import RewardConfig
from heedful.training.reward import normalisation, pair_gaps, score_items
from heedful.training.reward_data import Judged, Layout

RANGE_ITEMS = 500
"""Items that show the range of scores: enough for a quantile, few enough to cost little."""


def normalise(model: RewardModel, items: Sequence[Judged], config: RewardConfig) -> None:
    """Fix offset and scale on some answers, of the score and of each member of an ensemble."""
    if config.normalise == "none":
        return
    budget = config.memory.tokens
    offset, spread = normalisation(score_items(model, items, budget))
    model.set_normalisation(offset, spread if config.normalise == "standard" else 1.0)
    if model.bank is not None and model.bank.kind == ENSEMBLE:
        for member in range(len(model.bank.names)):
            offset, spread = normalisation(member_scores(model, items, member, budget))
            model.bank.offset[member] = offset
            model.bank.scale[member] = spread if config.normalise == "standard" else 1.0


def member_scores(model: RewardModel, items: Sequence[Judged], member: int, budget: int) -> Tensor:
    """[S] raw scores of one member of an ensemble of heads, in the order of `Layout(items)`."""
    bank = model.bank
    assert bank is not None
    return score_items(model, items, budget, lambda states: bank(states)[:, member])


def calibrate(model: RewardModel, held_out: Sequence[Judged], budget: int) -> float:
    """Divide scores by the temperature that explains the held-out pairs best; returns it.

    Raises:
        HeedfulError: nothing is held out, or no temperature is best.
    """
    if not held_out:
        raise HeedfulError("no pairs are held out.", where="calibrate", mend="Raise records.held_out.")
    layout = Layout(held_out)
    gap, probability = pair_gaps(layout, score_items(model, held_out, budget) / model.scale)
    try:
        temperature = fit_temperature(gap.numpy(), probability.numpy(), _pair_weights(held_out).numpy())
    except ValueError as error:
        raise HeedfulError(f"{error}.", where="calibrate", mend="Leave the setting out.") from error
    model.set_normalisation(model.offset, model.scale * temperature)
    if model.bank is not None and model.bank.kind == ENSEMBLE:
        model.bank.scale *= temperature
    return temperature


def score_range(model: RewardModel, items: Sequence[Judged], budget: int) -> tuple[float, float]:
    """The scores, as the model gives them, that one training answer in a hundred lies below, and one above.

    Of at most `RANGE_ITEMS` items, taken evenly.
    """
    chosen = items[:: -(-len(items) // RANGE_ITEMS)]
    scores = model.normalised(score_items(model, chosen, budget))
    low, high = torch.quantile(scores.float(), torch.tensor([0.01, 0.99], device=scores.device)).tolist()
    return low, high


def _pair_weights(items: Sequence[Judged]) -> Tensor:
    """[P]: an item's weight, shared by its pairs."""
    weights = [item.weight / len(item.pairs()) for item in items for _ in item.pairs()]
    return torch.tensor(weights)


def held_out_accuracy(
    model: RewardModel, items: Sequence[Judged], prompts: Sequence[Conversation], budget: int
) -> dict[str, Any]:
    """Accuracy on held-out pairs with its interval by prompt, beside what "the longer answer" would reach.

    Empty where fewer than two held-out prompts have a preferred answer.
    """
    names = [prompt_key(prompt) for prompt in prompts]
    decided = {name for name, item in zip(names, items, strict=True) if any(p != 0.5 for _, _, p in item.pairs())}
    if len(decided) < 2:
        return {}
    scores = score_items(model, items, budget) / model.scale
    layout = Layout(items)
    where = {place: index for index, place in enumerate(layout)}
    lengths = [len(example.tokens) for example in layout.examples()]
    rows = [
        (where[row, i], where[row, j], probability, names[row])
        for row, item in enumerate(items)
        for i, j, probability in item.pairs()
    ]
    found = reward_accuracy(
        [float(scores[i]) for i, _, _, _ in rows],
        [float(scores[j]) for _, j, _, _ in rows],
        [probability for _, _, probability, _ in rows],
        lengths_a=[lengths[i] for i, _, _, _ in rows],
        lengths_b=[lengths[j] for _, j, _, _ in rows],
        clusters=[name for _, _, _, name in rows],
    )
    return summary(found)


def summary(found: RewardAccuracy) -> dict[str, Any]:
    """An accuracy as plain JSON: intervals, length slices, and the data of the reliability diagram."""
    return {
        "accuracy": asdict(found.accuracy),
        "length_only": asdict(found.length_only),
        "chance": 0.5,
        "pairs": found.pairs,
        "ties": found.truth_ties,
        "slices": [asdict(part) for part in found.slices],
        "calibration": {**asdict(found.calibration), "ece": asdict(found.ece)},
    }


def say_accuracy(found: dict[str, Any]) -> str:
    """The held-out accuracy in one line."""
    ours, longer = found["accuracy"], found["length_only"]
    return (
        f"reward: {ours['mean']:.1%} right on {found['pairs']} held-out pairs "
        f"(95% interval {ours['low']:.1%} to {ours['high']:.1%}); the longer answer alone {longer['mean']:.1%}, "
        f"chance 50%"
    )
