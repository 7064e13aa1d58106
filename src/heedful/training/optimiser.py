"""AdamW with warm-up, a schedule, clipping and a guard against gradients that are not numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from heedful.training.config.common import OptimiserConfig
from heedful.training.host_copies import HostCopies
from heedful.training.workers import current, is_parted, like


class Diverged(Exception):  # noqa: N818  (an outcome of training, not a mistake in the program)
    """A loss or gradient that is not finite, or a loss past the guard; no checkpoint is written after it.

    Args:
        what: which figure, and its value.
        step: the step that it was seen after; 0 where it was seen before the step changed any weight.
    """

    def __init__(self, what: str, step: int = 0) -> None:
        super().__init__(what)
        self.step = step


def learning_rate(step: int, total: int, config: OptimiserConfig) -> float:
    """The rate of one step: linear warm-up, then constant, linear or cosine to `final_share` of the peak."""
    warmup = round(config.warmup * total)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    shape = 1.0 - progress if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * progress))
    return config.learning_rate * (config.final_share + (1.0 - config.final_share) * shape)


class Optimiser:
    """AdamW over the trainable weights of some modules.

    Args:
        modules: name -> module; a weight shared between them is trained once.
        config: rates and their schedule.
        total: steps of the whole run, which the schedule spans.
    """

    def __init__(self, modules: dict[str, nn.Module], config: OptimiserConfig, total: int) -> None:
        self.config = config
        self.total = total
        self.parameters: dict[str, nn.Parameter] = {}
        seen: set[int] = set()
        for name, module in modules.items():
            for key, parameter in module.named_parameters():
                if parameter.requires_grad and id(parameter) not in seen:
                    seen.add(id(parameter))
                    self.parameters[f"{name}.{key}"] = parameter
        groups: list[dict[str, Any]] = []
        for parted in (False, True):  # the fused step takes weights of one kind at a time
            own = [p for p in self.parameters.values() if is_parted(p) == parted]
            for decay, some in (
                (config.weight_decay, [p for p in own if p.ndim >= 2]),
                (0.0, [p for p in own if p.ndim < 2]),
            ):
                if some:
                    groups.append({"params": some, "weight_decay": decay})
        self.host = HostCopies(self.parameters.values()) if config.offload else None
        if self.host is not None:
            for group in groups:
                group["params"] = [self.host.of(weight) for weight in group["params"]]
        self.adam = torch.optim.AdamW(
            groups or [{"params": []}],
            lr=config.learning_rate,
            betas=(config.beta1, config.beta2),
            eps=config.epsilon,
            fused=True,
        )

    def step(self, index: int) -> float:
        """Take one step at the rate of step `index`, clear the gradients, and return their norm before clipping.

        Gradients are summed over the workers first.

        Raises:
            Diverged: the norm is not finite; the weights are as they were.
        """
        gradients, norm = self._gradients()
        if not math.isfinite(norm):
            self._clear()
            raise Diverged(f"the gradient norm is {norm}")
        if self.config.clip_norm > 0 and norm > self.config.clip_norm:
            _clip(gradients, self.config.clip_norm, norm)
        rate = learning_rate(index, self.total, self.config)
        for group in self.adam.param_groups:
            group["lr"] = rate
        if self.host is None:
            self.adam.step()
            torch.autograd.graph.increment_version(list(self.parameters.values()))  # the fused step does not tell
        else:
            self.host.take()
            self.adam.step()
            self.host.give()
        self._clear()
        return norm

    def rest(self) -> float:
        """Clear the gradients and return their norm; weights and moments stay as they are."""
        _, norm = self._gradients()
        self._clear()
        return norm

    def _clear(self) -> None:
        for parameter in self.parameters.values():
            parameter.grad = None

    def _gradients(self) -> tuple[list[Tensor], float]:
        """The gradients, summed over the workers, and their norm."""
        team = current()
        team.sum_gradients(self.parameters.values())
        gradients = [p.grad for p in self.parameters.values() if p.grad is not None]
        if not any(map(is_parted, gradients)):
            return gradients, float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0
        parts: Any = [g for g in gradients if is_parted(g)]
        squares = [float(torch.nn.utils.get_total_norm([g.to_local() for g in parts])) ** 2]
        whole = [g for g in gradients if not is_parted(g)]
        rest = float(torch.nn.utils.get_total_norm(whole)) ** 2 if whole else 0.0
        return gradients, math.sqrt(sum(sum(one) for one in team.gathered(squares)) + rest)

    def _stepped(self, parameter: nn.Parameter) -> nn.Parameter:
        """What AdamW steps: the weight, or its copy."""
        return parameter if self.host is None else self.host.of(parameter)

    def tensors(self) -> Iterable[tuple[str, Tensor]]:
        """Name and tensor of everything that AdamW remembers."""
        for name, parameter in self.parameters.items():
            for key, value in self.adam.state.get(self._stepped(parameter), {}).items():
                yield f"{name}:{key}", value

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Put back what `tensors` gave."""
        found: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            name, what = key.rsplit(":", 1)
            found.setdefault(name, {})[what] = value
        for name, state in found.items():
            parameter = self._stepped(self.parameters[name])
            self.adam.state[parameter] = {
                what: like(parameter, value) if value.ndim else value.to(parameter.device)
                for what, value in state.items()
            }


def _clip(gradients: list[Tensor], longest: float, norm: float) -> None:
    """Shorten gradients of a norm to `longest`: of parted ones, the part that is here."""
    own: list[Any] = [g.to_local() if is_parted(g) else g for g in gradients]  # type: ignore[attr-defined]
    torch._foreach_mul_(own, torch.clamp(longest / (torch.tensor(norm, device=own[0].device) + 1e-6), max=1.0))
