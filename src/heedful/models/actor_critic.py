"""Policy and critic side by side: two models, or a value head on the policy's trunk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from heedful.models.adapters import underlying
from heedful.models.alignment import hidden_states, place, previous
from heedful.models.head_bank import float_linear
from heedful.models.policy import Policy
from heedful.models.scalar import Critic

VALUE_HEAD = "value_head.safetensors"


class SeparateActorCritic:
    """A policy and a critic that is a model of its own.

    Attributes:
        policy, critic: the two.
        value_module: what holds the critic's weights.
    """

    def __init__(self, policy: Policy, critic: Critic) -> None:
        self.policy = policy
        self.critic = critic

    @property
    def value_module(self) -> nn.Module:
        """The critic's model."""
        return self.critic.model

    def evaluate(
        self, tokens: Tensor, attention: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Log-probabilities and entropies of the masked tokens, and values of the prefixes before them.

        Args:
            tokens: [B, T] int64, padded on the right.
            attention: [B, T] bool, True at real tokens.
            mask: [B, T] bool, False in the first column.
            temperature: of the policy's distribution.

        Returns:
            three tensors [B, T] float32, zero outside the mask, differentiable.
        """
        logprobs, entropy = self.policy.token_logprobs(tokens, attention, mask, temperature=temperature)
        return logprobs, entropy, self.critic.token_values(tokens, attention, mask)

    def values(self, tokens: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """The values of `evaluate` alone: the policy does not run."""
        return self.critic.token_values(tokens, attention, mask)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that training changes, policy first."""
        yield from self.policy.trainable_parameters()
        yield from self.critic.trainable_parameters()

    def save_value(self, folder: Path) -> None:
        """Write the critic as a Hugging Face folder, as `Critic.save`."""
        self.critic.save(folder)


class SharedActorCritic:
    """A policy whose trunk also carries a value head: one forward pass gives both.

    The head starts at zero, so all first values are 0. Values are on the scale of normalised rewards.

    Attributes:
        policy: the policy, whose trunk the value loss trains too.
        value_module: the value head, a float32 linear layer.
    """

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        width = underlying(policy.model).config.get_text_config().hidden_size
        self.value_module: nn.Linear = nn.Linear(width, 1, device=policy.device)
        nn.init.zeros_(self.value_module.weight)
        nn.init.zeros_(self.value_module.bias)

    def evaluate(
        self, tokens: Tensor, attention: Tensor, mask: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """As `SeparateActorCritic.evaluate`, from one pass through the trunk."""
        with self.policy.autocast():
            hidden = hidden_states(self.policy.running(), tokens, attention)
            logprobs, entropy = self.policy.logprobs_from(hidden, tokens, mask, temperature=temperature)
        return logprobs, entropy, place(self.read(previous(hidden, mask)), mask)

    def values(self, tokens: Tensor, attention: Tensor, mask: Tensor) -> Tensor:
        """The values of `evaluate` alone: the language-model head does not run."""
        with self.policy.autocast():
            hidden = hidden_states(self.policy.running(), tokens, attention)
        return place(self.read(previous(hidden, mask)), mask)

    def read(self, states: Tensor) -> Tensor:
        """Values [N] float32 from the trunk's states [N, H], in float32 whatever computes the trunk."""
        return float_linear(states, self.value_module.weight, self.value_module.bias).squeeze(-1)

    def parameters(self) -> Iterator[nn.Parameter]:
        """The weights that training changes, policy first."""
        yield from self.policy.trainable_parameters()
        yield from self.value_module.parameters()

    def save_value(self, folder: Path) -> None:
        """Write the value head as safetensors."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {k: v.contiguous() for k, v in self.value_module.state_dict().items()}
        save_file(state, Path(folder) / VALUE_HEAD)
