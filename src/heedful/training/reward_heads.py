"""The heads that a reward model can be trained with, each named in this one place.

Whatever they are while training, the result has one linear head that plain transformers reads: `settle` writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from heedful.core.reward_losses import length_penalty, orthogonality_penalty
from heedful.errors import HeedfulError
from heedful.models.adapters import underlying
from heedful.models.head_bank import ENSEMBLE, HeadBank
from heedful.models.scalar import RewardModel
from heedful.training.config.reward import RewardConfig
from heedful.training.reward_data import Judged, Layout
from heedful.training.state import mix

PURPOSE = 31
"""Keeps the seeds of heads and of their bootstraps apart from those of other things."""


class Heads:
    """The model's own head alone.

    Attributes:
        weights: further heads, trained at the model's learning rate.
        learnt: further scalars, trained at that of the loss's.
        whole_batch: the penalty is one of the batch as a whole, not a sum over answers.
    """

    whole_batch = False

    def __init__(self, model: RewardModel) -> None:
        self.model = model
        self.weights = nn.Module()
        self.learnt = nn.Module()

    def read(self, states: Tensor) -> Tensor:
        """[S, outputs] float32 of states [S, H], differentiable."""
        return self.model.head(states)[:, None]

    def votes(self, outputs: Tensor) -> Tensor:
        """[S, V]: the scores that the loss is taken on, V times over."""
        return outputs

    def score(self, outputs: Tensor) -> Tensor:
        """[S]: what the result's own head will say."""
        return outputs[:, 0]

    def shares(self, item: int) -> list[float]:
        """How much the item of that number weighs in each of the V losses."""
        return [1.0]

    def penalty(self, outputs: Tensor, layout: Layout, rated: int) -> Tensor | None:
        """What is added to the loss; a part's share of it where the batch comes in parts, unless `whole_batch`.

        Args:
            rated: ratings in the whole batch.
        """
        return None

    def settle(self) -> None:
        """Write the one head of the result into the model."""

    def figures(self) -> dict[str, float]:
        """For logs and the manifest."""
        return {}


class LengthHeads(Heads):
    """ODIN: quality (the model's own head) and length, whose sum explains preferences; only quality stays."""

    whole_batch = True

    def __init__(self, model: RewardModel, config: RewardConfig, items: Sequence[Judged]) -> None:
        super().__init__(model)
        self.config = config.heads
        bank = HeadBank("length", ("length",), _width(model), seed=mix(config.start_seed, PURPOSE))
        self.weights = bank.to(model.device)

    def read(self, states: Tensor) -> Tensor:
        """[S, 2]: quality and length."""
        return torch.cat([self.model.head(states)[:, None], self.weights(states)], 1)

    def votes(self, outputs: Tensor) -> Tensor:
        """[S, 1]: their sum."""
        return outputs.sum(1, keepdim=True)

    def penalty(self, outputs: Tensor, layout: Layout, rated: int) -> Tensor:
        """Correlations with length over the batch, and the angle between the heads."""
        lengths = torch.tensor([float(sum(answer.mask)) for answer in layout.examples()], device=outputs.device)
        apart = length_penalty(outputs[:, 0], outputs[:, 1], lengths)
        angle = orthogonality_penalty(underlying(self.model.model).score.weight, self.weights.weight)  # type: ignore[arg-type]
        return self.config.length_coefficient * apart + self.config.orthogonality_coefficient * angle


class EnsembleHeads(Heads):
    """Members that share the trunk, each with first weights and a bootstrap of the data of its own."""

    def __init__(self, model: RewardModel, config: RewardConfig, items: Sequence[Judged]) -> None:
        super().__init__(model)
        names = [f"member {number}" for number in range(1, config.heads.members + 1)]
        self.bank = HeadBank(ENSEMBLE, names, _width(model), seed=mix(config.start_seed, PURPOSE)).to(model.device)
        self.weights = model.bank = self.bank
        random = np.random.default_rng([config.seed, PURPOSE])
        self.drawn = random.poisson(1.0, (len(items), config.heads.members)).tolist()
        underlying(model.model).score.requires_grad_(False)

    def read(self, states: Tensor) -> Tensor:
        """[S, members]."""
        return self.bank(states)

    def score(self, outputs: Tensor) -> Tensor:
        """[S]: the members' mean."""
        return outputs.mean(1)

    def shares(self, item: int) -> list[float]:
        """How often each member's bootstrap drew the item: Poisson with mean 1."""
        return self.drawn[item]

    def settle(self) -> None:
        """The mean of the members' weights."""
        _write(self.model, self.bank.weight.mean(0))


class AttributeHeads(Heads):
    """A head an attribute, fitted to its ratings; preferences teach the mixture of them that is the score.

    Preferences do not reach the attributes' heads or the trunk: a head goes on saying what raters said of its
    attribute (Wang et al. 2024, ArmoRM, section 3, whose mixture depends on the prompt; this one does not, so that the
    score is one linear head).
    """

    def __init__(self, model: RewardModel, config: RewardConfig, items: Sequence[Judged]) -> None:
        super().__init__(model)
        ratings = torch.tensor([row for item in items for row in item.ratings])
        names = config.heads.attributes
        self.bank = HeadBank("attributes", names, _width(model), seed=mix(config.start_seed, PURPOSE)).to(model.device)
        for column, name in enumerate(names):
            given = ratings[:, column][~ratings[:, column].isnan()]
            if len(given) < 2 or float(given.std()) == 0.0:
                raise HeedfulError(
                    f"the attribute {name!r} has {len(given)} ratings in the training rows, and all are alike.",
                    where="heads.attributes",
                    mend="Name attributes that are rated, and not always the same.",
                )
            self.bank.offset[column], self.bank.scale[column] = given.mean(), given.std()
        self.weights = model.bank = self.bank
        self.mixture = nn.Parameter(torch.full((len(names),), 1 / len(names)).to(model.device))
        self.learnt.register_parameter("mixture", self.mixture)
        underlying(model.model).score.requires_grad_(False)

    def read(self, states: Tensor) -> Tensor:
        """[S, attributes], standardised."""
        return self.bank(states)

    def votes(self, outputs: Tensor) -> Tensor:
        """[S, 1]: the mixture."""
        return (outputs.detach() @ self.mixture)[:, None]

    def score(self, outputs: Tensor) -> Tensor:
        """[S]: the mixture."""
        return outputs @ self.mixture

    def penalty(self, outputs: Tensor, layout: Layout, rated: int) -> Tensor:
        """The mean squared error of the standardised ratings."""
        rows = [layout.items[row].ratings[place] for row, place in layout]
        given = (torch.tensor(rows, device=outputs.device) - self.bank.offset) / self.bank.scale
        known = ~given.isnan()
        return (outputs - given)[known].square().sum() / max(1, rated)

    def settle(self) -> None:
        """The mixture of the attributes' weights."""
        _write(self.model, self.mixture @ self.bank.weight)

    def figures(self) -> dict[str, float]:
        """The mixture's weights, of standardised attributes."""
        found = zip(self.bank.names, self.mixture.detach().tolist(), strict=True)
        return {f"mixture_{name}": value for name, value in found}


def _width(model: RewardModel) -> int:
    return int(underlying(model.model).score.in_features)


@torch.no_grad()
def _write(model: RewardModel, weight: Tensor) -> None:
    underlying(model.model).score.weight.copy_(weight[None])


HEADS: dict[str, Callable[[RewardModel, RewardConfig, Sequence[Judged]], Heads]] = {
    "scalar": lambda model, config, items: Heads(model),
    "length": LengthHeads,
    "ensemble": EnsembleHeads,
    "attributes": AttributeHeads,
}
